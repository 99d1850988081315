"""Distances between the surfaces of two masks in mm: HD95, ASSD, RMSD, MSSD, and surface Dice at tolerances.

Two surfaces are in use, and each score keeps to its own:

- distances are measured between border voxels: the mask minus its erosion by the 6-neighbourhood (4 in 2D);
- surface Dice weighs surface elements, which lie where 2 x 2 x 2 (2D: 2 x 2) voxels are partly inside the mask.

Both are looked up in one way: a neighbour within a few voxels is found by trying the nearest positions in turn, what
lies farther by a k-d tree. Only the box around the two masks is visited.

Distances are right on every grid; of a sheared one (a tilted gantry) they need its whole matrix. Areas of surface
elements are known for boxes only, so that surface Dice is not defined there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, nan
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from rankseg_rma.checks import wrong
from rankseg_rma.compiling import kernel
from rankseg_rma.metrics.masks import require_mask, union_box
from rankseg_rma.metrics.spacing import layer_distances_mm, place_points, require_spacing

# Bits of a voxel that says of both masks at once whether it belongs to them.
PREDICTION, REFERENCE = 1, 2
# Reach of the search by position, in units of the finest spacing (of layers, on a sheared grid): farther needs the
# tree less often, but tries more positions (up to 4 / 3 pi reach^3) in vain. Six to fourteen take about the same time.
NEAR_VOXELS = 8


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance of every border voxel of one mask to the nearest border voxel of the other.

    Every score is NaN when a mask is empty.

    Attributes:
        prediction_to_reference_mm: (border voxel of the prediction,) float64; no entry when either mask is empty.
        reference_to_prediction_mm: (border voxel of the reference,) float64; no entry when either mask is empty.
    Example:
        >>> prediction, reference = np.array([[True, True, False]]), np.array([[False, False, True]])
        >>> found = measure_distances(prediction, reference, (3.0, 0.5), outside_is_foreground=False)
        >>> found.prediction_to_reference_mm, found.reference_to_prediction_mm, found.mssd_mm
        (array([1. , 0.5]), array([0.5]), 1.0)
    """

    prediction_to_reference_mm: Any
    reference_to_prediction_mm: Any

    @property
    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles, as in MONAI (medpy pools both directions instead)."""
        return max(_percentile_95(self.prediction_to_reference_mm), _percentile_95(self.reference_to_prediction_mm))

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: the mean over both directions pooled.

        MONAI and CHAOS pool as well; medpy averages the two directed means, so that the smaller surface weighs more.
        """
        return float(self._pooled_mm.mean()) if self._pooled_mm.size else nan

    @property
    def rmsd_mm(self) -> float:
        """Root mean square distance over both directions pooled."""
        return float(np.sqrt(np.square(self._pooled_mm).mean())) if self._pooled_mm.size else nan

    @property
    def mssd_mm(self) -> float:
        """Maximum symmetric surface distance, which is the Hausdorff distance of the borders."""
        return float(self._pooled_mm.max()) if self._pooled_mm.size else nan

    @property
    def _pooled_mm(self) -> Any:
        return np.concatenate([self.prediction_to_reference_mm, self.reference_to_prediction_mm])


def measure_distances(
    prediction: Any, reference: Any, spacing_mm: Any, *, outside_is_foreground: bool
) -> SurfaceDistances:
    """Measure the distances between the borders of two masks, both ways.

    Args:
        prediction: (*spatial) bool, 2D or 3D; not modified.
        reference: same shape, bool; not modified.
        spacing_mm: (axis,) voxel spacing in array-axis order, or (axis, axis) steps in mm of a sheared grid, one per
            column; see `require_spacing`.
        outside_is_foreground: whether a voxel at the volume's edge counts as surrounded on that side (as in the
            evaluation of CHAOS) or is a border voxel (as in MONAI and medpy).
    Returns:
        Exact Euclidean distances between voxel centres. Both arrays are empty, and every score NaN, when either mask is
        empty, or has no border because it fills the volume and the outside counts as foreground.
    Raises:
        ValueError: dtype, shapes or spacing differ from the above.
    Source:
        Heimann et al. 2009, "Comparison and evaluation of methods for liver segmentation from CT data sets"; their
        border is that of the 18-neighbourhood, ours that of MONAI, medpy and CHAOS.
    """
    prediction, reference = crop_to_union(prediction, reference)
    spacing = require_spacing("measure_distances", spacing_mm, prediction.ndim)
    fill = PREDICTION | REFERENCE if outside_is_foreground else 0
    marks = _borders(_stack(prediction, reference, fill))
    (_, to_reference), (_, to_prediction) = _nearest_both_ways(marks, spacing, inf)
    return SurfaceDistances(to_reference, to_prediction)


