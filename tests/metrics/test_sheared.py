"""Distances, volumes and diameters on sheared grids (a tilted gantry), by the whole matrix."""

from itertools import combinations
from math import cos, pi, radians, sin, tan

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from rankseg_rma.grid import shear_degrees, spacing_of, voxel_volume_ml
from rankseg_rma.metrics import longest_diameter_mm, match_lesions, measure_distances, surface, surface_dice
from rankseg_rma.metrics.lits import score_lits_case
from rankseg_rma.metrics.spacing import require_spacing

# 1 x 1 mm pixels in planes 3 mm apart, each moved along the second axis by the tilt of 25 degrees.
TILTED = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 3 * tan(radians(25))], [0.0, 0.0, 3.0]])
# No two axes perpendicular, mirrored, in an order of axes that is not the patient's.
SKEWED = np.array([[0.3, 0.2, 2.4], [-0.9, 0.4, 0.5], [0.1, 0.8, -1.1]])
SKEWED_PLANE = np.array([[0.8, 0.7], [0.1, 1.9]])


def blobs(rng, shape, share=0.2):
    first, other = (gaussian_filter(rng.normal(size=shape), 2.0) for _ in range(2))
    return tuple(field > np.quantile(field, 1 - share) for field in (first + other, first))


def moved_ball():
    """A ball of 9 mm, as it looks to who takes the axes for perpendicular, and the same two slices on."""
    index = np.moveaxis(np.indices((25, 25, 15)), 0, -1)
    reference = (((index - [12, 12, 5]) * [1, 1, 3]) ** 2).sum(axis=-1) <= 81
    return np.roll(reference, 2, axis=2), reference


def border_points(mask, steps_mm, outside_is_foreground=False):
    return np.argwhere(mask & ~binary_erosion(mask, border_value=outside_is_foreground)) @ steps_mm.T


def test_moved_by_two_slices():
    found = measure_distances(*moved_ball(), TILTED, outside_is_foreground=False)
    assert found.hd95_mm == pytest.approx(6.135, abs=5e-4) and found.assd_mm == pytest.approx(3.296, abs=5e-4)
    # Twice the step's own length, 6.62 mm, is what no mask in the patient is away from the other.
    wrong = measure_distances(*moved_ball(), np.linalg.norm(TILTED, axis=0), outside_is_foreground=False)
    assert wrong.hd95_mm == pytest.approx(6.620, abs=5e-4) and wrong.assd_mm == pytest.approx(3.514, abs=5e-4)


def test_moved_by_two_slices_by_a_tree_in_the_patient():
    points = [border_points(mask, TILTED) for mask in moved_ball()]
    there, back = (cKDTree(points[1 - k]).query(points[k])[0] for k in (0, 1))
    found = measure_distances(*moved_ball(), TILTED, outside_is_foreground=False)
    np.testing.assert_allclose(found.prediction_to_reference_mm, there, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.reference_to_prediction_mm, back, rtol=1e-12, atol=1e-12)
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))


