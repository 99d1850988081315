"""What every module that takes masks needs: a check of them, and the box around them."""

from typing import Any

import numpy as np

from rankseg_rma.checks import wrong

Box = tuple[slice, ...]


def require_mask(function: str, argument: str, mask: Any) -> Any:
    """Return the mask as an array when it is bool, 2D or 3D.

    Raises:
        ValueError: it is not.
    """
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.ndim not in (2, 3):
        got = f"{mask.dtype} of shape {mask.shape}"
        raise ValueError(wrong(function, argument, "a bool array with 2 or 3 axes", got))
    return mask


def bounding_box(mask: Any) -> Box | None:
    """Smallest box that holds every True of an array; None without one."""
    box = [slice(0, size) for size in mask.shape]
    # From the slowest axis: the first, full pass then runs along memory.
    for axis in sorted(range(mask.ndim), key=lambda k: -abs(mask.strides[k])):
        others = tuple(k for k in range(mask.ndim) if k != axis)
        filled = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if not filled.size:
            return None
        box[axis] = slice(int(filled[0]), int(filled[-1]) + 1)
    return tuple(box)


def union_box(first: Any, second: Any, margin: int = 0) -> Box:
    """Smallest box that holds every True of two arrays of one shape; of size 0 without one.

    Args:
        first: (*spatial), anything that is true or false.
        second: same shape.
        margin: voxels more on every side, where the array has them: with one, a mask touches the edge of the box only
            where it touches the edge of the array.
    """
    boxes = [box for box in (bounding_box(first), bounding_box(second)) if box is not None]
    if not boxes:
        return tuple(slice(0, 0) for _ in range(first.ndim))
    sides = zip(*boxes, strict=True)
    return tuple(
        slice(max(min(s.start for s in side) - margin, 0), min(max(s.stop for s in side) + margin, size))
        for side, size in zip(sides, first.shape, strict=True)
    )


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
    # Native byte order and few kinds of integers, for the compiled kernels.
    return array.astype(np.uint8 if high <= 255 else np.uint16, copy=False)
