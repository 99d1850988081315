"""Sizes of lesions: the longest axial diameter, and a sum of diameters in the style of RECIST."""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import nan
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull

from rankseg_rma.checks import wrong
from rankseg_rma.metrics.spacing import place_points, require_spacing

RECIST_MAX_LESIONS = 5
RECIST_MAX_PER_ORGAN = 2
# Up to here all pairs of corners cost less than their convex hull.
MAX_CORNERS_PAIRWISE = 64


def longest_diameter_mm(mask: Any, spacing_mm: Any, axis: int) -> float:
    """Largest in-plane distance between two points of a mask, over its slices.

    Everything in the mask counts as one object: label components first for the diameter of one lesion.

    Args:
        mask: (*spatial) bool, 2D or 3D.
        spacing_mm: (axis,) voxel spacing in array-axis order, or (axis, axis) steps in mm of a sheared grid, one per
            column; see `require_spacing`.
        axis: array axis across the slices; not used in 2D, where the mask is one slice.
    Returns:
        Diameter in mm between corners of pixels, so that a single pixel has the length of its diagonal. NaN for an
        empty mask.
    Raises:
        ValueError: the mask is not bool, or spacing or axis do not fit it.
    Example:
        >>> longest_diameter_mm(np.ones((1, 1, 5), bool), spacing_mm=(3.0, 4.0, 5.0), axis=2)
        5.0
    """
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise ValueError(wrong("longest_diameter_mm", "mask", "a bool array", mask.dtype))
    return float(longest_diameters_mm(mask.view(np.uint8), 1, spacing_mm, axis)[0])


def longest_diameters_mm(labels: Any, count: int, spacing_mm: Any, axis: int) -> Any:
    """As `longest_diameter_mm`, for every label of a labelled volume in one pass.

    Only the outermost pixels of every row can be ends of a diameter; and a slice is searched only where its bounding
    rectangle could beat the slices before it.

    Args:
        labels: (*spatial) integers, 2D or 3D: 0 is background, 1 to ``count`` are the objects.
        count: number of objects.
        spacing_mm: (axis,) voxel spacing in array-axis order, or (axis, axis) steps in mm of a sheared grid, one per
            column; see `require_spacing`.
        axis: array axis across the slices; not used in 2D.
    Returns:
        (count,) float64 diameters in mm; NaN where a label has no voxel.
    Raises:
        ValueError: spacing or axis do not fit the array.
    """
    labels = np.asarray(labels)
    spacing = require_spacing("longest_diameters_mm", spacing_mm, labels.ndim)
    if labels.ndim == 2:
        planes, in_plane = np.ascontiguousarray(labels)[np.newaxis], spacing
    elif -labels.ndim <= axis < labels.ndim:
        planes, in_plane = np.ascontiguousarray(np.moveaxis(labels, axis, 0)), _in_plane(spacing, axis)
    else:
        raise ValueError(wrong("longest_diameters_mm", "axis", f"an axis of {labels.ndim} axes", axis))
    longest = np.zeros(count + 1)
    if planes.any():
        _longest_in_groups(longest, len(planes), _row_extremes(planes), in_plane)
    return np.where(longest[1:] > 0, longest[1:], nan)


def recist_sum_mm(diameters_mm: Sequence[float], organs: Sequence[Hashable], *, min_diameter_mm: float = 0.0) -> float:
    """Sum the diameters of the largest lesions, at most five in total and two per organ.

    This follows the style of RECIST 1.1 only. A radiologist chooses target lesions by how well they can be measured
    again, leaves out lesions below 10 mm (pass ``min_diameter_mm``) and measures lymph nodes by their short axis.

    Args:
        diameters_mm: (lesion,) longest axial diameters in mm; NaN is left out.
        organs: (lesion,) organ of each lesion, for example the label.
        min_diameter_mm: smaller lesions are left out.
    Returns:
        Sum in mm; 0 without lesions.
    Raises:
        ValueError: lengths differ.
    Source:
        Eisenhauer et al. 2009, "New response evaluation criteria in solid tumours: Revised RECIST guideline (1.1)".
    Example:
        >>> recist_sum_mm([30.0, 20.0, 10.0, 5.0], ["liver", "liver", "liver", "kidney"])
        55.0
    """
    if len(diameters_mm) != len(organs):
        raise ValueError(wrong("recist_sum_mm", "organs", f"of length {len(diameters_mm)}", len(organs)))
    measured = [pair for pair in zip(diameters_mm, organs, strict=True) if pair[0] >= min_diameter_mm]
    chosen: list[float] = []
    per_organ: Counter[Hashable] = Counter()
    for diameter_mm, organ in sorted(measured, key=lambda pair: -pair[0]):
        if len(chosen) < RECIST_MAX_LESIONS and per_organ[organ] < RECIST_MAX_PER_ORGAN:
            chosen.append(float(diameter_mm))
            per_organ[organ] += 1
    return sum(chosen, 0.0)


