"""Axial slices of a volume in any orientation, and their size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rankseg_rma.grid import find_slice_axis


def to_axial(array: Any, affine: Any) -> Any:
    """View of a volume as a stack of axial slices.

    Args:
        array: (*spatial), as stored.
        affine: (4, 4) to RAS+.
    Returns:
        (slice, row, column): slices in the file's order, rows to the right, columns to the front.
    Raises:
        ValueError: the affine is not invertible.
    """
    order, flipped = _axes_of(affine)
    return np.flip(np.transpose(array, order), tuple(1 + place for place in flipped))


def from_axial(stack: Any, affine: Any) -> Any:
    """Bring axial slices back to the axes of the volume; the inverse of `to_axial`.

    Args:
        stack: (..., slice, row, column) array or tensor.
        affine: (4, 4) of the volume.
    Returns:
        (..., *spatial), of the kind that was given.
    """
    order, flipped = _axes_of(affine)
    lead = stack.ndim - 3
    axes = [*range(lead), *(lead + int(place) for place in np.argsort(order))]
    places = tuple(lead + 1 + place for place in flipped)
    if isinstance(stack, np.ndarray):
        return np.flip(stack, places).transpose(axes)
    # torch copies for a flip, even along no axis.
    return (stack.flip(places) if places else stack).permute(axes)


def _axes_of(affine: Any) -> tuple[list[int], list[int]]:
    """Array axes that lie closest to S, R and A; and which of rows (0) and columns (1) run the other way."""
    from nibabel.orientations import io_orientation

    axial = find_slice_axis(affine, "axial")
    codes = io_orientation(np.asarray(affine, np.float64))
    right, front = (int(np.flatnonzero(codes[:, 0] == direction)[0]) for direction in (0, 1))
    return [axial, right, front], [place for place, axis in enumerate((right, front)) if codes[axis, 1] < 0]


def resize_image(plane: Any, size: Sequence[int] | None) -> Any:
    """Resize a slice linearly; outer edges, not pixel centres, are aligned, and nothing is smoothed.

    Args:
        plane: (H, W) numbers.
        size: (height, width); None, or the size it has, gives the slice itself.
    Returns:
        (height, width) float32, or ``plane`` as it is.
    """
    if size is None or tuple(size) == plane.shape:
        return plane
    from scipy.ndimage import zoom

    # `zoom` answers in the dtype it is given: whole numbers would be rounded.
    scale = [new / old for new, old in zip(size, plane.shape, strict=True)]
    return zoom(plane.astype(np.float32), scale, order=1, mode="nearest", grid_mode=True)


def resize_label(plane: Any, size: Sequence[int] | None) -> Any:
    """Resize class indices: each pixel takes the one under its centre, as `resize_image` aligns them."""
    if size is None or tuple(size) == plane.shape:
        return plane
    # In whole numbers, since a centre that falls on an edge must not depend on rounding.
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, plane.shape, strict=True))
    return plane[np.ix_(rows, columns)]
