"""What every module that takes masks needs: a check of them, and the box around them."""

from typing import Any

import numpy as np

from rankseg_rma.checks import wrong

Box = tuple[slice, ...]
# Some tools store labels through a scaling factor, which gives 0.9961 or 1.00002 where 1 was meant. The second term is
# for the rounding of 0.01 itself.
LABEL_TOLERANCE = 0.01 + 1e-6
_HIGHEST = 65535
_LABELS = f"a label map of whole numbers from 0 to {_HIGHEST}"


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
    # Two boxes and not that of `first | second`, which would be an array of the volume's size.
    boxes = [box for box in (bounding_box(first), bounding_box(second)) if box is not None]
    if not boxes:
        return tuple(slice(0, 0) for _ in range(first.ndim))
    sides = zip(*boxes, strict=True)
    return tuple(
        slice(max(min(s.start for s in side) - margin, 0), min(max(s.stop for s in side) + margin, size))
        for side, size in zip(sides, first.shape, strict=True)
    )


def as_label_map(argument: str, array: Any) -> Any:
    """The array as integers; see `round_labels`."""
    return round_labels(argument, array)[0]


def round_labels(argument: str, array: Any, path: str | None = None) -> tuple[Any, bool]:
    """The array as integers: bool, integer, or float that holds whole numbers, or nearly so.

    Args:
        argument: what the array is, for the message.
        array: of any shape; not modified.
        path: its file, for the message.
    Returns:
        uint8 or uint16 of the same shape, and whether values were off, by 0.01 at most, and had to be rounded.
    Raises:
        ValueError: other fractions, NaN, infinities, negative or huge values, or another dtype.
    Example:
        >>> round_labels("label", np.array([0, 0.9961, 2.00002]))
        (array([0, 1, 2], dtype=uint16), True)
    """
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ValueError(wrong("as_label_map", argument, _LABELS, str(array.dtype), path=path))
    is_float = array.dtype.kind == "f"
    slack = LABEL_TOLERANCE if is_float else 0
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= -slack and high <= _HIGHEST + slack):  # also when NaN
        raise ValueError(wrong("as_label_map", argument, _LABELS, _word_strange(array), path=path))
    if not is_float:
        # Native byte order and few kinds of integers, for the compiled kernels.
        return array.astype(np.uint8 if high <= 255 else np.uint16, copy=False), False
    whole = array.astype(np.uint16)
    if np.array_equal(whole, array):
        return whole, False
    nearest = np.rint(array)
    if (np.abs(array - nearest) > LABEL_TOLERANCE).any():
        raise ValueError(wrong("as_label_map", argument, _LABELS, _word_strange(array), path=path))
    return nearest.astype(np.uint16), True


def _word_strange(array: Any) -> str:
    """Values that are no label, five at most, with their number."""
    with np.errstate(invalid="ignore"):  # infinite minus infinite
        is_near = np.abs(array - np.rint(array)) <= LABEL_TOLERANCE if array.dtype.kind == "f" else True
    is_label = is_near & (array >= -LABEL_TOLERANCE) & (array <= _HIGHEST + LABEL_TOLERANCE)
    values, counts = np.unique(array[~is_label], return_counts=True)
    shown = [f"{value:.6g} ({count} voxels)" for value, count in zip(values[:5], counts[:5], strict=True)]
    return ", ".join(shown) + (", ..." if len(values) > 5 else "")