def _in_plane(spacing: Any, axis: int) -> Any:
    """Spacing of the two axes of a slice, or its (2, 2) steps where these two are not perpendicular."""
    kept = np.delete(spacing, axis, axis=-1)
    # A rotation of the plane into two coordinates leaves every distance as it is.
    return kept if spacing.ndim == 1 else require_spacing("longest_diameters_mm", np.linalg.qr(kept)[1], 2)


def _row_extremes(planes: Any) -> tuple[Any, Any, Any, Any]:
    """First and last column of every label in every row of every slice.

    Args:
        planes: (slice, row, column) labels.
    Returns:
        group (label * number of slices + slice, ascending), row (ascending in a group), first column, and the column
        after the last: int64 arrays, one entry per label, slice and row.
    """
    begins = planes != 0
    ends, changes = begins.copy(), planes[:, :, 1:] != planes[:, :, :-1]
    begins[:, :, 1:] &= changes
    ends[:, :, :-1] &= changes
    # In this order the n-th begin and the n-th end belong to one run.
    num_slices, num_rows, num_columns = planes.shape
    first, last = np.flatnonzero(begins), np.flatnonzero(ends)
    key = planes.reshape(-1)[first].astype(np.int64) * (num_slices * num_rows) + first // num_columns
    order = np.argsort(key, kind="stable")
    key, start = np.unique(key[order], return_index=True)
    low, high = first[order] % num_columns, last[order] % num_columns + 1
    group, row = np.divmod(key, num_rows)
    return group, row, np.minimum.reduceat(low, start), np.maximum.reduceat(high, start)


def _longest_in_groups(longest: Any, num_slices: int, extremes: tuple[Any, Any, Any, Any], spacing: Any) -> None:
    """Raise ``longest`` (one entry per label) to the largest diameter of the label's slices."""
    group, row, low, high = extremes
    group, start = np.unique(group, return_index=True)
    stop = np.append(start[1:], len(row))
    label = group // num_slices
    height = row[stop - 1] + 1 - row[start]
    width = np.maximum.reduceat(high, start) - np.minimum.reduceat(low, start)
    bound_mm = _diagonals_mm(height, width, spacing)
    # A label of one row or column reaches both ends of its box, whose diagonal is then its diameter.
    exact = (height == 1) | (width == 1)
    np.maximum.at(longest, label[exact], bound_mm[exact])
    # The largest bound first: once a diameter is found, most other slices cannot beat it and are never searched.
    searched = np.flatnonzero(~exact)
    for k in searched[np.argsort(-bound_mm[searched], kind="stable")]:
        if bound_mm[k] > longest[label[k]]:
            part = slice(start[k], stop[k])
            found_mm = _farthest_corners_mm(row[part], low[part], high[part], spacing)
            longest[label[k]] = max(longest[label[k]], found_mm)


def _diagonals_mm(height: Any, width: Any, spacing: Any) -> Any:
    """Longest diagonal of boxes of so many rows and columns."""
    if spacing.ndim == 1:
        return np.hypot(height * spacing[0], width * spacing[1])
    both = [place_points(np.stack([height, side], axis=1), spacing) for side in (width, -width)]
    return np.maximum(*(np.hypot(*points.T) for points in both))


def _farthest_corners_mm(row: Any, low: Any, high: Any, spacing: Any) -> float:
    corners = np.stack([np.concatenate([row, row + 1] * 2), np.concatenate([low, low, high, high])], axis=1)
    points = place_points(corners, spacing)
    if len(points) > MAX_CORNERS_PAIRWISE:
        points = points[ConvexHull(points).vertices]
    difference = points[:, np.newaxis] - points
    return float(np.sqrt((difference**2).sum(axis=2).max()))