def surface_dice(
    prediction: Any,
    reference: Any,
    spacing_mm: Any,
    tolerances_mm: Sequence[float],
    area_of_code_mm2: Any,
) -> tuple[float, ...]:
    """Share of both surfaces that lies within a tolerance of the other surface (NSD, surface Dice).

    Args:
        prediction: (*spatial) bool, 2D or 3D; not modified.
        reference: same shape, bool; not modified.
        spacing_mm: voxel spacing in array-axis order; of a sheared grid there is no surface Dice.
        tolerances_mm: largest distances that count as agreement. A distance is compared in single precision, the
            precision of a spacing on disk, so that five voxels of 0.8 mm are within 4 mm.
        area_of_code_mm2: (256,) area of the surface element of every 2 x 2 x 2 neighbourhood, whose code is
            ``sum(inside[i, j, k] * 2 ** (7 - 4 i - 2 j - k))``; in 2D (16,) contour lengths in mm, with code
            ``sum(inside[i, j] * 2 ** (3 - 2 i - j))``. It depends on the spacing.
    Returns:
        One value in [0, 1] per tolerance; NaN when either mask is empty. Outside the volume counts as background.
    Raises:
        ValueError: dtype, shapes, spacing, tolerances or table differ from the above, or the grid is sheared.
    Source:
        Nikolov et al. 2018, arXiv 1809.04430; equal to MONAI's ``compute_surface_dice(..., use_subvoxels=True)``,
        except that MONAI scores one empty mask as 0.
    """
    prediction, reference = crop_to_union(prediction, reference)
    spacing = require_spacing("surface_dice", spacing_mm, prediction.ndim)
    if spacing.ndim != 1:
        advice = "Surface areas are known for boxes only: resample both masks to a grid without shear."
        raise ValueError(wrong("surface_dice", "spacing_mm", "of perpendicular axes", spacing.tolist(), advice=advice))
    area_of_code = _checked_areas(area_of_code_mm2, spacing)
    tolerances = np.asarray(tolerances_mm, np.float64)
    if tolerances.ndim != 1 or not (np.isfinite(tolerances) & (tolerances >= 0)).all():
        raise ValueError(wrong("surface_dice", "tolerances_mm", "finite numbers of at least 0 mm", tolerances_mm))
    if not (prediction.any() and reference.any()):
        return (nan,) * len(tolerances)
    inside = _stack(prediction, reference, 0)
    # The margin keeps what only rounding to single precision brings within the largest tolerance.
    sides = _nearest_both_ways(_elements(inside), spacing, tolerances.max(initial=0) * (1 + 1e-6))
    # Five steps of a float32 0.8 mm make 4.00000006 mm in float64: in single precision ties are ties again.
    distance = np.concatenate([found for _, found in sides]).astype(np.float32)
    bits = (PREDICTION, REFERENCE)
    area = np.concatenate(
        [area_of_code[_codes(inside, place, bit)] for (place, _), bit in zip(sides, bits, strict=True)]
    )
    return tuple(float(area[distance <= tolerance].sum() / area.sum()) for tolerance in tolerances.astype(np.float32))


def border_of(mask: Any, outside_is_foreground: bool) -> Any:
    """Border voxels: the mask minus its erosion by the 6-neighbourhood (4 in 2D).

    Args:
        mask: (*spatial) bool, 2D or 3D; not modified.
        outside_is_foreground: whether a voxel at the volume's edge counts as surrounded on that side.
    Returns:
        (*spatial) bool; empty for an empty mask.
    Raises:
        ValueError: not bool, or neither 2D nor 3D.
    Example:
        >>> border_of(np.ones((3, 3), bool), outside_is_foreground=False).astype(int)
        array([[1, 1, 1],
               [1, 0, 1],
               [1, 1, 1]])
    """
    mask = require_mask("border_of", "mask", mask)
    return _borders(_stack(mask, mask, PREDICTION | REFERENCE if outside_is_foreground else 0)) != 0


