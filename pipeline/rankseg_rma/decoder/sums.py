"""Whether the classes of probabilities add up to 1, as classes do that exclude each other."""

from math import ceil, prod
from typing import Any

from rankseg_rma.checks import wrong

# Resampled and half-precision probabilities of many classes miss 1 by more than rounding; other things miss it by far.
SUM_TOLERANCE = 0.05
MOST_ABOVE, MOST_BELOW = 0.01, 0.5
_SAMPLE_VOXELS = 1 << 12


def require_sums(function: str, argument: str, probs: Any, overlap: str = "multilabel=True") -> None:
    """Refuse classes that do not add up to 1, as where sigmoid gave each of them by itself.

    A grid of voxels is looked at, and all of them only where that one gives rise to it. Sums below 1 are allowed in up
    to half of the voxels: inverting a crop, and then a resampling, mixes probabilities with zeros all around the crop.
    Voxels without any mass are padding. A single class has nothing to add up to.

    Args:
        function: who asks, for the message.
        argument: what it calls the probabilities.
        probs: (class, *spatial) floating-point array or tensor; what is not in [0, 1] is for others to refuse.
        overlap: how the caller is told that classes may overlap.
    Raises:
        ValueError: more than 1 % of the voxels add up to more than 1.05, or most voxels with any mass to less than
            0.95.
    """
    if probs.shape[0] < 2 or not prod(probs.shape):
        return
    spatial_shape = probs.shape[1:]
    step = ceil((prod(spatial_shape) / _SAMPLE_VOXELS) ** (1 / len(spatial_shape)))
    sample = probs[(slice(None), *(slice(min(step // 2, size - 1), None, step) for size in spatial_shape))]
    if not _count_off(sample, 0.5)[0]:
        return
    is_off, above, below, num_voxels = _count_off(probs, 1.0)
    if is_off:
        got = f"{above} of {num_voxels} voxels above 1 and {below} below"
        advice = f"For classes that may overlap, as sigmoid gives them, say {overlap}; apply softmax to logits."
        other = [axis for axis in range(1, probs.ndim) if float(abs(probs.sum(axis) - 1).mean()) < SUM_TOLERANCE]
        if other:
            advice = f"Axis {other[0]} of a case adds up to 1: put the classes first, (class, *spatial)."
        raise ValueError(wrong(function, argument, "classes that add up to 1", got, advice=advice))


def _count_off(probs: Any, share: float) -> tuple[bool, int, int, int]:
    """Whether more than ``share`` of what is allowed is off, the voxels above and below 1, and all voxels."""
    total = probs.sum(0)
    above = int((total > 1 + SUM_TOLERANCE).sum())
    below = int(((total < 1 - SUM_TOLERANCE) & (total > 0)).sum())
    num_voxels = prod(total.shape)
    with_mass = int((total > 0).sum())
    is_off = above > share * MOST_ABOVE * num_voxels or below > share * MOST_BELOW * with_mass
    return is_off, above, below, num_voxels
