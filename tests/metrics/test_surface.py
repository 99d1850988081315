"""Surface distances and surface Dice against MONAI, brute force, closed forms and a published evaluation."""

import json

import nibabel
import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from monai.metrics.utils import get_code_to_measure_table
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.distance import cdist

from rankseg_rma.metrics import count_overlap, surface
from rankseg_rma.metrics.surface import border_of, crop_to_union, measure_distances, surface_dice

SCORES = ("hd95_mm", "assd_mm", "rmsd_mm", "mssd_mm")
GRIDS = [
    ((17, 23, 12), (0.75, 0.9, 2.5)),
    ((9, 14, 30), (5.0, 1.25, 0.7)),
    ((16, 16, 16), (1.0, 1.0, 1.0)),
    ((31, 44), (0.5, 1.7)),
    ((1, 20, 25), (3.0, 0.8, 0.8)),
]


def blobs(rng, shape, share=0.2, wobble=0.5):
    """Two masks of several blobs that overlap in part and touch the edges of the volume."""
    first, other = (gaussian_filter(rng.normal(size=shape), 2.0) for _ in range(2))
    second = first + wobble * other
    return tuple(field > np.quantile(field, 1 - share) for field in (second, first))


def spread_masks(rng, shape):
    """Pairs that differ in kind: large, small and far apart, one voxel, at the edge, nested, full."""
    yield blobs(rng, shape)
    yield blobs(rng, shape, share=0.03, wobble=3.0)
    one, other, thin, full = (np.zeros(shape, bool) for _ in range(4))
    one.flat[rng.integers(one.size)] = True
    other[(-1,) * one.ndim] = True
    thin[..., 0] = True
    full[:] = True
    yield one, other
    yield thin, blobs(rng, shape)[0]
    yield full, blobs(rng, shape)[1]
    yield one, full


def table_of(spacing_mm):
    return get_code_to_measure_table(spacing_mm)[0].numpy()


def monai_batch(mask):
    return torch.from_numpy(np.ascontiguousarray(mask))[None, None]


def monai_surface_dice(prediction, reference, spacing_mm, tolerance_mm):
    masks = monai_batch(prediction), monai_batch(reference)
    options = {"include_background": True, "spacing": list(spacing_mm), "use_subvoxels": True}
    return float(compute_surface_dice(*masks, class_thresholds=[tolerance_mm], **options))


def border_points(mask, spacing_mm, outside_is_foreground):
    return np.argwhere(mask & ~binary_erosion(mask, border_value=outside_is_foreground)) * spacing_mm


def scores(found):
    return [getattr(found, name) for name in SCORES]


@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_distances_against_monai(rng, shape, spacing_mm):
    for prediction, reference in spread_masks(rng, shape):
        found = measure_distances(prediction, reference, spacing_mm, outside_is_foreground=False)
        masks = monai_batch(prediction), monai_batch(reference)
        options = {"include_background": True, "spacing": list(spacing_mm)}
        # MONAI interpolates between two distances in single precision.
        hd95_mm = float(compute_hausdorff_distance(*masks, percentile=95, **options))
        assert found.hd95_mm == pytest.approx(hd95_mm, rel=1e-5)
        assert found.mssd_mm == pytest.approx(float(compute_hausdorff_distance(*masks, **options)))
        assd_mm = float(compute_average_surface_distance(*masks, symmetric=True, **options))
        assert found.assd_mm == pytest.approx(assd_mm)


