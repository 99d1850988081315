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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.evaluation.overlap import as_label_map

METRICS = ("iou", "dice")
RULES = ("present", "binary", "foreground")
FORMS = ("i", "c", "d")
# Worst cases: the mean over the 5 % lowest values, and the mean of those of 10 %, 20 % to 100 %.
WORST_PERCENT = 5
WORST_PERCENTS = tuple(range(10, 101, 10))
# Resamples times cases that are held at once.
_PIECE = 2**20


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
        return _divide(self.tp.sum(axis=1), self.num_voxels)

    def pool(self, owner: Any) -> "SemanticCounts":
        """Counts of each case: the sums over its images; ``owner`` is (image,), the number of the case."""
        return SemanticCounts(*(_sum_by(part, owner) for part in (self.tp, self.fp, self.fn, self.num_void)))


@dataclass(frozen=True)
class CaseTable:
    """What the three forms of a metric are computed from, per case.

    Attributes:
        mean: (case,) mean over the images of the case of their means over classes; NaN where no image has one.
        classes: (case, class) mean over the images of the case that count the class; NaN where none does.
        counts: voxels of the case.
        metric, rule: as for `class_values`.
    """

    mean: Any
    classes: Any
    counts: SemanticCounts
    metric: str
    rule: str


@dataclass(frozen=True)
class Left:
    """What the means are over, and what they leave out.

    Attributes:
        num_images, images: images with a value, and without: nothing annotated, or no class that counts.
        num_cases, cases: cases with a value, and without.
        num_void_only: images without an annotated voxel.
        num_classes_c, classes_c: classes that form C averages, and does not: no image counts them.
        num_classes_d, classes_d: the same of form D: in neither map of any image.
    """

    num_images: int
    images: int
    num_cases: int
    cases: int
    num_void_only: int
    num_classes_c: int
    classes_c: int
    num_classes_d: int
    classes_d: int


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
    return _values(counts.tp, counts.fp, counts.fn, metric, rule, pooled=False)


def image_means(values: Any) -> Any:
    """(image,) mean over the classes that count, from (image, class) values; NaN where none does."""
    return _mean(values, axis=1)


def case_means(values: Any, owner: Any) -> Any:
    """Mean over the images of each case.

    Args:
        values: (image,) or (image, class), NaN where there is none.
        owner: (image,) number of the image's case, 0 to the number of cases minus 1.
    Returns:
        (case,) or (case, class) float64; NaN where no image of the case has a value.
    """
    values, defined = _split(values)
    return _divide(_sum_by(values, owner), _sum_by(defined, owner))


def gather_cases(counts: SemanticCounts, owner: Any, metric: str, rule: str) -> CaseTable:
    """Average the images of each case; arguments as for `class_values` and `case_means`."""
    values = class_values(counts, metric, rule)
    return CaseTable(
        case_means(image_means(values), owner), case_means(values, owner), counts.pool(owner), metric, rule
    )


def form_i(table: CaseTable, weights: Any) -> Any:
    """Mean over the classes of an image, then over images (of a case, then over cases).

    Args:
        table: values of the cases.
        weights: (row, case) how often each row has each case; rows of ones are the data set itself.
    Returns:
        (row,) float64, NaN where no case with a value is drawn.
    """
    return weighted_means(table.mean, weights)


def form_c(table: CaseTable, weights: Any) -> Any:
    """Mean over the images that count a class, then over the classes that at least one image counts; as `form_i`."""
    return _mean(weighted_means(table.classes, weights), axis=1)


def form_d(table: CaseTable, weights: Any) -> Any:
    """Value of each class from the pooled voxels, mean over the classes in the pooled maps; as `form_i`."""
    return _mean(_pooled(table, weights), axis=1)


