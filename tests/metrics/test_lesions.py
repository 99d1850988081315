"""Components, one-to-one matches and sizes of lesions, against cases counted by hand and independent judges."""

from itertools import combinations, product
from math import hypot, isnan, nan, sqrt

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage.measure import regionprops

from rankseg_rma.metrics.lesions import (
    IOU_THRESHOLDS,
    VOLUME_BIN_NAMES,
    Detection,
    Lesion,
    LesionMatch,
    bounding_box,
    count_detection,
    label_components,
    match_lesions,
    recall_by_volume,
    union_box,
)
from rankseg_rma.metrics.size import longest_diameter_mm, longest_diameters_mm, recist_sum_mm

SPACING_MM = (0.5, 2.0, 3.0)


def rods(*spans, shape=(3, 12, 2)):
    """A mask with one rod of voxels per (first, last) position along the second axis, at the edge of the volume."""
    mask = np.zeros(shape, bool)
    for first, last in spans:
        mask[0, first : last + 1, 0] = True
    return mask


def match(prediction, reference, connectivity=26):
    return match_lesions(prediction, reference, SPACING_MM, connectivity=connectivity, slice_axis=0)


def counts(found):
    """(TP, FP, FN) at each threshold."""
    return [
        (found.true_positives(k), found.false_positives(k), found.false_negatives(k))
        for k in range(len(IOU_THRESHOLDS))
    ]


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("shape", [(40, 30), (14, 12, 10)])
def test_components_against_scipy(rng, shape, layout):
    mask = layout(rng.random(shape) < 0.25)
    mask.setflags(write=False)
    for connectivity, rank in ((26, len(shape)), (6, 1)):
        labels, count = label_components(mask, connectivity)
        judge, expected = ndimage.label(mask, ndimage.generate_binary_structure(len(shape), rank))
        assert (count, labels.dtype) == (expected, np.int32)
        # The same parts: as many pairs of numbers as parts, background included.
        assert len(np.unique(np.stack([labels.ravel(), judge.ravel()]), axis=1).T) == count + 1
        np.testing.assert_array_equal(labels, label_components(np.ascontiguousarray(mask), connectivity)[0])


def test_voxels_that_touch_at_a_corner_are_one_lesion_at_26_only():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[1, 1, 2] = True
    assert [label_components(mask, connectivity)[1] for connectivity in (26, 6)] == [1, 2]
    assert label_components(np.zeros((3, 3), bool), 26)[1] == 0
    assert label_components(np.zeros((0, 3), bool), 6)[1] == 0
    # The corner belongs to one reference lesion at 26 neighbours, and is one of two at 6.
    prediction = mask.copy()
    prediction[0, 0, 0] = False
    # 26: IoU 2 / 3, found. 6: the two voxels exactly, the single voxel missed.
    assert counts(match(prediction, mask)) == [(1, 0, 0)] * 4
    assert counts(match(prediction, mask, connectivity=6)) == [(1, 0, 1)] * 4


def test_one_prediction_over_two_references():
    # References of 3 voxels, one prediction of 9: IoU 3 / 9 with both. One of them counts, up to 0.25.
    found = match(rods((0, 8)), rods((0, 2), (6, 8)))
    assert counts(found) == [(1, 0, 1)] * 3 + [(0, 1, 2)]
    assert (found.precision(0), found.recall(0), found.f1(0)) == (1.0, 0.5, pytest.approx(2 / 3))
    assert (found.precision(3), found.recall(3), found.f1(3)) == (0.0, 0.0, 0.0)
    # Dice 2 * 3 / (9 + 3) = 0.5 over two references and no false positive.
    assert found.lesion_dice == pytest.approx(0.25)
    assert found.panoptic_quality == 0.0
    assert [lesion.partner for lesion in found.references] == [1, 1]
    assert found.predictions[0].partner == 1
    assert [lesion.best_iou for lesion in found.references] == pytest.approx([1 / 3, 1 / 3])
    # A connected bridge: the same if the references touch at a corner and only faces count.
    reference, prediction = np.eye(2, dtype=bool)[np.newaxis], np.ones((1, 2, 2), bool)
    assert counts(match(prediction, reference, connectivity=6))[0] == (1, 0, 1)
    assert counts(match(prediction, reference, connectivity=26))[0] == (1, 0, 0)