@pytest.mark.parametrize("near_voxels", [0, 1, surface.NEAR_VOXELS])
@pytest.mark.parametrize("outside_is_foreground", [False, True])
@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_distances_against_brute_force(rng, monkeypatch, shape, spacing_mm, outside_is_foreground, near_voxels):
    monkeypatch.setattr(surface, "NEAR_VOXELS", near_voxels)
    for masks in spread_masks(rng, shape):
        found = measure_distances(*masks, spacing_mm, outside_is_foreground=outside_is_foreground)
        points = [border_points(mask, spacing_mm, outside_is_foreground) for mask in masks]
        if not all(map(len, points)):  # the full mask has no border when the outside is foreground
            assert np.isnan(scores(found)).all()
            continue
        between = cdist(*points)
        np.testing.assert_allclose(found.prediction_to_reference_mm, between.min(axis=1), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.reference_to_prediction_mm, between.min(axis=0), rtol=1e-9, atol=1e-12)
        pooled = np.concatenate([between.min(axis=1), between.min(axis=0)])
        directed = [np.quantile(between.min(axis=axis), 0.95) for axis in (0, 1)]
        expected = [max(directed), pooled.mean(), (pooled**2).mean() ** 0.5, pooled.max()]
        assert scores(found) == pytest.approx(expected)


@pytest.mark.parametrize("near_voxels", [1, surface.NEAR_VOXELS])
@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_surface_dice_against_monai(rng, monkeypatch, shape, spacing_mm, near_voxels):
    monkeypatch.setattr(surface, "NEAR_VOXELS", near_voxels)
    # The spacings themselves are tolerances that many distances meet exactly.
    tolerances_mm = (0.0, 0.6, *sorted({*spacing_mm}), 9.0)
    for masks in spread_masks(rng, shape):
        found = surface_dice(*masks, spacing_mm, tolerances_mm, table_of(spacing_mm))
        expected = [monai_surface_dice(*masks, spacing_mm, tolerance) for tolerance in tolerances_mm]
        assert found == pytest.approx(expected, abs=1e-6)


def test_border_against_scipy_erosion(rng):
    for shape, _ in GRIDS:
        for mask, _ in spread_masks(rng, shape):
            for outside in (False, True):
                expected = mask & ~binary_erosion(mask, border_value=outside)
                np.testing.assert_array_equal(border_of(mask, outside), expected)


def test_parallel_planes_by_hand():
    """Planes of one voxel at 2 and 5 along the last axis, 0.5 mm apart per step: 1.5 mm everywhere."""
    prediction, reference = np.zeros((2, 4, 5, 9), bool)
    prediction[..., 2], reference[..., 5] = True, True
    spacing_mm = (1.0, 2.0, 0.5)
    found = measure_distances(prediction, reference, spacing_mm, outside_is_foreground=False)
    assert len(found.prediction_to_reference_mm) == len(found.reference_to_prediction_mm) == 20
    assert scores(found) == [1.5] * 4
    # Each plane has a sheet of elements on either side, of equal areas: at 1|2 and 2|3, and at 4|5 and 5|6. The two
    # inner sheets are 2 steps = 1 mm apart; the outer ones 3 steps = 1.5 mm from the nearest of the other mask.
    nsd = surface_dice(prediction, reference, spacing_mm, (0.99, 1.0, 1.49, 1.5), table_of(spacing_mm))
    assert nsd == pytest.approx((0, 0.5, 0.5, 1))


def test_shifted_cubes_by_hand():
    """Cubes of 3 x 3 x 3 voxels, one step of 0.75 mm apart along the first axis; 2 and 3 mm along the others."""
    prediction, reference = np.zeros((2, 8, 7, 7), bool)
    prediction[1:4, 2:5, 2:5], reference[2:5, 2:5, 2:5] = True, True
    found = measure_distances(prediction, reference, (0.75, 2.0, 3.0), outside_is_foreground=False)
    # A border has 26 voxels: 9, the ring of 8, and 9. The prediction's first 9 are 0.75 mm off; its ring lies on the
    # reference's first 9; of its last 9, 8 lie on the reference's ring and the middle is 0.75 mm from either side.
    # That is 10 of 26, and as many the other way round.
    for distances_mm in (found.prediction_to_reference_mm, found.reference_to_prediction_mm):
        assert sorted(distances_mm) == [0.0] * 16 + [0.75] * 10
    assert scores(found) == pytest.approx([0.75, 20 / 52 * 0.75, (20 / 52) ** 0.5 * 0.75, 0.75])


