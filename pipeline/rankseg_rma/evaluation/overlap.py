"""Counts of agreement between a prediction and a reference, from which overlap scores are derived."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong


@dataclass(frozen=True)
class Overlap:
    """Voxels of one label: true positives, false positives, false negatives."""

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


def count_overlap(prediction: Any, reference: Any, labels: Sequence[int]) -> list[Overlap]:
    """Count agreement per label in one pass.

    Args:
        prediction: (*spatial) non-negative integers.
        reference: same shape, non-negative integers.
        labels: labels to count, in this order.
    Returns:
        One `Overlap` per label. Voxels of labels that are not listed count as none of the listed ones.
    Raises:
        ValueError: shapes differ, or values are negative or no whole numbers.
    """
    return [parts[0] for parts in _count(prediction, reference, labels, axis=None)]


def count_overlap_by_slice(prediction: Any, reference: Any, labels: Sequence[int], axis: int) -> list[list[Overlap]]:
    """As `count_overlap`, for every slice along ``axis``: one list over slices per label."""
    return _count(prediction, reference, labels, axis)


def _count(prediction: Any, reference: Any, labels: Sequence[int], axis: int | None) -> list[list[Overlap]]:
    prediction, reference = as_label_map("prediction", prediction), as_label_map("reference", reference)
    if prediction.shape != reference.shape:
        raise ValueError(
            wrong("count_overlap", "prediction", f"of the reference's shape {reference.shape}", prediction.shape)
        )
    # Position of each value in the table: 0 for what is not listed, then the labels in order.
    highest = max([0, *labels, int(prediction.max(initial=0)), int(reference.max(initial=0))])
    place = np.zeros(highest + 1, np.int64)
    place[list(labels)] = np.arange(1, len(labels) + 1)
    size = len(labels) + 1
    pairs = place[reference] * size + place[prediction]
    units = [pairs] if axis is None else list(np.moveaxis(pairs, axis, 0))
    tables = [np.bincount(unit.ravel(), minlength=size * size).reshape(size, size) for unit in units]
    return [
        [
            Overlap(tp=int(table[k, k]), fp=int(table[:, k].sum() - table[k, k]), fn=int(table[k].sum() - table[k, k]))
            for table in tables
        ]
        for k in range(1, size)
    ]


def as_label_map(argument: str, array: Any) -> Any:
    """The array as integers: bool, integer, or float that holds whole numbers.

    Raises:
        ValueError: fractions, NaN, infinities, negative or huge values, or another dtype.
    """
    array, expected = np.asarray(array), "a label map of whole numbers from 0 to 65535"
    if array.dtype.kind not in "buif":
        raise ValueError(wrong("as_label_map", argument, expected, str(array.dtype)))
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if not (low >= 0 and high <= 65535):  # also when NaN
        raise ValueError(wrong("as_label_map", argument, expected, f"values from {low:g} to {high:g}"))
    if array.dtype.kind == "f":
        whole = array.astype(np.uint16)
        if not np.array_equal(whole, array):
            raise ValueError(wrong("as_label_map", argument, expected, "fractions"))
        return whole
    return array.astype(np.uint8) if array.dtype.kind == "b" else array