def test_two_predictions_in_one_reference():
    # Reference of 9 voxels, predictions of 5 and 3: IoU 5 / 9 and 3 / 9. The better one is the match.
    found = match(rods((0, 4), (6, 8)), rods((0, 8)))
    assert counts(found) == [(1, 1, 0)] * 4
    assert [lesion.matched for lesion in found.predictions] == [(True,) * 4, (False,) * 4]
    # Dice 2 * 5 / (9 + 5) over one reference and one false positive; IoU 5 / 9 over 1 + 1 / 2.
    assert found.lesion_dice == pytest.approx(5 / 7 / 2)
    assert found.panoptic_quality == pytest.approx(5 / 9 / 1.5)
    assert (found.precision(3), found.recall(3)) == (0.5, 1.0)


def test_more_pairs_come_before_larger_ious():
    # Reference A: 0-5, B: 8-9. Prediction P: 2-8 (7 voxels), Q: 0. IoU: P-A 4 / 9, P-B 1 / 8, Q-A 1 / 6.
    # P-A is the best pair, but P-B and Q-A are two pairs. Above 0.1: the same; above 0.25 only P-A is left.
    found = match(rods((0, 0), (2, 8)), rods((0, 5), (8, 9)))
    assert counts(found) == [(2, 0, 0), (2, 0, 0), (1, 1, 1), (0, 2, 2)]
    assert found.matched_ious[0] == pytest.approx((1 / 6, 1 / 8))
    # The best partner is asked for apart from the match.
    assert [lesion.partner for lesion in found.references] == [2, 2]
    assert found.predictions[1].best_iou == pytest.approx(4 / 9)


@pytest.mark.parametrize(("size", "k"), [(2, 3), (4, 2), (10, 1)])
def test_thresholds_are_strict(size, k):
    # One voxel inside a reference of 2, 4 or 10: IoU exactly 0.5, 0.25 or 0.1.
    found = match(rods((0, 0)), rods((0, size - 1)))
    assert found.references[0].best_iou == IOU_THRESHOLDS[k]
    assert [found.true_positives(j) for j in range(4)] == [int(j < k) for j in range(4)]
    assert found.references[0].matched == tuple(j < k for j in range(4))


def test_sides_without_a_lesion():
    some, none = rods((0, 1), (11, 11)), rods()
    both = match(none, none)
    assert counts(both) == [(0, 0, 0)] * 4
    assert all(isnan(value) for value in (both.precision(0), both.recall(0), both.f1(0)))
    assert isnan(both.lesion_dice) and isnan(both.panoptic_quality)
    invented = match(some, none)
    assert counts(invented) == [(0, 2, 0)] * 4
    assert (invented.precision(0), invented.f1(0), invented.lesion_dice, invented.panoptic_quality) == (0, 0, 0, 0)
    assert isnan(invented.recall(0))
    assert (invented.predictions[0].partner, invented.predictions[0].best_iou) == (0, 0.0)
    missed = match(none, some)
    assert counts(missed) == [(0, 0, 2)] * 4
    assert (missed.recall(0), missed.f1(0), missed.lesion_dice, missed.panoptic_quality) == (0, 0, 0, 0)
    assert isnan(missed.precision(0))


def test_measurements_of_a_lesion():
    mask = np.zeros((8, 9, 10), bool)
    mask[6:8, 3:7, 9] = True
    mask[0, 0, 0] = True
    small, large = match(mask, mask).references
    # 8 voxels of 3 mm3; corners 2 * 0.5 mm and 4 * 2 mm apart across axis 2, one voxel thick along axis 0.
    assert (large.voxels, large.volume_ml) == (8, pytest.approx(0.024))
    assert large.centroid_index == (6.5, 4.5, 9.0)
    assert large.diameter_mm == pytest.approx(hypot(4 * 2.0, 3.0))
    assert (large.number, large.partner, large.best_iou, large.matched) == (2, 2, 1.0, (True,) * 4)
    assert (small.voxels, small.centroid_index, small.diameter_mm) == (1, (0, 0, 0), pytest.approx(hypot(2.0, 3.0)))
    across = match_lesions(mask, mask, SPACING_MM, connectivity=26, slice_axis=2).references
    assert across[1].diameter_mm == pytest.approx(hypot(2 * 0.5, 4 * 2.0))
    assert (match(mask, mask).lesion_dice, match(mask, mask).panoptic_quality) == (1.0, 1.0)
    plane = match_lesions(mask[:, :, 9], mask[:, :, 9], (0.5, 2.0), connectivity=26, slice_axis=0).references[0]
    assert (plane.centroid_index, plane.diameter_mm) == ((6.5, 4.5), pytest.approx(hypot(1.0, 8.0)))


