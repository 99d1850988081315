"""The grid of a volume: spacing, slice axis, and whether two grids are the same. Nothing of the disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong

ANATOMICAL_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
# Axes count as perpendicular up to this cosine between them: files hold directions in single precision, or to three
# decimals. A distance that takes them for perpendicular is then wrong by at most a thousandth.
_PERPENDICULAR = 1e-3


def spacing_of(affine: Any) -> tuple[float, float, float]:
    """Voxel size in mm, in array-axis order: lengths of the steps, also of a sheared grid.

    Example:
        >>> spacing_of(np.diag([0.5, -2.0, 3.0, 1.0]))
        (0.5, 2.0, 3.0)
    """
    x, y, z = np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def shear_degrees(steps_mm: Any) -> float:
    """How far the axes of a grid are from perpendicular, as after a scan with a tilted gantry.

    Args:
        steps_mm: (axis, axis) step to the next voxel along each array axis, one per column: ``affine[:3, :3]``.
    Returns:
        The largest difference of an angle between two axes from 90 degrees; 0 up to 0.06 degrees, which is rounding,
        and where a step is 0 or not finite.
    Example:
        >>> tilted = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 3.0]])
        >>> round(shear_degrees(tilted)), shear_degrees(np.diag([1.0, -1.0, 3.0]))
        (45, 0.0)
    """
    steps = np.asarray(steps_mm, np.float64)
    if not np.isfinite(steps).all():
        return 0.0
    lengths = np.linalg.norm(steps, axis=0)
    products, sizes = np.abs(steps.T @ steps), np.outer(lengths, lengths)
    cosines = np.divide(products, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    # Above the diagonal alone: on it every axis meets itself.
    largest = float(np.triu(cosines, k=1).max())
    # Rounding may lift a cosine above 1, of which the arcsine is NaN.
    return float(np.degrees(np.arcsin(min(largest, 1.0)))) if largest > _PERPENDICULAR else 0.0


def voxel_volume_ml(affine: Any) -> float:
    """Volume of one voxel in millilitres (1 ml = 1000 cubic mm), also of a sheared grid.

    Example:
        >>> round(voxel_volume_ml(np.diag([1.0, 1.0, 5.0, 1.0])), 6)
        0.005
    """
    return float(abs(np.linalg.det(np.asarray(affine, np.float64)[:3, :3])) / 1000)


def places_voxels(affine: Any) -> bool:
    """Whether an affine gives every voxel a place of its own: it is finite, and its three axes are independent.

    Example:
        >>> places_voxels(np.diag([1.0, 1.0, 5.0, 1.0])), places_voxels(np.diag([1.0, 1.0, 0.0, 1.0]))
        (True, False)
    """
    matrix = np.asarray(affine, np.float64)
    if matrix.ndim != 2 or min(matrix.shape) < 3 or not np.isfinite(matrix).all():
        return False
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    # Beside the lengths, for voxels of a thousandth of a millimetre are no flat ones.
    return bool(lengths.all() and abs(np.linalg.det(matrix[:3, :3] / lengths)) > 1e-6)


def require_affine(function: str, affine: Any, path: str | Path | None = None) -> None:
    """Raise unless `places_voxels`.

    Raises:
        ValueError: it does not; the message has the matrix.
    """
    if not places_voxels(affine):
        advice = "The header is damaged, or the tool that wrote the file gave it no geometry."
        expected, got = "finite and invertible, (4, 4)", np.asarray(affine).tolist()
        raise ValueError(wrong(function, "affine", expected, got, path=path, advice=advice))


def find_slice_axis(affine: Any, slice_axis: str | int, num_axes: int = 3) -> int:
    """Array axis along which slices lie.

    Args:
        affine: (4, 4) to RAS+; None when unknown: the array is then taken to be in RAS order, as MONAI does.
        slice_axis: an array axis, or "axial", "coronal" or "sagittal": the axis closest to the normal of that plane.
        num_axes: number of spatial axes.
    Raises:
        ValueError: another name, or a plane asked of an array that is not 3D.
    Example:
        >>> find_slice_axis(np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 1.0]]), "axial")
        0
    """
    # True is an int and would be axis 1.
    if isinstance(slice_axis, int | np.integer) and not isinstance(slice_axis, bool):
        if not -num_axes <= slice_axis < num_axes:
            expected = f"an axis from 0 to {num_axes - 1}, or from the end, of {num_axes} spatial axes"
            raise ValueError(wrong("find_slice_axis", "slice_axis", expected, slice_axis))
        return int(slice_axis) % num_axes
    if slice_axis not in ANATOMICAL_AXES:
        expected = f"an axis number or one of {', '.join(map(repr, ANATOMICAL_AXES))}"
        raise ValueError(wrong("find_slice_axis", "slice_axis", expected, repr(slice_axis)))
    if num_axes != 3:
        expected = f"an axis number for an array with {num_axes} spatial axes"
        raise ValueError(wrong("find_slice_axis", "slice_axis", expected, repr(slice_axis)))
    direction = np.eye(3) if affine is None else np.asarray(affine, np.float64)[:3, :3]
    require_affine("find_slice_axis", direction if affine is None else affine)
    from nibabel.orientations import io_orientation

    # nibabel wants a whole affine; the origin does not matter for directions.
    homogeneous = np.eye(4)
    homogeneous[:3, :3] = direction
    return int(np.flatnonzero(io_orientation(homogeneous)[:, 0] == ANATOMICAL_AXES[slice_axis])[0])


@dataclass(frozen=True)
class Grid:
    """What a volume's header says; see `Volume`.

    Attributes:
        shape: spatial shape.
        affine: (4, 4) from array indices to RAS+ millimetres.
        header: nibabel header, or None.
        num_channels: 1 where there is no axis for them.
        is_converted: the file says it otherwise, in another unit, format or number of axes; a reader that knows NIfTI
            in millimetres only sees something else.
    """

    shape: tuple[int, ...]
    affine: Any
    header: Any = None
    num_channels: int = 1
    is_converted: bool = False


def require_same_grid(
    function: str, argument: str, shape: Any, affine: Any, reference: Any, path: str | Path, advice: str = ""
) -> None:
    """Raise unless an array lies on the grid of a reference.

    Args:
        function: who asks, for the message.
        argument: what is checked.
        shape: its spatial shape.
        affine: its affine.
        reference: anything with an ``array`` (*spatial) and an ``affine``.
        path: its file.
        advice: what to do.
    Raises:
        ValueError: the grids differ.
    """
    difference = same_grid(shape, affine, reference.array.shape, reference.affine)
    if difference:
        expected, got = "on the reference's grid", f"a difference in {difference}"
        raise ValueError(wrong(function, argument, expected, got, path=path, advice=advice))


def same_grid(shape_a: Any, affine_a: Any, shape_b: Any, affine_b: Any) -> str:
    """Say how two grids differ; the empty string when they are the same (corners within a tenth of a voxel).

    Example:
        >>> same_grid((4, 4, 4), np.eye(4), (4, 4, 5), np.eye(4))
        'shape (4, 4, 4) and (4, 4, 5)'
    """
    if tuple(shape_a) != tuple(shape_b):
        return f"shape {tuple(shape_a)} and {tuple(shape_b)}"
    # Two affine maps differ most at a corner, so that eight points stand for all voxels.
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape_a[:3]], [1.0], indexing="ij")).reshape(4, -1)
    # Comparisons with NaN are false: below, such grids would pass for the same.
    if not (np.isfinite(affine_a).all() and np.isfinite(affine_b).all()):
        return "position: an affine is not finite"
    shift = np.abs((np.asarray(affine_a) - np.asarray(affine_b)) @ corners).max()
    # A tenth of a voxel: headers in single precision, and those written through quaternions, shift corners a little.
    if shift > 0.1 * min(spacing_of(affine_a)):
        return f"position: corners lie up to {shift:.3g} mm apart"
    return ""
