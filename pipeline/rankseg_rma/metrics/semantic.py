"""Mean IoU and mean Dice in their three forms, of label maps with voxels that nobody annotated.

A form says what is averaged first. I: over the classes of an image, then over images. C: over the images that have a
class, then over classes. D: nothing; the voxels of the data set are pooled, then classes are averaged. Slices of a case
are averaged before cases are.

Which classes count is the rule. "present" (natural images): every class that the image's reference has, class 0 too;
a class that is only predicted costs the classes whose voxels it took. "binary" (one foreground class): class 1 alone,
1 where it is in neither map. "foreground" (several): as "present", for classes from 1 on.

An image without an annotated voxel has no value: NaN, left out of every mean. `Left` counts what is left out.

Source:
    Wang et al. 2023, Revisiting Evaluation Metrics for Semantic Segmentation, arXiv 2310.19252.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.metrics.masks import as_label_map
from rankseg_rma.metrics.overlap import fraction_of

METRICS = ("iou", "dice")
RULES = ("present", "binary", "foreground")


@dataclass(frozen=True)
class SemanticCounts:
    """Voxels per image and class; those without annotation count nowhere but in ``num_void``.

    Attributes:
        tp, fp, fn: (image, class) int64.
        num_void: (image,) int64.
    """

    tp: Any
    fp: Any
    fn: Any
    num_void: Any

    @property
    def num_voxels(self) -> Any:
        """(image,) annotated voxels."""
        return (self.tp + self.fn).sum(axis=1)

    def pixel_accuracy(self) -> Any:
        """(image,) share of the annotated voxels whose class is right; NaN without one."""
        return divide(self.tp.sum(axis=1), self.num_voxels)

    def pool(self, owner: Any) -> "SemanticCounts":
        """Counts of each case: the sums over its images; ``owner`` is (image,), the number of the case."""
        return SemanticCounts(*(sum_by_owner(part, owner) for part in (self.tp, self.fp, self.fn, self.num_void)))


def count_images(
    prediction: Any, reference: Any, num_classes: int, *, void: int | None = None, case_id: str | None = None
) -> SemanticCounts:
    """Count the voxels of one or more images.

    Args:
        prediction: (image, *spatial) classes from 0 on.
        reference: same shape, classes or ``void``.
        num_classes: number of classes.
        void: value of the reference where nothing is annotated; None: there is no such value.
        case_id: named in errors.
    Raises:
        ValueError: shapes differ, or a value is no class.
    Example:
        >>> counts = count_images([[0, 1, 1, 0]], [[0, 1, 0, 255]], 2, void=255)
        >>> counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist(), counts.num_void.tolist()
        ([[1, 1]], [[0, 1]], [[1, 0]], [1])
    """
    prediction, reference = as_label_map("prediction", prediction), as_label_map("reference", reference)
    if prediction.shape != reference.shape or prediction.ndim < 2:
        expected = f"(image, *spatial) of the reference's shape {reference.shape}"
        raise ValueError(wrong("count_images", "prediction", expected, prediction.shape, case_id=case_id))
    rows = [_count(one, other, num_classes, void, case_id) for one, other in zip(prediction, reference, strict=True)]
    tables = np.array([row[:3] for row in rows], np.int64).reshape(len(rows), 3, num_classes)
    tp, predicted, true = tables.transpose(1, 0, 2)
    return SemanticCounts(tp, predicted - tp, true - tp, np.array([row[3] for row in rows], np.int64))


def stack_counts(parts: Sequence[SemanticCounts]) -> SemanticCounts:
    """Counts of several images or groups of images, one after the other."""
    names = ("tp", "fp", "fn", "num_void")
    return SemanticCounts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def class_values(counts: SemanticCounts, metric: str, rule: str) -> Any:
    """IoU or Dice per image and class.

    Args:
        counts: voxels per image and class.
        metric: "iou" or "dice".
        rule: which classes count: "present", "binary" or "foreground"; see the module.
    Returns:
        (image, class) float64, NaN where a class does not count.
    Raises:
        ValueError: another metric or rule, or "binary" for other than two classes.
    Example:
        >>> counts = count_images([[0, 0, 2, 2]], [[0, 0, 0, 1]], 3)
        >>> class_values(counts, "iou", "present").round(3).tolist()  # class 2 is predicted but absent
        [[0.667, 0.0, nan]]
        >>> class_values(counts, "iou", "foreground").tolist()
        [[nan, 0.0, nan]]
    """
    return values_of_counts(counts.tp, counts.fp, counts.fn, metric, rule, pooled=False)


def image_means(values: Any) -> Any:
    """(image,) mean over the classes that count, from (image, class) values; NaN where none does."""
    return defined_mean(values, axis=1)


def _count(
    prediction: Any, reference: Any, num_classes: int, void: int | None, case_id: str | None
) -> tuple[Any, Any, Any, int]:
    """True positives, predicted and true voxels per class, and voxels without annotation, of one image."""
    prediction, reference = prediction.ravel(), reference.ravel()
    annotated = np.ones(reference.shape, bool) if void is None else reference != void
    prediction, true = prediction[annotated], reference[annotated]
    for argument, labels in (("prediction", prediction), ("reference", true)):
        if labels.size and labels.max() >= num_classes:
            expected = f"classes from 0 to {num_classes - 1}" + ("" if void is None else f" or {void}")
            raise ValueError(wrong("count_images", argument, expected, int(labels.max()), case_id=case_id))
    tables = [np.bincount(part, minlength=num_classes) for part in (true[true == prediction], prediction, true)]
    return tables[0], tables[1], tables[2], int(reference.size - true.size)


def values_of_counts(tp: Any, fp: Any, fn: Any, metric: str, rule: str, pooled: bool) -> Any:
    """(row, class) values, NaN where a class does not count; pooled maps count every class that is in either."""
    require_one_of("class_values", "metric", metric, METRICS)
    require_one_of("class_values", "rule", rule, RULES)
    if rule == "binary" and tp.shape[1] != 2:
        raise ValueError(wrong("class_values", "rule", "'foreground' unless there are two classes", repr(rule)))
    values = divide(*fraction_of(metric, tp, fp, fn))
    if rule == "binary":
        values = np.where((tp + fp + fn == 0) & ((tp + fn).sum(axis=1, keepdims=True) > 0), 1.0, values)
    elif not pooled:
        values = np.where(tp + fn > 0, values, np.nan)
    if rule != "present":
        values[:, 0] = np.nan
    return values


def sum_by_owner(values: Any, owner: Any) -> Any:
    """Sums over the rows of each owner, in the order of the rows."""
    # `np.add.at` adds in the order of the rows, one by one, so that the sums do not hang on how rows are grouped.
    total = np.zeros((int(np.max(owner)) + 1, *values.shape[1:]), values.dtype)
    np.add.at(total, owner, values)
    return total


def split_defined(values: Any) -> tuple[Any, Any]:
    """Values with 0 in place of NaN, and 1 where there is one."""
    # Zeros in place of NaN: a weight of 0 must take a value out of a product, and 0 * NaN is NaN.
    defined = np.isfinite(values)
    return np.where(defined, values, 0.0), defined.astype(np.int64)


def defined_mean(values: Any, axis: int) -> Any:
    values, defined = split_defined(values)
    return divide(values.sum(axis=axis), defined.sum(axis=axis))


def divide(numerator: Any, denominator: Any) -> Any:
    """Quotient in float64, NaN where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=np.asarray(denominator) > 0
    )