def overlap_table(prediction, reference, connectivity_rank):
    """(prediction, reference) IoU of all components, from scipy's labels and a loop."""
    structure = ndimage.generate_binary_structure(prediction.ndim, connectivity_rank)
    (p, num_p), (r, num_r) = (ndimage.label(mask, structure) for mask in (prediction, reference))
    table = np.zeros((num_p, num_r))
    for i, j in np.unique(np.stack([p, r])[:, (p > 0) & (r > 0)], axis=1).T:
        table[i - 1, j - 1] = ((p == i) & (r == j)).sum() / ((p == i) | (r == j)).sum()
    return table


def best_match(table, threshold):
    """Number of pairs and sum of IoU of the best match, by trying every set of pairs."""
    pairs = [tuple(pair) for pair in np.argwhere(table > threshold)]
    for size in range(len(pairs), 0, -1):
        sums = [
            sum(table[pair] for pair in chosen)
            for chosen in combinations(pairs, size)
            if len({i for i, _ in chosen}) == len({j for _, j in chosen}) == size
        ]
        if sums:
            return size, max(sums)
    return 0, 0.0


def test_matches_against_every_set_of_pairs(rng):
    conflicts = 0
    for _ in range(60):
        prediction, reference = rng.random((2, 1, 5, 6)) < rng.uniform(0.4, 0.7, (2, 1, 1, 1))
        table = overlap_table(prediction, reference, 1)
        found = match(prediction, reference, connectivity=6)
        conflicts += ((table > 0).sum(axis=0) > 1).any() and ((table > 0).sum(axis=1) > 1).any()
        for k, threshold in enumerate(IOU_THRESHOLDS):
            number, total = best_match(table, threshold)
            assert (found.true_positives(k), sum(found.matched_ious[k])) == (number, pytest.approx(total))
            for side in (found.references, found.predictions):
                assert sum(lesion.matched[k] for lesion in side) == number
        assert sorted(lesion.best_iou for lesion in found.references) == pytest.approx(sorted(table.max(axis=0)))
        assert sorted(lesion.best_iou for lesion in found.predictions) == pytest.approx(sorted(table.max(axis=1)))
    assert conflicts > 10  # otherwise the masks try nothing


def test_specks_in_and_around_large_lesions(rng):
    """Two large lesions, each full of specks of the other side: the table that must not grow."""
    reference = np.zeros((40, 40, 40), bool)
    reference[5:30, 5:30, 5:30] = True
    prediction = np.roll(reference, 2, axis=0)
    for mask in (prediction, reference):
        mask ^= rng.random(mask.shape) < 0.04
    table = overlap_table(prediction, reference, 1)
    assert min(table.shape) > 100
    found = match(prediction, reference, connectivity=6)
    for k, threshold in enumerate(IOU_THRESHOLDS):
        edges = csr_array(table > threshold)
        number = (maximum_bipartite_matching(edges, perm_type="column") >= 0).sum()
        weights = np.where(table > threshold, 1000 + table, 0)
        total = table[linear_sum_assignment(weights, maximize=True)]
        assert found.true_positives(k) == number
        assert sum(found.matched_ious[k]) == pytest.approx(total[total > threshold].sum())


