"""Where voxels lie: the spacing of perpendicular axes, or the matrix of a sheared grid (a tilted gantry)."""

from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.grid import shear_degrees


def require_spacing(function: str, spacing_mm: Any, ndim: int) -> Any:
    """Return the spacing of an array of 2 or 3 axes.

    Args:
        function: who asks, for the message.
        spacing_mm: (ndim,) voxel spacing in array-axis order, or (ndim, ndim) steps in mm: column k leads from a voxel
            to the next along array axis k, as in the first columns of an affine.
        ndim: number of the array's axes.
    Returns:
        (ndim,) float64 spacing where the axes are perpendicular, however they are turned: the two forms then give the
        same scores, to the last bit. Else (ndim, ndim) float64 steps.
    Raises:
        ValueError: another number of axes, sizes that are not finite and positive, or steps that span no volume.
    Example:
        >>> require_spacing("example", [[0.0, -2.0], [0.5, 0.0]], 2).tolist()
        [0.5, 2.0]
        >>> require_spacing("example", [[1.0, 1.0], [0.0, 1.0]], 2).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """
    if ndim not in (2, 3):
        raise ValueError(wrong(function, "array", "of 2 or 3 axes", f"{ndim} axes"))
    found = np.asarray(spacing_mm, np.float64)
    if found.shape == (ndim, ndim) and np.isfinite(found).all():
        lengths = np.linalg.norm(found, axis=0)
        # Rounding leaves the determinant of steps within one plane a little off 0.
        if abs(np.linalg.det(found)) > 1e-9 * np.prod(lengths):
            return found if shear_degrees(found) else lengths
    if found.shape != (ndim,) or not (np.isfinite(found) & (found > 0)).all():
        expected = f"{ndim} positive numbers in mm, or an invertible ({ndim}, {ndim}) matrix of steps in mm"
        raise ValueError(wrong(function, "spacing_mm", expected, spacing_mm))
    return found


def place_points(indices: Any, spacing: Any) -> Any:
    """Positions in mm, (point, axis), of array indices (point, axis); spacing as `require_spacing` returns it."""
    return indices * spacing if spacing.ndim == 1 else indices @ spacing.T


def cell_size(spacing: Any) -> float:
    """Volume of a voxel in mm3 (area of a pixel in mm2); spacing as `require_spacing` returns it."""
    return float(np.prod(spacing)) if spacing.ndim == 1 else abs(float(np.linalg.det(spacing)))


def layer_distances_mm(spacing: Any) -> Any:
    """(axis,) distance in mm between neighbouring lines or layers of voxels across each axis.

    It is the spacing where axes are perpendicular, and less where they are not: within r mm, no voxel is more than
    r / distance steps away along an axis.
    """
    return spacing if spacing.ndim == 1 else 1 / np.linalg.norm(np.linalg.inv(spacing), axis=1)
