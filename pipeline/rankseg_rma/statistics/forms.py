"""Means of a cohort's scores in the forms I, C and D, and of its worst cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg_rma.metrics.semantic import (
    METRICS,
    SemanticCounts,
    class_values,
    defined_mean,
    divide,
    image_means,
    split_defined,
    sum_by_owner,
    values_of_counts,
)

# Worst cases: the mean over the 5 % lowest values, and the mean of those of 10 %, 20 % to 100 %.
WORST_PERCENT = 5
WORST_PERCENTS = tuple(range(10, 101, 10))


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


def case_means(values: Any, owner: Any) -> Any:
    """Mean over the images of each case.

    Args:
        values: (image,) or (image, class), NaN where there is none.
        owner: (image,) number of the image's case, 0 to the number of cases minus 1.
    Returns:
        (case,) or (case, class) float64; NaN where no image of the case has a value.
    """
    values, defined = split_defined(values)
    return divide(sum_by_owner(values, owner), sum_by_owner(defined, owner))


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
    return defined_mean(weighted_means(table.classes, weights), axis=1)


def form_d(table: CaseTable, weights: Any) -> Any:
    """Value of each class from the pooled voxels, mean over the classes in the pooled maps; as `form_i`."""
    return defined_mean(_pooled(table, weights), axis=1)


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
    # Sorted once for all rows; a row only says how often each case counts.
    order = order[np.argsort(values[order], kind="stable")]
    drawn = weights[:, order].astype(np.int64)
    reached = np.cumsum(drawn, axis=1)
    total = drawn.sum(axis=1)
    # In whole numbers: 0.29 * 100 is below 29.
    kept = np.maximum(percent * total // 100, 1)[:, None]
    taken = np.clip(kept - (reached - drawn), 0, drawn)
    return divide((taken * values[order]).sum(axis=1), np.minimum(kept[:, 0], total))


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
    # From the counts of either table: they are the same voxels.
    found["pixel_accuracy"] = divide(_weigh(weights, counts.tp.sum(axis=1)), _weigh(weights, counts.num_voxels))
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


def weighted_means(values: Any, weights: Any) -> Any:
    """Means over the cases with a value.

    Args:
        values: (case,) or (case, class), NaN where there is none.
        weights: (row, case) as for `form_i`.
    Returns:
        (row,) or (row, class) float64, NaN where no case with a value is drawn.
    """
    values, defined = split_defined(values)
    return divide(_weigh(weights, values), _weigh(weights, defined))


def _pooled(table: CaseTable, weights: Any) -> Any:
    """(row, class) values of the pooled voxels."""
    counts = table.counts
    tp, fp, fn = (_weigh(weights, part) for part in (counts.tp, counts.fp, counts.fn))
    return values_of_counts(tp, fp, fn, table.metric, table.rule, pooled=True)


def _weigh(weights: Any, values: Any) -> Any:
    """Weighted sums over cases, (row,) or (row, class). Of whole numbers they are exact below 2**53, in any order."""
    return np.asarray(weights, np.float64) @ np.asarray(values, np.float64)