def test_detection_over_cases():
    first = match(rods((0, 8)), rods((0, 2), (6, 8)))  # TP 1, FP 0, FN 1
    second = match(rods((0, 1), (11, 11)), rods())  # FP 2
    third = match(rods(), rods())
    # 1 of 3 predictions and 1 of 2 references over three cases; F1 2 / (2 + 2 + 1).
    expected = Detection(3, 2, 3, 1, 2, 1, pytest.approx(1 / 3), 0.5, 0.4, pytest.approx(2 / 3))
    assert count_detection([first, second, third], 0) == expected
    nothing = count_detection([], 0)
    assert (nothing.num_cases, nothing.tp) == (0, 0)
    assert isnan(nothing.precision) and isnan(nothing.f1) and isnan(nothing.false_positives_per_case)


def test_recall_by_volume_puts_edges_into_the_upper_bin():
    volumes_ml = (0.1, 0.499, 0.5, 1.9, 2.0, 10.0, 250.0)
    found = (True, False, True, True, False, True, True)
    lesions = tuple(
        Lesion(n, 1, volume, 1.0, (0.0, 0.0, 0.0), 0.0, 0, (hit, False, False, False))
        for n, (volume, hit) in enumerate(zip(volumes_ml, found, strict=True), start=1)
    )
    parts = [LesionMatch(lesions[:3], (), ((),) * 4), LesionMatch(lesions[3:], (), ((),) * 4)]
    rows = recall_by_volume(parts, 0)
    assert [row.volume_bin for row in rows] == [*VOLUME_BIN_NAMES]
    assert [(row.n_reference, row.tp) for row in rows] == [(2, 1), (2, 2), (1, 0), (2, 2)]
    assert [row.recall for row in rows] == [0.5, 1.0, 0.0, 1.0]
    assert isnan(recall_by_volume([], 0)[0].recall)
    # 500 voxels of 1 mm3, but for the spacing in single precision: 0.4999999888 mL.
    spacing_mm = np.float32([0.64, 0.625, 2.5]).tolist()
    edge = match_lesions(*[np.ones((10, 10, 5), bool)] * 2, spacing_mm, connectivity=26, slice_axis=2)
    assert edge.references[0].volume_ml < 0.5
    assert recall_by_volume([edge], 0)[1].n_reference == 1