def test_hd95_takes_the_worse_direction():
    """Reference: 1 voxel. Prediction: the same and 19 more, 1 to 19 steps of 2 mm away, in one row."""
    prediction, reference = np.zeros((2, 1, 20), bool)
    prediction[:], reference[0, 0] = True, True
    found = measure_distances(prediction, reference, (1.0, 2.0), outside_is_foreground=False)
    # 0, 2, ..., 38 mm: the 95th percentile lies at place 0.95 x 19 = 18.05, which is 36.1 mm. Pooled with the 0 of the
    # other direction it would lie at place 0.95 x 20 = 19 of 0, 0, 2, ..., 38, which is 36 mm.
    assert found.hd95_mm == pytest.approx(36.1)
    assert found.assd_mm == pytest.approx(380 / 21)  # sum of 0..38 over 20 + 1 distances


def test_outside_of_the_volume():
    """Slabs of 3 and 5 layers from the volume's edge on, which fill its other axes; layers of 0.5 mm."""
    prediction, reference = np.zeros((2, 4, 5, 8), bool)
    prediction[..., :3], reference[..., :5] = True, True
    found = measure_distances(prediction, reference, (1.0, 2.0, 0.5), outside_is_foreground=True)
    # Only the free faces are borders, 4 x 5 voxels each, 2 layers apart.
    np.testing.assert_array_equal(found.prediction_to_reference_mm, np.full(20, 1.0))
    np.testing.assert_array_equal(found.reference_to_prediction_mm, np.full(20, 1.0))
    found = measure_distances(prediction, reference, (1.0, 2.0, 0.5), outside_is_foreground=False)
    # Now all faces are: 3 x 20 voxels less the inner 2 x 3 x 1, and 5 x 20 less 2 x 3 x 3.
    assert len(found.prediction_to_reference_mm) == 60 - 6
    assert len(found.reference_to_prediction_mm) == 100 - 18


def test_far_voxels_in_a_large_volume():
    """One voxel each, 30, 20 and 60 steps of 0.1, 0.2 and 0.2 mm apart: 3, 4 and 12 mm make 13 mm, to the last bit."""
    prediction, reference = np.zeros((2, 100, 90, 200), bool)
    prediction[40, 50, 100], reference[70, 30, 160] = True, True
    found = measure_distances(prediction, reference, (0.1, 0.2, 0.2), outside_is_foreground=False)
    assert scores(found) == pytest.approx([13.0] * 4, rel=1e-15)
    # A voxel has 8 elements of equal area at its corners. Along each axis a corner on the near side has one step less
    # to go: 2.9, 3.8 and 11.8 mm. All near make 12.73 mm; far along the first or second axis only 12.76 and 12.79 mm;
    # far along both 12.82 mm; the 4 that are far along the third axis 12.92 to 13 mm.
    nsd = surface_dice(prediction, reference, (0.1, 0.2, 0.2), (12.7, 12.8, 12.9, 13.0), table_of((0.1, 0.2, 0.2)))
    assert nsd == pytest.approx((0, 3 / 8, 4 / 8, 1))


@pytest.mark.parametrize("step_mm", [0.1, 0.7, 0.8, float(np.float32(0.8)), float(np.float32(0.7))])
def test_tolerance_includes_ties(step_mm):
    """Sheets that are whole steps apart lie within that distance, whatever the last bit of the spacing says."""
    spacing_mm = (3.0, 3.0, step_mm)
    for steps in (1, 3, 5, 7, 11):
        prediction, reference = np.zeros((2, 3, 3, 20), bool)
        prediction[..., :2], reference[..., : 2 + steps] = True, True
        tolerance_mm = round(steps * step_mm, 3)
        (nsd,) = surface_dice(prediction, reference, spacing_mm, [tolerance_mm], table_of(spacing_mm))
        (less,) = surface_dice(prediction, reference, spacing_mm, [tolerance_mm - 1e-3], table_of(spacing_mm))
        assert nsd == pytest.approx(monai_surface_dice(prediction, reference, spacing_mm, tolerance_mm), abs=1e-6)
        assert less < nsd == 1


