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
    """Voxels above every candidate threshold in one case.

    Attributes:
        predicted: (label, threshold) voxels with p > threshold, thresholds 0.01 to 0.99.
        true: (label, threshold) those of them that have the label.
        reference: (label,) voxels with the label.
    """

    predicted: Any
    true: Any
    reference: Any

    def dice(self) -> Any:
        """(label, threshold) Dice of the case; both empty 1, one empty 0."""
        size = self.predicted + self.reference[:, None]
        return np.where(size > 0, 2 * self.true / np.maximum(size, 1), 1.0)


def count_thresholds(probs: Any, reference: Any) -> ThresholdCounts:
    """Count what every threshold would select, for every foreground label.

    Args:
        probs: (class, *spatial) probabilities; a single class is the foreground.
        reference: (*spatial) integers.
    Raises:
        ValueError: shapes differ.
    """
    probs, reference = np.asarray(probs), np.asarray(reference)
    if probs.shape[1:] != reference.shape:
        raise ValueError(wrong("count_thresholds", "reference", f"of shape {probs.shape[1:]}", reference.shape))
    predicted, true, total = [], [], []
    for label, plane in _foreground(probs):
        # Bin k holds k / 100 < p <= (k + 1) / 100.
        bins = np.clip(np.ceil(plane.ravel().astype(np.float64) * _STEPS).astype(np.int64) - 1, 0, _STEPS - 1)
        has_label = reference.ravel() == label
        predicted.append(_above(np.bincount(bins, minlength=_STEPS)))
        true.append(_above(np.bincount(bins[has_label], minlength=_STEPS)))
        total.append(np.count_nonzero(has_label))
    return ThresholdCounts(np.array(predicted), np.array(true), np.array(total))


def tune_thresholds(cases: Sequence[ThresholdCounts]) -> tuple[float, ...]:
    """The threshold of each label with the largest mean Dice over cases; of equal ones that closest to one half.

    Raises:
        ValueError: no case.
    """
    if not cases:
        raise ValueError(wrong("tune_thresholds", "validation cases", "at least one", "none"))
    mean = np.mean([case.dice() for case in cases], axis=0)
    candidates = np.arange(1, _STEPS) / _STEPS
    chosen = []
    for row in mean:
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
    best = np.zeros(probs.shape[1:], np.float32)
    for (label, plane), threshold in zip(_foreground(probs), thresholds, strict=True):
        margin = plane.astype(np.float32) - np.float32(threshold)
        better = margin > best
        labels[better], best[better] = label, margin[better]
    return labels


def _foreground(probs: Any) -> list[tuple[int, Any]]:
    return [(1, probs[0])] if len(probs) == 1 else list(enumerate(probs))[1:]


def _above(histogram: Any) -> Any:
    """Counts above each threshold 0.01 to 0.99, from the counts per bin."""
    return np.cumsum(histogram[::-1])[::-1][1:]
