"""The plain alternative to RMA: one probability threshold per label, tuned for mean Dice on validation cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong

# Candidate thresholds are the hundredths between 0 and 1.
_STEPS = 100


@dataclass(frozen=True)
class ThresholdCounts:
    """Voxels above every candidate threshold in one case, per unit (the volume, or every slice).

    Attributes:
        predicted: (unit, label, threshold) voxels with p > threshold, thresholds 0.01 to 0.99.
        true: (unit, label, threshold) those of them that have the label.
        reference: (unit, label) voxels with the label.
        by_slice: units are slices.
    """

    predicted: Any
    true: Any
    reference: Any
    by_slice: bool

    def scores(self, metric: str) -> Any:
        """(label, threshold) score of the case; slices are averaged where the reference has the label, else NaN.

        Args:
            metric: "dice" or "iou"; both masks empty 1, one empty 0.
        """
        reference = self.reference[:, :, None]
        union = self.predicted + reference - self.true
        size, hit = (self.predicted + reference, 2 * self.true) if metric == "dice" else (union, self.true)
        units = np.where(size > 0, hit / np.maximum(size, 1), 1.0)
        if not self.by_slice:
            return units[0]
        present = reference > 0
        count = present.sum(axis=0)
        return np.where(count > 0, np.where(present, units, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def count_thresholds(probs: Any, reference: Any, axis: int | None = None) -> ThresholdCounts:
    """Count what every threshold would select, for every foreground label.

    Args:
        probs: (class, *spatial) probabilities; a single class is the foreground.
        reference: (*spatial) integers.
        axis: count every slice along this axis of the space; None counts the whole.
    Raises:
        ValueError: shapes differ.
    """
    probs, reference = np.asarray(probs), np.asarray(reference)
    if probs.shape[1:] != reference.shape:
        raise ValueError(wrong("count_thresholds", "reference", f"of shape {probs.shape[1:]}", reference.shape))
    labels = [label for label, _ in _foreground(probs)]
    num_units = 1 if axis is None else reference.shape[axis]
    predicted, true = np.zeros((2, num_units, len(labels), _STEPS - 1), np.int64)
    total = np.zeros((num_units, len(labels)), np.int64)
    for unit in range(num_units):
        part = reference if axis is None else np.take(reference, unit, axis)
        for place, (label, plane) in enumerate(_foreground(probs)):
            exceeded = _count_exceeded(plane if axis is None else np.take(plane, unit, axis))
            has_label = part.ravel() == label
            predicted[unit, place] = _above(exceeded)
            true[unit, place] = _above(exceeded[has_label])
            total[unit, place] = np.count_nonzero(has_label)
    return ThresholdCounts(predicted, true, total, axis is not None)


def tune_thresholds(cases: Sequence[ThresholdCounts], metric: str) -> tuple[float, ...]:
    """The threshold of each label with the largest mean score over cases; of equal ones that closest to one half.

    Raises:
        ValueError: no case, or cases with different numbers of labels.
    """
    if not cases:
        raise ValueError(wrong("tune_thresholds", "validation cases", "at least one", "none"))
    labels = {case.reference.shape[1] for case in cases}
    if len(labels) > 1:
        raise ValueError(wrong("tune_thresholds", "cases", "of one number of labels", sorted(labels)))
    scores = np.array([case.scores(metric) for case in cases])
    defined = np.isfinite(scores)
    mean = np.where(defined, scores, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
    candidates = np.arange(1, _STEPS) / _STEPS
    chosen = []
    for row in mean:
        # Equal but for rounding: of those the one that changes the mask of one half the least.
        best = candidates[row >= row.max() - 1e-12]
        chosen.append(float(best[np.argmin(np.abs(best - 0.5))]))
    return tuple(chosen)


def apply_thresholds(probs: Any, thresholds: Sequence[float]) -> Any:
    """Label map of the voxels above their label's threshold; of several labels the one farthest above wins.

    Args:
        probs: (class, *spatial).
        thresholds: one per foreground label.
    Returns:
        (*spatial) uint8, or uint16 beyond 255 labels.
    Example:
        >>> apply_thresholds(np.array([[0.7, 0.2], [0.3, 0.8]]), [0.25]).tolist()
        [1, 1]
    """
    probs = np.asarray(probs)
    labels = np.zeros(probs.shape[1:], np.uint8 if len(probs) <= 256 else np.uint16)
    best = np.zeros(probs.shape[1:], np.float64)
    for (label, plane), threshold in zip(_foreground(probs), thresholds, strict=True):
        margin = plane.astype(np.float64) - threshold  # as they are counted: float32 would make ties
        better = margin > best
        labels[better], best[better] = label, margin[better]
    return labels


def _foreground(probs: Any) -> list[tuple[int, Any]]:
    return [(1, probs[0])] if len(probs) == 1 else list(enumerate(probs))[1:]


def _count_exceeded(plane: Any) -> Any:
    """(voxel,) number of candidate thresholds strictly below each probability, exactly."""
    probability = plane.ravel().astype(np.float64)
    count = np.clip(np.floor(probability * _STEPS), 0, _STEPS - 1).astype(np.int64)
    # The product may round across a threshold; the division by which thresholds are made decides.
    count -= (count > 0) & (count / _STEPS >= probability)
    count += (count < _STEPS - 1) & ((count + 1) / _STEPS < probability)
    return count


def _above(exceeded: Any) -> Any:
    """Voxels above each threshold 0.01 to 0.99, from how many thresholds each voxel exceeds."""
    histogram = np.bincount(exceeded, minlength=_STEPS)
    return np.cumsum(histogram[::-1])[::-1][1:]
