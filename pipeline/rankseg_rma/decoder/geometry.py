"""How a probability array is walked: spatial axes in memory order, cut into (outer, unit, inner)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from rankseg_rma.checks import wrong

# Values this far outside [0, 1] are rounding (of a resampling, say) and are clamped; more is an error.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Walk:
    """Spatial axes ordered from the largest stride to the smallest, so that transposed volumes are read in place.

    Attributes:
        axes: spatial axis of the caller's array at each place of the walk.
        shape: spatial shape in that order.
        unit_place: place of the slice axis in that order; None when the whole array is one unit.
    """

    axes: tuple[int, ...]
    shape: tuple[int, ...]
    unit_place: int | None

    @property
    def num_units(self) -> int:
        return 1 if self.unit_place is None else self.shape[self.unit_place]

    @property
    def inner(self) -> int:
        """Voxels that lie side by side in one unit."""
        return prod(self.shape if self.unit_place is None else self.shape[self.unit_place + 1 :])

    @property
    def outer(self) -> int:
        return 1 if self.unit_place is None else prod(self.shape[: self.unit_place])

    @property
    def class_first(self) -> tuple[int, ...]:
        """Permutation of a (class, *spatial) array into this order."""
        return (0, *(axis + 1 for axis in self.axes))

    @property
    def back(self) -> tuple[int, ...]:
        """Permutation of a spatial array in this order back into the caller's order."""
        return tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__))


def plan_walk(spatial_shape: Sequence[int], strides: Sequence[int], slice_axis: int | None) -> Walk:
    """Order the spatial axes by decreasing stride.

    Example:
        >>> plan_walk((4, 5, 6), (1, 4, 20), slice_axis=2)
        Walk(axes=(2, 1, 0), shape=(6, 5, 4), unit_place=0)
    """
    axes = tuple(sorted(range(len(spatial_shape)), key=lambda axis: -abs(strides[axis])))
    place = None if slice_axis is None else axes.index(slice_axis)
    return Walk(axes, tuple(spatial_shape[axis] for axis in axes), place)


def describe_faults(not_a_number: Sequence[int], infinite: Sequence[int], outside: Sequence[int]) -> str:
    """Say how many voxels of which class are not probabilities; the empty string when all are.

    Example:
        >>> describe_faults([0, 2], [0, 0], [0, 1])
        'class 1: 2 NaN, 1 outside [0, 1]'
    """
    kinds = {"NaN": not_a_number, "infinite": infinite, "outside [0, 1]": outside}
    lines = []
    for label in range(len(outside)):
        found = [f"{counts[label]} {kind}" for kind, counts in kinds.items() if counts[label]]
        lines += [f"class {label}: {', '.join(found)}"] if found else []
    return "; ".join(lines)


def refuse_faults(not_a_number: Sequence[int], infinite: Sequence[int], outside: Sequence[int]) -> None:
    """Raise when any class has values that are no probabilities; counts are per class.

    Raises:
        ValueError: says how many of which kind and class.
    """
    found = describe_faults(not_a_number, infinite, outside)
    if found:
        advice = "Apply softmax or sigmoid to logits; look for the step that made other values."
        raise ValueError(wrong("RMADecoder", "probs", "probabilities in [0, 1]", found, advice=advice))


def round_down(cutoff: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> npt.NDArray[np.floating]:
    """Largest values of ``dtype`` not above the float64 cutoffs: ``p > cutoff`` stays the same for every such p.

    Example:
        >>> bool(round_down(np.array([0.3]), np.float32)[0] <= 0.3)
        True
    """
    # Comparing in float64 would be exact too, but at the price of converting every voxel in every pass.
    rounded = cutoff.astype(dtype)
    return np.where(rounded.astype(np.float64) > cutoff, np.nextafter(rounded, np.asarray(-np.inf, dtype)), rounded)