@pytest.mark.parametrize("near_voxels", [0, 1, surface.NEAR_VOXELS])
@pytest.mark.parametrize("outside_is_foreground", [False, True])
@pytest.mark.parametrize(
    ("shape", "steps_mm"), [((17, 23, 12), TILTED), ((14, 9, 20), SKEWED), ((31, 44), SKEWED_PLANE)]
)
def test_against_brute_force(rng, monkeypatch, shape, steps_mm, outside_is_foreground, near_voxels):
    monkeypatch.setattr(surface, "NEAR_VOXELS", near_voxels)
    for share in (0.2, 0.02):
        masks = blobs(rng, shape, share)
        found = measure_distances(*masks, steps_mm, outside_is_foreground=outside_is_foreground)
        between = cdist(*(border_points(mask, steps_mm, outside_is_foreground) for mask in masks))
        np.testing.assert_allclose(found.prediction_to_reference_mm, between.min(axis=1), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.reference_to_prediction_mm, between.min(axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_perpendicular_axes_give_the_same_bits_in_either_form(rng, order):
    sizes_mm, flips = np.array([0.7, 1.3, 2.9])[list(order)], np.diag([1.0, -1.0, 1.0])[:, list(order)]
    for turn in (np.eye(3), Rotation.random(rng=1).as_matrix()):
        # As on disk: in single precision, which leaves the axes a few millionths off.
        steps_mm = (turn @ flips * sizes_mm).astype(np.float32).astype(np.float64)
        affine = np.eye(4)
        affine[:3, :3] = steps_mm
        assert require_spacing("test", steps_mm, 3).tolist() == list(spacing_of(affine))
        masks = blobs(rng, (15, 14, 13))
        one, other = (
            measure_distances(*masks, given, outside_is_foreground=False) for given in (steps_mm, spacing_of(affine))
        )
        assert one.prediction_to_reference_mm.tobytes() == other.prediction_to_reference_mm.tobytes()
        assert (one.hd95_mm, one.assd_mm, one.rmsd_mm) == (other.hd95_mm, other.assd_mm, other.rmsd_mm)
        options = {"connectivity": 26, "slice_axis": 2}
        assert match_lesions(*masks, steps_mm, **options) == match_lesions(*masks, spacing_of(affine), **options)


def test_surface_dice_is_refused(rng):
    masks = blobs(rng, (9, 9, 9))
    with pytest.raises(ValueError, match="surface_dice: spacing_mm must be of perpendicular axes; got .* resample"):
        surface_dice(*masks, TILTED, [1.0], np.ones(256))


def test_lesions_have_the_volume_of_the_patient():
    mask = np.zeros((8, 8, 4), bool)
    mask[2:5, 2:4, 1:3] = True
    affine = np.eye(4)
    affine[:3, :3] = TILTED
    (lesion,) = match_lesions(mask, mask, TILTED, connectivity=26, slice_axis=2).references
    # Twelve voxels of 3 mm3: shear moves planes, it adds nothing to them. The step of 3.31 mm would give 0.0397.
    assert lesion.volume_ml == pytest.approx(0.036) == 12 * voxel_volume_ml(affine)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_diameters_against_all_pairs_of_corners(rng, axis):
    for share in (0.3, 0.02):
        mask, _ = blobs(rng, (11, 12, 13), share)
        in_plane, longest = np.delete(SKEWED, axis, axis=1), 0.0
        for plane in np.moveaxis(mask, axis, 0):
            corners = np.concatenate([np.argwhere(plane) + step for step in np.ndindex(2, 2)]) @ in_plane.T
            longest = max(longest, cdist(corners, corners).max(initial=0.0))
        assert longest_diameter_mm(mask, SKEWED, axis) == pytest.approx(longest)


def test_diameter_of_one_row_takes_the_longer_diagonal():
    steps_mm = np.array([[1.0, 0.6], [0.0, 0.8]])
    # Five pixels in a row along (0.6, 0.8): from (0, 0) to (1, 0) + 5 (0.6, 0.8) = (4, 4).
    assert longest_diameter_mm(np.ones((1, 5), bool), steps_mm, 0) == pytest.approx(32**0.5)
    assert longest_diameter_mm(np.ones((1, 5), bool), steps_mm * [-1, 1], 0) == pytest.approx(32**0.5)


def test_diameters_of_a_tilted_slice_are_those_of_its_plane(rng):
    mask, _ = blobs(rng, (15, 15, 5))
    assert longest_diameter_mm(mask, TILTED, 2) == longest_diameter_mm(mask, (1.0, 1.0, 3.0), 2)


def test_lits_distances_against_brute_force(rng):
    organs = [mask.astype(np.uint8) for mask in blobs(rng, (12, 13, 9))]
    found = score_lits_case(*organs, SKEWED).liver
    padded = [np.pad(mask.astype(bool), 1) for mask in organs]
    # The border of the challenge: a background voxel among the 18 neighbours.
    near = np.array([step for step in np.ndindex(3, 3, 3) if 0 < sum(k != 1 for k in step) < 3])
    footprint = np.zeros((3, 3, 3), bool)
    footprint[tuple(near.T)] = footprint[1, 1, 1] = True
    between = cdist(*(np.argwhere(mask & ~binary_erosion(mask, footprint)) @ SKEWED.T for mask in padded))
    pooled = np.concatenate([between.min(axis=1), between.min(axis=0)])
    assert (found.assd_mm, found.msd_mm) == pytest.approx((pooled.mean(), pooled.max()))


@pytest.mark.parametrize("degrees", [0.03, 0.1, 25.0, 80.0])
def test_angle_of_the_shear(degrees):
    for first, second in combinations(range(3), 2):
        steps_mm = np.diag([0.7, -1.2, 3.0])
        steps_mm[first, second] = abs(steps_mm[second, second]) * tan(radians(degrees))
        expected = degrees if degrees > 0.06 else 0.0
        turned = Rotation.random(rng=2).as_matrix() @ steps_mm
        assert shear_degrees(steps_mm) == pytest.approx(expected) == shear_degrees(turned)


def test_tilt_that_moves_the_rows():
    """Slices that lean by the tilt while the table moves along the body: the other way to store the same scan."""
    leaning = np.array([[1.0, 0, 0], [0, cos(radians(25)), 0], [0, sin(radians(25)), 3]])
    assert shear_degrees(leaning) == pytest.approx(25)
    assert require_spacing("test", leaning, 3).tolist() == leaning.tolist()


@pytest.mark.parametrize(
    "steps_mm", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.arange(1.0, 10).reshape(3, 3), np.eye(4), TILTED[:2]]
)
def test_steps_that_span_no_volume(steps_mm):
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match=r"spacing_mm must be 3 positive numbers in mm, or an invertible \(3, 3\)"):
        measure_distances(mask, mask, steps_mm, outside_is_foreground=False)


def test_nearly_flat_grids_need_no_more_memory(rng):
    """Axes that almost lie in one plane: the search by position stays within its few voxels."""
    steps_mm = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1e-3]])
    offsets, lengths_mm = surface._shells(steps_mm, surface.NEAR_VOXELS * 1e-3)
    assert len(offsets) <= (2 * surface.NEAR_VOXELS + 1) ** 3 and lengths_mm[0] == 0
    masks = blobs(rng, (9, 9, 9))
    between = cdist(*(border_points(mask, steps_mm) for mask in masks))
    found = measure_distances(*masks, steps_mm, outside_is_foreground=False)
    np.testing.assert_allclose(found.prediction_to_reference_mm, between.min(axis=1), rtol=1e-6, atol=1e-9)


def test_volume_of_a_ball_in_the_patient():
    """Voxels whose centre lies in a ball of 20 mm in the patient, on a tilted grid: 4 / 3 pi r^3 of them."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (60, 80, 30)), indexing="ij"), axis=-1)
    ball = (((index - [30, 40, 15]) @ TILTED.T) ** 2).sum(axis=-1) <= 400
    (lesion,) = match_lesions(ball, ball, TILTED, connectivity=26, slice_axis=2).references
    assert lesion.volume_ml == pytest.approx(4 / 3 * pi * 8, rel=5e-3)
    # Where it is widest a slice cuts it across its middle.
    assert lesion.diameter_mm == pytest.approx(40, abs=1.5)