def crop_to_union(prediction: Any, reference: Any) -> tuple[Any, Any]:
    """Crop two masks to the box around both and one voxel more, where the volume has one.

    The functions above crop by themselves; a caller that needs several of them crops once and passes the views on,
    which changes no score: a mask touches the edge of its crop only where it touches the edge of the volume.

    Args:
        prediction: (*spatial) bool, 2D or 3D.
        reference: same shape, bool.
    Returns:
        Views of both masks of one shape; without a voxel when both are empty.
    Raises:
        ValueError: not bool, neither 2D nor 3D, or shapes differ.
    """
    prediction = require_mask("crop_to_union", "prediction", prediction)
    reference = require_mask("crop_to_union", "reference", reference)
    if prediction.shape != reference.shape:
        expected = f"of the reference's shape {reference.shape}"
        raise ValueError(wrong("crop_to_union", "prediction", expected, prediction.shape))
    box = union_box(prediction, reference, margin=1)
    return prediction[box], reference[box]


def _stack(prediction: Any, reference: Any, fill: int) -> Any:
    """Both masks as bits of one C-ordered uint8 array, with one voxel of ``fill`` around."""
    # Both masks in one array: every pass over the neighbourhoods serves two, and a look-up touches one cache line.
    inside = np.full([size + 2 for size in prediction.shape], fill, np.uint8)
    core = inside[(slice(1, -1),) * prediction.ndim]
    np.multiply(reference.view(np.uint8), np.uint8(REFERENCE), out=core)
    core |= prediction.view(np.uint8)
    return inside


def _borders(inside: Any) -> Any:
    """Bits of the masks that a voxel has and one of its neighbours lacks; without the voxels around."""
    core = (slice(1, -1),) * inside.ndim
    surrounded = inside[core].copy()
    for axis in range(inside.ndim):
        for side in (slice(0, -2), slice(2, None)):
            surrounded &= inside[(*core[:axis], side, *core[axis + 1 :])]
    return inside[core] ^ surrounded


def _elements(inside: Any) -> Any:
    """Bits of the masks that some, but not all, corners of a neighbourhood have; one position less per axis."""
    corners = [inside[corner] for corner in product((slice(0, -1), slice(1, None)), repeat=inside.ndim)]
    some, every = corners[0].copy(), corners[0].copy()
    for corner in corners[1:]:
        some |= corner
        every &= corner
    return some ^ every


def _codes(inside: Any, place: Any, bit: int) -> Any:
    """Neighbourhood codes of one mask at flat positions of the array of `_elements`."""
    first = np.stack(np.unravel_index(place, [size - 1 for size in inside.shape]))
    code = np.zeros(len(place), np.int64)
    for corner in product((0, 1), repeat=inside.ndim):
        here = inside[tuple(first + np.reshape(corner, (-1, 1)))]
        code = 2 * code + ((here & bit) != 0)
    return code


def _nearest_both_ways(marks: Any, spacing: Any, limit_mm: float) -> list[tuple[Any, Any]]:
    """Nearest distances between the positions of ``marks`` that have either bit.

    Returns:
        For the prediction and for the reference: flat positions, and distances in mm to the other's, which are
        infinite beyond the limit. No distance when either has no position.
    """
    marked = np.flatnonzero(marks != 0)
    bits = marks.ravel()[marked]
    first, second = (marked[(bits & bit) != 0] for bit in (PREDICTION, REFERENCE))
    if not (first.size and second.size):
        return [(first, np.empty(0)), (second, np.empty(0))]
    return [
        (first, _nearest(marks, first, second, REFERENCE, spacing, limit_mm)),
        (second, _nearest(marks, second, first, PREDICTION, spacing, limit_mm)),
    ]