@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_identical_masks(rng, shape, spacing_mm):
    for mask, _ in spread_masks(rng, shape):
        found = measure_distances(mask, mask.copy(), spacing_mm, outside_is_foreground=False)
        assert scores(found) == [0.0] * 4
        assert len(found.prediction_to_reference_mm) == border_of(mask, False).sum()
        assert surface_dice(mask, mask.copy(), spacing_mm, (0.0, 1.0), table_of(spacing_mm)) == (1.0, 1.0)


@pytest.mark.parametrize("outside_is_foreground", [False, True])
@pytest.mark.parametrize("shape", [(6, 7, 8), (6, 7), (0, 4, 4)])
def test_empty_masks_are_not_defined(shape, outside_is_foreground):
    empty, some, spacing_mm = np.zeros(shape, bool), np.zeros(shape, bool), (1.0, 2.0, 3.0)[: len(shape)]
    some[2:4, 2:4] = True
    for masks in ((empty, empty), (some, empty), (empty, some)):
        found = measure_distances(*masks, spacing_mm, outside_is_foreground=outside_is_foreground)
        assert found.prediction_to_reference_mm.size == found.reference_to_prediction_mm.size == 0
        assert np.isnan(scores(found)).all()
        assert np.isnan(surface_dice(*masks, spacing_mm, (0.0, 2.0), table_of(spacing_mm))).all()
    assert not border_of(empty, outside_is_foreground).any()


def test_memory_layout_does_not_matter(rng):
    spacing_mm = (0.75, 0.9, 2.5)
    prediction, reference = blobs(rng, (17, 23, 12))
    tolerances_mm, table = (0.5, 1.0), table_of(spacing_mm)
    expected = scores(measure_distances(prediction, reference, spacing_mm, outside_is_foreground=True))
    nsd = surface_dice(prediction, reference, spacing_mm, tolerances_mm, table)
    wide = np.zeros((34, 23, 36), bool)
    wide[::2, ::-1, ::3] = prediction
    frozen = reference.copy()
    frozen.flags.writeable = False
    table.flags.writeable = False
    for first, second in (
        (np.asfortranarray(prediction), np.asfortranarray(reference)),
        (wide[::2, ::-1, ::3], frozen),
        (prediction, np.asfortranarray(reference)),
    ):
        found = measure_distances(first, second, spacing_mm, outside_is_foreground=True)
        assert scores(found) == pytest.approx(expected, rel=1e-12)
        assert surface_dice(first, second, spacing_mm, tolerances_mm, table) == pytest.approx(nsd, rel=1e-12)
    turned = measure_distances(prediction.T, reference.T, spacing_mm[::-1], outside_is_foreground=True)
    assert scores(turned) == pytest.approx(expected, rel=1e-12)


def test_crop_keeps_every_score(rng):
    """A crop is the box and one voxel more where there is one, and measures as the volume does."""
    spacing_mm = (0.75, 0.9, 2.5)
    inner = blobs(rng, (8, 9, 6), share=0.4)
    prediction, reference = np.zeros((2, 20, 9, 30), bool)
    prediction[12:, :, 10:16], reference[12:, :, 10:16] = inner
    crops = crop_to_union(prediction, reference)
    assert np.shares_memory(crops[0], prediction)
    union = np.argwhere(prediction | reference)
    low, high = np.maximum(union.min(axis=0) - 1, 0), np.minimum(union.max(axis=0) + 2, prediction.shape)
    box = tuple(map(slice, low, high))
    assert (high[0], low[1], high[1]) == (20, 0, 9)  # at the volume's edge
    for crop, whole in zip(crops, (prediction, reference), strict=True):
        np.testing.assert_array_equal(crop, whole[box])
    for outside in (False, True):
        found = [
            measure_distances(*masks, spacing_mm, outside_is_foreground=outside)
            for masks in (crops, (prediction, reference), crop_to_union(*crops))
        ]
        points = [border_points(mask, spacing_mm, outside) for mask in (prediction, reference)]
        assert found[0].mssd_mm == pytest.approx(max(cdist(*points).min(axis=axis).max() for axis in (0, 1)))
        assert scores(found[0]) == scores(found[1]) == scores(found[2])