def test_boxes(rng):
    mask = np.zeros((5, 6, 7), bool)
    assert bounding_box(mask) is None
    assert mask[union_box(mask, mask)].size == 0
    mask[1:3, 5, 0] = True
    other = np.zeros_like(mask)
    other[4, 2, 3] = True
    assert bounding_box(np.asfortranarray(mask)) == (slice(1, 3), slice(5, 6), slice(0, 1))
    assert union_box(mask, other) == (slice(1, 5), slice(2, 6), slice(0, 4))
    assert union_box(np.zeros_like(mask), other) == bounding_box(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((2, 2, 3), bool)}, "prediction must be of the reference's shape"),
        ({"prediction": np.zeros((2, 2, 2), np.uint8)}, "prediction must be a bool array"),
        ({"reference": np.zeros(4, bool)}, "reference must be a bool array with 2 or 3 axes"),
        ({"spacing_mm": (1.0, 1.0)}, "spacing_mm must be 3 positive numbers"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm must be 3 positive numbers"),
        ({"connectivity": 18}, "connectivity must be 26 or 6"),
        ({"slice_axis": 3}, "axis must be"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {
        "prediction": np.ones((2, 2, 2), bool),
        "reference": np.ones((2, 2, 2), bool),
        "spacing_mm": (1.0, 1.0, 1.0),
        "connectivity": 26,
        "slice_axis": 2,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        match_lesions(arguments.pop("prediction"), arguments.pop("reference"), arguments.pop("spacing_mm"), **arguments)


def farthest_corners(mask, spacing_mm, axis):
    """The definition: all corners of all pixels of a slice, all pairs."""
    in_plane, longest = np.delete(spacing_mm, axis), nan
    for part in np.moveaxis(mask, axis, 0):
        pixels = np.argwhere(part)
        if len(pixels):
            corners = np.concatenate([pixels + step for step in product((0, 1), repeat=2)]) * in_plane
            distances = np.sqrt(((corners[:, np.newaxis] - corners) ** 2).sum(axis=2))
            longest = np.nanmax([longest, distances.max()])
    return longest


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_diameter_against_all_pairs_of_corners(rng, axis):
    for share in (0.005, 0.05, 0.4):
        mask = rng.random((6, 12, 14)) < share
        expected = farthest_corners(mask, SPACING_MM, axis % 3)
        assert longest_diameter_mm(mask, SPACING_MM, axis) == pytest.approx(expected, nan_ok=True)
        labels, count = label_components(np.asfortranarray(mask), 26)
        alone = [farthest_corners(labels == n, SPACING_MM, axis % 3) for n in range(1, count + 1)]
        np.testing.assert_allclose(longest_diameters_mm(labels, count, SPACING_MM, axis), alone)


def test_diameter_of_a_large_lesion_against_all_pairs_of_corners(rng):
    row, column = np.indices((60, 60)) - 29.5
    for angle in rng.uniform(0, np.pi, 5):
        along, across = row * np.cos(angle) + column * np.sin(angle), column * np.cos(angle) - row * np.sin(angle)
        mask = np.hypot(along / 27, across / 12) + rng.normal(0, 0.05, row.shape) < 1
        expected = farthest_corners(mask[np.newaxis], SPACING_MM, 0)
        assert longest_diameter_mm(mask, SPACING_MM[1:], 0) == pytest.approx(expected, rel=1e-12)


def test_diameter_against_feret_of_a_finer_image(rng):
    """scikit-image measures between midpoints of pixel edges: on 40 times finer pixels these reach the corners."""
    finer = 40
    for _ in range(5):
        mask = ndimage.binary_opening(rng.random((12, 15)) < 0.7)
        image = np.kron(mask, np.ones((finer, finer), int))
        feret = regionprops(image, spacing=2.0 / finer)[0].feret_diameter_max
        assert longest_diameter_mm(mask, (2.0, 2.0), 0) == pytest.approx(feret, abs=2 * 2.0 / finer)


def test_diameter_of_simple_shapes():
    assert isnan(longest_diameter_mm(np.zeros((3, 3, 3), bool), SPACING_MM, 0))
    pixel = np.zeros((3, 3), bool)
    pixel[2, 2] = True
    assert longest_diameter_mm(pixel, (3.0, 4.0), 0) == 5.0
    # Two slices, of 2 x 1 and 1 x 3 pixels of 2 x 3 mm, are not measured across: hypot(2, 9), not hypot(4, 9).
    slices = np.zeros((2, 5, 5), bool)
    slices[0, 1:3, 1] = slices[1, 1, 1:4] = True
    assert longest_diameter_mm(slices, SPACING_MM, 0) == pytest.approx(hypot(2.0, 9.0))
    # A disc of radius 20 pixels of 0.5 mm: its diameter of 20 mm, less than a pixel's diagonal more.
    disc = np.hypot(*(np.indices((50, 50)) - 24.5)) <= 20
    assert 0 <= longest_diameter_mm(disc, (0.5, 0.5), 0) - 20 < sqrt(0.5)
    # Label 2 is absent.
    assert np.array_equal(longest_diameters_mm(3 * pixel, 3, (3.0, 4.0), 0), [nan, nan, 5.0], equal_nan=True)
    with pytest.raises(ValueError, match="mask must be a bool array"):
        longest_diameter_mm(pixel.astype(int), (1.0, 1.0), 0)


def test_sum_of_diameters():
    diameters_mm = [50.0, 40.0, 30.0, 20.0, 10.0, 5.0, 4.0, 3.0, nan]
    # Two per organ: 50 + 40 (liver), 20 + 10 (kidney), then 4 (lung) is the fifth; 3 is the sixth.
    organs = ["liver"] * 3 + ["kidney"] * 3 + ["lung", "spleen", "lung"]
    assert recist_sum_mm(diameters_mm, organs) == 124.0
    assert recist_sum_mm(diameters_mm[::-1], organs[::-1]) == 124.0
    assert recist_sum_mm(diameters_mm, range(9)) == 150.0
    assert recist_sum_mm(diameters_mm, organs, min_diameter_mm=10.0) == 120.0
    assert recist_sum_mm([], []) == 0.0
    with pytest.raises(ValueError, match="organs must be of length 1"):
        recist_sum_mm([1.0], [])