def _nearest(marks: Any, places: Any, targets: Any, bit: int, spacing: Any, limit_mm: float) -> Any:
    near_mm = min(NEAR_VOXELS * layer_distances_mm(spacing).min(), limit_mm)
    found_mm = np.full(len(places), inf)
    offsets, distances_mm = _shells(spacing, near_mm)
    solid = marks.reshape((1,) * (3 - marks.ndim) + marks.shape)
    _search_shells(solid, places, np.uint8(bit), offsets, distances_mm, found_mm)
    far = np.flatnonzero(np.isinf(found_mm))
    if far.size and near_mm < limit_mm:
        found_mm[far] = _query_tree(marks.shape, places[far], targets, spacing, limit_mm)
    return found_mm


def _shells(spacing: Any, reach_mm: float) -> tuple[Any, Any]:
    """All steps of at most ``reach_mm``, nearest first: (step, 3) int64 and (step,) float64 lengths in mm."""
    # A hair more, so that a reach of eight steps is not seven by rounding; the exact lengths decide below.
    reach = np.floor(reach_mm / layer_distances_mm(spacing) * (1 + 1e-9)).astype(np.int64)
    steps = np.stack([axis.ravel() for axis in np.meshgrid(*(np.arange(-n, n + 1) for n in reach))], axis=1)
    length_mm = np.sqrt(np.square(place_points(steps, spacing)).sum(axis=1))
    # Of equal lengths any will do: only the length is kept.
    order = np.argsort(length_mm, kind="stable")
    order = order[length_mm[order] <= reach_mm]
    return np.pad(steps, ((0, 0), (3 - steps.shape[1], 0)))[order], length_mm[order]


@kernel()
def _search_shells(marks, places, bit, offsets, distances_mm, found_mm):  # type: ignore[no-untyped-def]
    """Length of the first step that leads from each flat position to the bit; ``found_mm`` stays where none does."""
    depth, height, width = marks.shape
    for n in range(places.size):
        row, k = divmod(places[n], width)
        i, j = divmod(row, height)
        for m in range(distances_mm.size):
            a, b, c = i + offsets[m, 0], j + offsets[m, 1], k + offsets[m, 2]
            if 0 <= a < depth and 0 <= b < height and 0 <= c < width and marks[a, b, c] & bit:
                found_mm[n] = distances_mm[m]
                break


def _query_tree(shape: tuple[int, ...], places: Any, targets: Any, spacing: Any, limit_mm: float) -> Any:
    """Distances in mm from flat positions to the nearest target, infinite beyond the limit."""
    start_mm, end_mm = (
        place_points(np.stack(np.unravel_index(flat, shape), axis=1), spacing) for flat in (places, targets)
    )
    # A tree that halves space, not the list of points, answers two to four times faster on a surface.
    tree = cKDTree(end_mm, leafsize=32, compact_nodes=False, balanced_tree=False)
    return tree.query(start_mm, distance_upper_bound=limit_mm, workers=1)[0]


def _percentile_95(distances_mm: Any) -> float:
    return float(np.percentile(distances_mm, 95)) if distances_mm.size else nan


def _checked_areas(area_of_code: Any, spacing_mm: Any) -> Any:
    """The table as float64, once its flat faces have the area of a voxel's faces: it belongs to this spacing."""
    areas, codes = np.asarray(area_of_code, np.float64), 2 ** (2**spacing_mm.size)
    if areas.shape != (codes,):
        raise ValueError(wrong("surface_dice", "area_of_code_mm2", f"of shape ({codes},)", areas.shape))
    corners = np.array([*product((0, 1), repeat=spacing_mm.size)])
    flat = (corners * 2 ** np.arange(len(corners))[::-1, np.newaxis]).sum(axis=0)
    faces_mm2 = spacing_mm.prod() / spacing_mm
    if not (np.allclose(areas[flat], faces_mm2, rtol=1e-4, atol=0) and (areas[1:-1] > 0).all()):
        expected = f"for the spacing {spacing_mm.tolist()} mm, with {faces_mm2.tolist()} for flat faces"
        raise ValueError(wrong("surface_dice", "area_of_code_mm2", expected, areas[flat].tolist()))
    return areas