MASK = np.ones((3, 3, 3), bool)
SPACING_MM = (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [(MASK.astype(np.uint8), MASK), (MASK, MASK * 1.0), (MASK, MASK[:2]), (MASK[0, 0], MASK[0, 0]), (MASK[None],) * 2],
)
def test_wrong_masks(prediction, reference):
    spacing_mm = SPACING_MM[: prediction.ndim]
    for call in (
        lambda: measure_distances(prediction, reference, spacing_mm, outside_is_foreground=False),
        lambda: surface_dice(prediction, reference, spacing_mm, [1.0], table_of(SPACING_MM)),
    ):
        with pytest.raises(ValueError, match="(prediction|reference) must be (a bool array|of the reference's shape)"):
            call()


def test_wrong_mask_of_border():
    with pytest.raises(ValueError, match="border_of: mask must be a bool array with 2 or 3 axes; got int64"):
        border_of(np.ones((3, 3), np.int64), False)


@pytest.mark.parametrize("spacing_mm", [(1.0, 2.0), (1.0, 2.0, 0.0), (1.0, 2.0, np.nan), (1.0, np.inf, 1.0), 2.0])
def test_wrong_spacing(spacing_mm):
    with pytest.raises(ValueError, match="measure_distances: spacing_mm must be 3 positive numbers in mm"):
        measure_distances(MASK, MASK, spacing_mm, outside_is_foreground=False)
    with pytest.raises(ValueError, match="surface_dice: spacing_mm must be"):
        surface_dice(MASK, MASK, spacing_mm, [1.0], table_of(SPACING_MM))


@pytest.mark.parametrize("tolerances_mm", [[-1.0], [1.0, np.nan], [np.inf], 1.0])
def test_wrong_tolerances(tolerances_mm):
    with pytest.raises(ValueError, match="tolerances_mm must be finite numbers of at least 0 mm"):
        surface_dice(MASK, MASK, SPACING_MM, tolerances_mm, table_of(SPACING_MM))


@pytest.mark.parametrize(
    "table", [table_of(SPACING_MM[::-1]), table_of((1.0, 1.0, 1.0)), table_of((1.0, 2.0)), np.full(256, np.nan)]
)
def test_table_of_another_spacing(table):
    with pytest.raises(ValueError, match="area_of_code_mm2 must be"):
        surface_dice(MASK, MASK, SPACING_MM, [1.0], table)


def test_published_evaluation_of_chaos(real_data):
    folder = real_data / "chaos_ct_liver"
    facts = json.loads((folder / "reference_metrics.json").read_text(encoding="utf-8"))
    published = facts["recomputed_on_these_files"]
    reference, prediction = (
        np.asanyarray(nibabel.load(folder / facts[side]).dataobj) > 0 for side in ("reference", "prediction")
    )
    spacing_mm = facts["spacing_mm"]
    found = measure_distances(prediction, reference, spacing_mm, outside_is_foreground=True)
    assert found.assd_mm == pytest.approx(published["ASSD_mm"], abs=5e-7)
    assert found.mssd_mm == published["MSSD_mm"] == 14.0
    (counts,) = count_overlap(prediction, reference, [1])
    dice = 2 * counts.tp / (counts.num_prediction + counts.num_reference)
    assert dice == pytest.approx(published["DICE"], abs=5e-8)
    difference_percent = 100 * abs(counts.num_prediction - counts.num_reference) / counts.num_reference
    assert difference_percent == pytest.approx(published["RAVD_percent"], abs=5e-7)
    (nsd,) = surface_dice(prediction, reference, spacing_mm, [2.0], table_of(spacing_mm))
    assert nsd == pytest.approx(monai_surface_dice(prediction, reference, spacing_mm, 2.0), abs=1e-6)