def worst_means(values: Any, weights: Any, percent: int) -> Any:
    """Mean over the lowest values: ``percent`` of them, rounded down, at least one.

    Args:
        values: (case,) float64; NaN is left out and does not count among them.
        weights: (row, case) whole numbers, as for `form_i`.
        percent: whole number from 1 to 100.
    Returns:
        (row,) float64, NaN where no case with a value is drawn.
    Example:
        >>> worst_means(np.array([0.9, 0.2, np.nan, 0.4]), np.ones((1, 4), int), 70).round(6).tolist()
        [0.3]
    """
    order = np.flatnonzero(np.isfinite(values))
    order = order[np.argsort(values[order], kind="stable")]
    drawn = weights[:, order].astype(np.int64)
    reached = np.cumsum(drawn, axis=1)
    total = drawn.sum(axis=1)
    # In whole numbers: 0.29 * 100 is below 29.
    kept = np.maximum(percent * total // 100, 1)[:, None]
    taken = np.clip(kept - (reached - drawn), 0, drawn)
    return _divide((taken * values[order]).sum(axis=1), np.minimum(kept[:, 0], total))


def score_cases(tables: Sequence[CaseTable], weights: Any) -> dict[str, Any]:
    """Every score of a decoder for rows of cases.

    Args:
        tables: the tables of "iou" and of "dice" of the same cases.
        weights: (row, case) whole numbers, as for `form_i`.
    Returns:
        (row,) float64 by name: miou_i, miou_c, miou_d, miou_worst5, miou_worst_mean, the same of mdice, and
        pixel_accuracy of the pooled voxels.
    """
    found: dict[str, Any] = {}
    for table in tables:
        name = f"m{table.metric}"
        found |= {f"{name}_i": form_i(table, weights), f"{name}_c": form_c(table, weights)}
        found |= {f"{name}_d": form_d(table, weights)}
        found[f"{name}_worst5"] = worst_means(table.mean, weights, WORST_PERCENT)
        parts = [worst_means(table.mean, weights, percent) for percent in WORST_PERCENTS]
        found[f"{name}_worst_mean"] = np.mean(parts, axis=0)
    counts = tables[0].counts
    found["pixel_accuracy"] = _divide(_weigh(weights, counts.tp.sum(axis=1)), _weigh(weights, counts.num_voxels))
    return found


def left_out(counts: SemanticCounts, owner: Any, rule: str) -> Left:
    """How many images, cases and classes the means are over, and how many they leave out."""
    table = gather_cases(counts, owner, METRICS[0], rule)
    values = image_means(class_values(counts, METRICS[0], rule))
    in_c = int(np.isfinite(table.classes).any(axis=0).sum())
    in_d = int(np.isfinite(_pooled(table, np.ones((1, len(table.mean)), np.int64))).sum())
    num_classes = counts.tp.shape[1] - (rule != "present")
    defined, cases = int(np.isfinite(values).sum()), int(np.isfinite(table.mean).sum())
    return Left(
        defined, len(values) - defined, cases, len(table.mean) - cases, int((counts.num_voxels == 0).sum()),
        in_c, num_classes - in_c, in_d, num_classes - in_d,
    )  # fmt: skip


def draw_weights(cluster: Any, num_resamples: int, seed: int) -> Iterator[Any]:
    """Draw whole clusters with replacement, a few resamples at a time.

    Args:
        cluster: (case,) number of the cluster (patient) of each case, 0 to the number of clusters minus 1.
        num_resamples: number of resamples in all.
        seed: seed of `numpy.random.default_rng`; the draws do not depend on the size of the pieces.
    Yields:
        (resample, case) int64: how often each case is drawn. The same draws as `compare_pairs` takes.
    """
    generator, num_clusters = np.random.default_rng(seed), int(cluster.max()) + 1
    step = max(1, _PIECE // len(cluster))
    for first in range(0, num_resamples, step):
        rows = min(step, num_resamples - first)
        drawn = generator.integers(num_clusters, size=(rows, num_clusters))
        drawn += num_clusters * np.arange(rows)[:, None]
        counted = np.bincount(drawn.ravel(), minlength=rows * num_clusters).reshape(rows, num_clusters)
        yield counted[:, cluster]


def join_rows(pieces: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """One array per name from pieces of rows."""
    listed = list(pieces)
    return {name: np.concatenate([piece[name] for piece in listed]) for name in listed[0]}


def weighted_means(values: Any, weights: Any) -> Any:
    """Means over the cases with a value.

    Args:
        values: (case,) or (case, class), NaN where there is none.
        weights: (row, case) as for `form_i`.
    Returns:
        (row,) or (row, class) float64, NaN where no case with a value is drawn.
    """
    values, defined = _split(values)
    return _divide(_weigh(weights, values), _weigh(weights, defined))


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


def _values(tp: Any, fp: Any, fn: Any, metric: str, rule: str, pooled: bool) -> Any:
    """(row, class) values, NaN where a class does not count; pooled maps count every class that is in either."""
    require_one_of("class_values", "metric", metric, METRICS)
    require_one_of("class_values", "rule", rule, RULES)
    if rule == "binary" and tp.shape[1] != 2:
        raise ValueError(wrong("class_values", "rule", "'foreground' unless there are two classes", repr(rule)))
    either = tp + fp + fn
    values = _divide(tp, either) if metric == "iou" else _divide(2 * tp, either + tp)
    if rule == "binary":
        values = np.where((either == 0) & ((tp + fn).sum(axis=1, keepdims=True) > 0), 1.0, values)
    elif not pooled:
        values = np.where(tp + fn > 0, values, np.nan)
    if rule != "present":
        values[:, 0] = np.nan
    return values


def _pooled(table: CaseTable, weights: Any) -> Any:
    """(row, class) values of the pooled voxels."""
    counts = table.counts
    tp, fp, fn = (_weigh(weights, part) for part in (counts.tp, counts.fp, counts.fn))
    return _values(tp, fp, fn, table.metric, table.rule, pooled=True)


def _weigh(weights: Any, values: Any) -> Any:
    """Weighted sums over cases, (row,) or (row, class). Of whole numbers they are exact below 2**53, in any order."""
    return np.asarray(weights, np.float64) @ np.asarray(values, np.float64)


def _sum_by(values: Any, owner: Any) -> Any:
    """Sums over the rows of each owner, in the order of the rows."""
    total = np.zeros((int(np.max(owner)) + 1, *values.shape[1:]), values.dtype)
    np.add.at(total, owner, values)
    return total


def _split(values: Any) -> tuple[Any, Any]:
    """Values with 0 in place of NaN, and 1 where there is one."""
    defined = np.isfinite(values)
    return np.where(defined, values, 0.0), defined.astype(np.int64)


def _mean(values: Any, axis: int) -> Any:
    values, defined = _split(values)
    return _divide(values.sum(axis=axis), defined.sum(axis=axis))


def _divide(numerator: Any, denominator: Any) -> Any:
    """Quotient in float64, NaN where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=np.asarray(denominator) > 0
    )
