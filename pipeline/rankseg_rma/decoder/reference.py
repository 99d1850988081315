"""The sort-based answers of the papers in float64: slow, obvious, and the oracle of the tests."""

from typing import Any

import numpy as np

from rankseg_rma.decoder.objective import Floats, Objective


def best_mask_by_sort(probs: Any, metric: str, smooth: float) -> tuple[Any, float]:
    """Best RMA mask of one class: sort, cumulate, take the best number of voxels.

    Args:
        probs: (*spatial) probabilities in [0, 1].
        metric: "dice" or "iou".
        smooth: smoothing; above 0 the empty mask competes.
    Returns:
        The mask (*spatial) bool and its value. Among equal values the smallest mask wins; with smooth = 0 at least one
        voxel is selected.
    Source:
        Wang and Dai 2025, the RMA decision rule.
    """
    flat = np.asarray(probs, np.float64).ravel()
    order = np.argsort(-flat, kind="stable")
    count = np.arange(flat.size + 1)
    total = np.concatenate([[0.0], np.cumsum(flat[order])])
    value = Objective(metric, smooth).value(count, total, np.full(count.shape, flat.sum()))
    first = 0 if smooth > 0 else 1
    # argmax takes the first of equal values, the smallest mask, as the strict cutoff of the search does.
    num_selected = first + int(np.argmax(value[first:]))
    mask = np.zeros(flat.size, bool)
    mask[order[:num_selected]] = True
    return mask.reshape(np.shape(probs)), float(value[num_selected])


def decode_by_sort(
    probs: Any, metric: str, smooth: float, pruning_prob: float, unassigned: str, void_index: int
) -> tuple[Any, Any]:
    """Label map and per-class masks of one unit by the rules of the papers, one voxel at a time.

    Returns:
        labels (*spatial) int64 and masks (class, *spatial) bool, pruned classes empty.
    """
    probs = np.asarray(probs, np.float64)
    objective = Objective(metric, smooth)
    active = [float(p.max(initial=0)) > pruning_prob for p in probs]
    masks = np.stack(
        [
            best_mask_by_sort(p, metric, smooth)[0] if on else np.zeros(p.shape, bool)
            for p, on in zip(probs, active, strict=True)
        ]
    )
    exclusive = masks & (masks.sum(axis=0) == 1)
    labels = np.zeros(probs.shape[1:], np.int64)
    for voxel in np.ndindex(*probs.shape[1:]):
        column, selected = probs[(slice(None), *voxel)], masks[(slice(None), *voxel)]
        if not column.any():
            continue
        if len(probs) == 1:
            labels[voxel] = int(selected[0])
            continue
        if not selected.any() and unassigned != "max_score":
            labels[voxel] = 0 if unassigned == "background" else void_index
            continue
        candidates = selected if selected.any() else np.array(active) if any(active) else np.ones(len(probs), bool)
        gains = [
            _value_with(objective, exclusive[c], probs[c], column[c]) - _value_with(objective, exclusive[c], probs[c])
            for c in range(len(probs))
        ]
        labels[voxel] = int(np.argmax(np.where(candidates, gains, -np.inf)))
    return labels, masks


def _value_with(objective: Objective, mask: Any, probs: Any, extra: float | None = None) -> float:
    """Value of a class's mask, with one voxel of probability ``extra`` added to it when given."""
    count, total = int(mask.sum()) + (extra is not None), float(probs[mask].sum()) + (extra or 0.0)
    return float(objective.value(np.array(count), np.array(total), np.array(probs.sum())))


def ranked_dice_values(probs: Any) -> Floats:
    """RankSEG-BA: expected Dice of the tau most probable voxels for tau = 1 ... N, with the exact Poisson-binomial law.

    The blind approximation replaces the law of the other voxels' sum by the law of the sum of all: it is what RMA
    approximates further by its reciprocal moment.

    Args:
        probs: (*spatial) probabilities of one class; time grows with the square of their number.
    Returns:
        (N,) float64 values.
    Source:
        Dai and Li, JMLR 24(224), 2023: blind approximation of the expected Dice.
    """
    flat = np.sort(np.asarray(probs, np.float64).ravel())[::-1]
    law = np.ones(1)
    for p in flat:
        law = np.convolve(law, [1 - p, p])
    size = np.arange(flat.size + 1)
    total = np.cumsum(flat)
    return np.array([2 * total[tau - 1] * np.sum(law / (tau + size + 1)) for tau in range(1, flat.size + 1)])
