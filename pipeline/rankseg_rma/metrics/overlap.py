"""Counts of agreement between a prediction and a reference, from which overlap scores are derived."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.compiling import kernel
from rankseg_rma.metrics.masks import as_label_map

# Most labels, and most entries of the table of pairs before label maps with high values are renumbered.
_MOST_LABELS, _LARGEST_TABLE = 1024, 1_000_000


@dataclass(frozen=True)
class Overlap:
    """Voxels of one label or region: true positives, false positives, false negatives."""

    tp: int
    fp: int
    fn: int

    @property
    def num_reference(self) -> int:
        return self.tp + self.fn

    @property
    def num_prediction(self) -> int:
        return self.tp + self.fp

    @property
    def status(self) -> str:
        """Which of the masks is empty: "ok", "both_empty", "reference_empty" or "prediction_empty".

        Example:
            >>> Overlap(0, 3, 0).status
            'reference_empty'
        """
        if self.num_reference and self.num_prediction:
            return "ok"
        if not self.num_reference and not self.num_prediction:
            return "both_empty"
        return "prediction_empty" if self.num_reference else "reference_empty"

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


@dataclass(frozen=True)
class LabelPairs:
    """How often each pair of labels meets, per unit (the volume, or every slice).

    Attributes:
        values: labels of the table's rows and columns, ascending; 0 is the first.
        tables: (unit, label, label) int64, reference first, prediction second.
    """

    values: tuple[int, ...]
    tables: Any

    @property
    def present(self) -> tuple[int, ...]:
        """Foreground labels that occur in either map."""
        total = self.tables.sum(axis=0)
        seen = total.sum(axis=0) + total.sum(axis=1)
        return tuple(value for value, count in zip(self.values, seen, strict=True) if value and count)

    def overlaps(self, members: Collection[int]) -> list[Overlap]:
        """Counts per unit of the union of some labels."""
        inside = np.isin(self.values, list(members))
        by_prediction = self.tables[:, :, inside].sum(axis=2)
        tp = by_prediction[:, inside].sum(axis=1)
        predicted, reference = by_prediction.sum(axis=1), self.tables[:, inside].sum(axis=(1, 2))
        return [Overlap(int(t), int(p - t), int(r - t)) for t, p, r in zip(tp, predicted, reference, strict=True)]


def count_pairs(prediction: Any, reference: Any, axis: int | None = None) -> LabelPairs:
    """Count all pairs of labels in one pass; every overlap score of every label and region follows from them.

    Args:
        prediction: (*spatial) non-negative integers.
        reference: same shape, non-negative integers.
        axis: count every slice along this axis by itself; None counts the whole.
    Raises:
        ValueError: shapes differ, values are negative or no whole numbers, or there are over 1024 labels.
    Example:
        >>> count_pairs([[0, 1, 2]], [[1, 1, 2]]).overlaps([1])
        [Overlap(tp=1, fp=0, fn=1)]
    """
    prediction, reference = as_label_map("prediction", prediction), as_label_map("reference", reference)
    if prediction.shape != reference.shape:
        raise ValueError(
            wrong("count_pairs", "prediction", f"of the reference's shape {reference.shape}", prediction.shape)
        )
    axis = None if axis is None else range(prediction.ndim)[axis]
    highest = max(int(prediction.max(initial=0)), int(reference.max(initial=0)))
    values = np.arange(highest + 1)
    num_units = 1 if axis is None else prediction.shape[axis]
    if highest > 1 and num_units * (highest + 1) ** 2 > _LARGEST_TABLE:
        values, prediction, reference = _renumber(prediction, reference)
    if prediction.flags.f_contiguous and reference.flags.f_contiguous:  # as NIfTI is read: no copy is needed
        prediction, reference = prediction.T, reference.T
        axis = None if axis is None else prediction.ndim - 1 - axis
    shape = prediction.shape
    units = (1, 1, -1) if axis is None else (int(np.prod(shape[:axis])), shape[axis], int(np.prod(shape[axis + 1 :])))
    if not prediction.size:
        units = (0, units[1], 0)
    tables = np.zeros((units[1], len(values), len(values)), np.int64)
    _tally(np.ascontiguousarray(prediction).reshape(units), np.ascontiguousarray(reference).reshape(units), tables)
    return LabelPairs(tuple(values.tolist()), tables)


@kernel()
def _tally(prediction, reference, tables):  # type: ignore[no-untyped-def]
    outer, units, inner = prediction.shape
    for i in range(outer):
        for unit in range(units):
            table = tables[unit]
            for j in range(inner):
                table[reference[i, unit, j], prediction[i, unit, j]] += 1


def _renumber(prediction: Any, reference: Any) -> tuple[Any, Any, Any]:
    """Labels that occur (and 0), and both maps as positions among them."""
    seen = np.zeros(65536, bool)
    seen[0] = True
    seen[prediction.ravel(order="K")] = True
    seen[reference.ravel(order="K")] = True
    # A table of flags and not `np.unique`, which sorts every voxel.
    values = np.flatnonzero(seen)
    if len(values) > _MOST_LABELS:
        raise ValueError(wrong("count_pairs", "label maps", f"of at most {_MOST_LABELS} labels", len(values)))
    place = np.zeros(65536, np.uint16)
    place[values] = np.arange(len(values))
    return values, place[prediction], place[reference]


def fraction_of(metric: str, tp: Any, fp: Any, fn: Any) -> tuple[Any, Any]:
    """Numerator and denominator of Dice or IoU; the denominator is 0 where both masks are empty.

    What counts then is for the caller to say, since evaluations differ in it.

    Args:
        metric: "dice", 2 |A and B| / (|A| + |B|), or "iou", |A and B| / |A or B|.
        tp: true positives, a whole number or an array.
        fp: false positives, likewise.
        fn: false negatives, likewise.
    """
    union = tp + fp + fn
    return (2 * tp, union + tp) if metric == "dice" else (tp, union)


def dice_of(counts: Overlap) -> float:
    """Dice of one pair of masks; NaN when both are empty.

    Example:
        >>> dice_of(Overlap(tp=2, fp=1, fn=1)), dice_of(Overlap(0, 5, 0))
        (0.6666666666666666, 0.0)
    """
    return _quotient(*fraction_of("dice", counts.tp, counts.fp, counts.fn))


def iou_of(counts: Overlap) -> float:
    """Intersection over union of one pair of masks; NaN when both are empty."""
    return _quotient(*fraction_of("iou", counts.tp, counts.fp, counts.fn))


def _quotient(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else nan


def count_overlap(prediction: Any, reference: Any, labels: Sequence[int]) -> list[Overlap]:
    """Count agreement per label; arguments and errors as `count_pairs`.

    Returns:
        One `Overlap` per label, in the order asked for.
    """
    pairs = count_pairs(prediction, reference)
    return [pairs.overlaps([label])[0] for label in labels]
