"""The LiTS scores against cases worked out by hand, and against numbers of the public script."""

import pickle
from math import isnan, sqrt

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from rankseg_rma.metrics.lits import PENALTY, score_lits_case, summarise_lits

SPACING_MM = (2.0, 5.0, 7.0)
NAMES = ("dice", "jaccard", "voe", "rvd", "assd", "rmsd", "msd")


def row(*tumours, length=12):
    """A liver of one row of voxels with a tumour per (first, last) position."""
    label_map = np.ones((length, 1, 1), np.uint8)
    for first, last in tumours:
        label_map[first : last + 1] = 2
    return label_map


def score(prediction, reference):
    return score_lits_case(prediction, reference, SPACING_MM)


def names(prefix, ending, values):
    return {f"{prefix}_{name}{ending}": value for name, value in zip(NAMES, values, strict=True)}


def test_every_number_of_two_cases():
    # Case 1, 12 x 2 voxels of 2 x 5 mm, one slice, so that every voxel is on the border.
    # References 0-3 and 6-7; predictions 1-3 (IoU 3 / 4), 7-9 (IoU 1 / 4) and 11 (none); one liver voxel is missing.
    reference, prediction = (
        np.repeat(row(*spans), 2, axis=1) for spans in ([(0, 3), (6, 7)], [(1, 3), (7, 9), (11, 11)])
    )
    reference[:, 1] = prediction[:, 1] = 1
    prediction[11, 1] = 0
    # Case 2: four voxels of liver, one of them taken for a tumour.
    cases = [score(prediction, reference), score(row((3, 3), length=4), row(length=4))]
    # Lesion: 1 voxel of 7 is 2 mm away. Liver of case 1: 1 voxel of 47 is 2 mm away.
    lesion = [6 / 7, 3 / 4, 1 / 4, 1 / 3, 2 / 7, sqrt(4 / 7), 2]
    liver = [(46 / 47 + 1) / 2, (23 / 24 + 1) / 2, 1 / 48, 1 / 23 / 2, 1 / 47, sqrt(4 / 47) / 2, 1]
    # 6 of 24 reference voxels against 7 of 23 predicted ones, and 0 of 4 against 1 of 4.
    burden = (6 / 24 - 7 / 23, -1 / 4)
    expected = {
        # > 0: 2 of 4 predictions, 2 of 2 references. > 0.5: 1 of each.
        **dict.fromkeys(("lesion_precision", "lesion_precision_corrected"), 1 / 4),
        **dict.fromkeys(("lesion_recall", "lesion_recall_corrected"), 1 / 2),
        **dict.fromkeys(("lesion_precision_greater_zero", "lesion_precision_greater_zero_corrected"), 1 / 2),
        **dict.fromkeys(("lesion_recall_greater_zero", "lesion_recall_greater_zero_corrected"), 1),
        **names("lesion", "", lesion),
        **names("lesion", "_corrected", [*lesion[:3], -1 / 4, *lesion[4:]]),
        # Case 1: 4 shared voxels, 7 predicted, 6 in the reference. Case 2: one voxel of false positives.
        "lesion_dice_per_case": 8 / 13 / 2,
        "lesion_dice_global": 8 / 14,
        **names("liver", "", liver),
        **names("liver", "_corrected", [*liver[:3], -1 / 24 / 2, *liver[4:]]),
        **dict.fromkeys(("liver_dice_per_case", "liver_dice_per_case_corrected"), liver[0]),
        **dict.fromkeys(("liver_dice_global", "liver_dice_global_corrected"), 54 / 55),
        **dict.fromkeys(
            ("RMSE_Tumorburden", "RMSE_Tumorburden_corrected"), sqrt((burden[0] ** 2 + burden[1] ** 2) / 2)
        ),
        "MAXERROR_Tumorburden": burden[0],  # the one nearer to zero: both are negative
        "MAXERROR_Tumorburden_corrected": 1 / 4,
        "num_cases": 2,
        "num_cases_without_liver": 0,
    }
    found = summarise_lits(cases)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected)


def paint(rng, label_map, num_boxes, largest):
    for _ in range(num_boxes):
        corner, size = rng.integers(label_map.shape), rng.integers(1, largest + 1, 3)
        label_map[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = rng.integers(3)
    return label_map


def random_cases(seed, num_cases):
    rng = np.random.default_rng(seed)
    for _ in range(num_cases):
        reference = paint(rng, np.ones((24, 20, 12), np.uint8), 30, 7)
        yield paint(rng, reference.copy(), 25, 4), reference


def test_random_blobs_against_the_public_script():
    """Recorded once from the script's own functions (NumPy 2.4, SciPy 1.17) for `random_cases(2, 3)`."""
    recorded = {
        "lesion_precision": 0.425,
        "lesion_recall": 0.6538461538461539,
        "lesion_precision_greater_zero": 0.6,
        "lesion_recall_greater_zero": 0.9230769230769231,
        "lesion_dice": 0.9790251662845678,
        "lesion_jaccard": 0.9607277187551629,
        "lesion_voe": 0.039272281244837025,
        "lesion_rvd": 0.002085608666462423,
        "lesion_assd": 0.03086194937303595,
        "lesion_rmsd": 0.13012083802725152,
        "lesion_msd": 0.773228674453835,
        "lesion_dice_per_case": 0.8797868364293198,
        "lesion_dice_global": 0.8915408915408916,
        "liver_dice": 0.9894225059210311,
        "liver_jaccard": 0.9790761542437171,
        "liver_voe": 0.02092384575628296,
        "liver_rvd": 0.017025530116469127,
        "liver_assd": 0.08928153274220453,
        "liver_rmsd": 0.40892175425033117,
        "liver_msd": 3.7565683830083088,
        "liver_dice_per_case": 0.9894225059210311,
        "liver_dice_global": 0.9894950006328312,
        "RMSE_Tumorburden": 0.018465333104448853,
        "MAXERROR_Tumorburden": -0.009823168532199,
    }
    cases = [score_lits_case(*pair, (0.75, 0.8, 2.5)) for pair in random_cases(2, 3)]
    assert [case.true_positives for case in cases] == [(9, 6), (7, 5), (8, 6)]
    found = summarise_lits(cases)
    official = {name: value for name, value in found.items() if name in recorded}
    assert official == pytest.approx(recorded, rel=1e-9)
    # The script misses lesions that it linked: with the right union and all members, 9, 7 and 10 are found.
    assert [case.found_references for case in cases] == [(9, 7), (7, 7), (10, 10)]


def test_volume_difference_is_relative_to_the_prediction():
    reference, prediction = np.ones((2, 12, 12, 12), np.uint8)
    reference[1:11, 1:11, 1:6] = 2  # 500 voxels
    prediction[1:11, 1:11, 1:9] = 2  # 800 voxels
    found = summarise_lits([score(prediction, reference)])
    assert found["lesion_rvd"] == pytest.approx(-0.375)
    assert found["lesion_rvd_corrected"] == pytest.approx(0.6)


def test_merged_references():
    # One prediction of 5 over references of 2 and 2, merged: IoU 4 / 5. The script adds one for both.
    case = score(row((0, 4)), row((0, 1), (3, 4)))
    assert (case.num_references, case.num_predictions, case.true_positives) == (2, 1, (1, 1))
    assert (case.found_references, case.found_predictions) == ((2, 2), (1, 1))
    (lesion,) = case.lesions
    assert (lesion.counts.tp, lesion.counts.fp, lesion.counts.fn) == (4, 1, 0)
    found = summarise_lits([case])
    assert (found["lesion_recall"], found["lesion_recall_corrected"]) == (0.5, 1.0)
    assert (found["lesion_precision"], found["lesion_precision_corrected"]) == (1.0, 1.0)
    # A prediction of 12 over them: IoU 4 / 12, and the script takes two away from one.
    case = score(row((0, 11)), row((0, 1), (3, 4)))
    assert (case.true_positives, case.found_references, case.lesions) == ((1, -1), (2, 0), ())
    assert summarise_lits([case])["lesion_recall"] == -0.5
    # Two references go to the prediction that overlaps them most, whatever else touches them:
    # 0-5 and 7-8 to 2-8 (4 and 2 voxels); 0 shares one voxel with the merged 8 and joins: 7 shared of 8 + 8 - 7.
    case = score(row((0, 0), (2, 8)), row((0, 5), (7, 8)))
    assert (case.true_positives, case.found_references, case.found_predictions) == ((1, 1), (2, 2), (2, 2))
    assert case.lesions[0].counts.tp == 7


def test_union_with_the_wrong_lesion():
    # Prediction 1 (position 0) is false; prediction 2 (5-12, 8 voxels) holds the reference 1 (5-8): IoU 4 / 8, which
    # is not above 0.5. The script looks for the predictions of "reference 2", finds none, and divides by 4.
    case = score(row((0, 0), (5, 12), length=14), row((5, 8), length=14))
    assert (case.true_positives, case.found_references) == ((1, 1), (1, 0))
    assert (len(case.lesions), len(case.lesions_corrected)) == (1, 0)
    found = summarise_lits([case])
    assert (found["lesion_recall"], found["lesion_recall_corrected"]) == (1.0, 0.0)
    assert found["lesion_dice"] == pytest.approx(8 / 12)
    assert isnan(found["lesion_dice_corrected"])
    # Without the false positive the numbers agree: an IoU of exactly 0.5 is no detection.
    alone = score(row((5, 12), length=14), row((5, 8), length=14))
    assert (alone.true_positives, alone.found_references) == ((1, 0), (1, 0))


def test_nothing_detected():
    found = summarise_lits([score(row((0, 0)), row((5, 6)))])
    assert [found[f"lesion_{name}"] for name in NAMES] == [0, 0, 1, *[PENALTY] * 4]
    assert all(isnan(found[f"lesion_{name}_corrected"]) for name in NAMES)
    assert (found["lesion_precision"], found["lesion_recall"], found["lesion_dice_per_case"]) == (0, 0, 0)
    empty = summarise_lits([score(row(), row())])
    assert (empty["lesion_precision"], empty["lesion_recall"], empty["lesion_dice_per_case"]) == (0, 0, 1)
    assert isnan(empty["lesion_precision_corrected"]) and isnan(empty["lesion_dice_global"])
    invented = summarise_lits([score(row((0, 0)), row())])
    assert (invented["lesion_precision"], invented["lesion_dice_per_case"]) == (0, 0)
    assert isnan(invented["lesion_recall_corrected"])


def test_case_whose_count_is_not_positive_is_left_out_of_the_means():
    # One lesion found exactly, and two merged ones not found (4 shared of 10): 2 - 2 = 0.
    case = score(row((0, 0), (2, 11)), row((0, 0), (2, 3), (5, 6)))
    assert (case.true_positives, case.found_references, len(case.lesions)) == ((2, 0), (3, 1), 1)
    found = summarise_lits([case])
    assert (found["lesion_dice"], found["lesion_dice_corrected"]) == (0.0, 1.0)


def test_prediction_without_the_label_of_the_liver():
    reference = row((0, 2))
    only_tumour, nothing = row((0, 11)), np.zeros_like(reference)
    found = summarise_lits([score(only_tumour, reference)])
    assert [found[f"liver_{name}"] for name in NAMES] == [0, 0, 1, *[PENALTY] * 4]
    assert [found[f"liver_{name}_corrected"] for name in NAMES] == [1, 1, 0, 0, 0, 0, 0]
    assert (found["liver_dice_global"], found["liver_dice_global_corrected"]) == (0, 1)
    assert found["MAXERROR_Tumorburden"] == 3 / 12 - PENALTY
    assert found["MAXERROR_Tumorburden_corrected"] == 9 / 12
    assert found["num_cases_without_liver"] == 0
    empty = summarise_lits([score(nothing, reference)])
    assert [empty[f"liver_{name}_corrected"] for name in NAMES[:4]] == [0, 0, 1, -1]
    assert isnan(empty["liver_assd_corrected"]) and isnan(empty["RMSE_Tumorburden_corrected"])
    assert isnan(empty["MAXERROR_Tumorburden_corrected"])
    assert empty["num_cases_without_liver"] == 1
    # The distances of the case that has a liver are not lost.
    both = summarise_lits([score(reference, reference), score(nothing, reference)])
    assert (both["liver_assd"], both["liver_assd_corrected"]) == (PENALTY / 2, 0)
    assert both["liver_dice_per_case_corrected"] == 0.5


def test_distances_between_borders_of_the_18_neighbourhood(rng):
    reference, prediction = np.zeros((2, 9, 10, 11), np.uint8)
    reference[0:7, 2:9, 3:11] = 1
    prediction[1:9, 0:8, 3:9] = 1
    # A notch at an edge: at faces alone, fewer voxels would be on the border.
    reference[0:3, 2:4, 3:11] = 0
    liver = score(prediction, reference).liver
    structure = ndimage.generate_binary_structure(3, 2)
    points = [
        np.argwhere(mask & ~ndimage.binary_erosion(mask, structure)) * SPACING_MM
        for mask in (prediction > 0, reference > 0)
    ]
    apart = cdist(*points)
    pooled = np.concatenate([apart.min(axis=0), apart.min(axis=1)])
    assert liver.assd_mm == pytest.approx(pooled.mean())
    assert liver.rmsd_mm == pytest.approx(sqrt((pooled**2).mean()))
    assert liver.msd_mm == pytest.approx(pooled.max())


def test_cases_travel_between_processes_and_do_not_depend_on_the_type(rng):
    prediction, reference = next(random_cases(4, 1))
    case = score(prediction, reference)
    assert pickle.loads(pickle.dumps(case)) == case
    assert score(np.asfortranarray(prediction.astype(np.float32)), reference.astype(np.int16)) == case
    # Other labels, and empty space around.
    moved = [np.pad(np.where(label_map > 0, label_map + 3, 0), 2) for label_map in (prediction, reference)]
    assert score_lits_case(*moved, SPACING_MM, liver=4, tumour=5) == case


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((row(), row(length=3), SPACING_MM), "3D label maps of one shape"),
        ((row()[0], row()[0], SPACING_MM), "3D label maps of one shape"),
        ((row(), np.zeros_like(row()), SPACING_MM), "with liver"),
        ((row(), row(), (1.0, 1.0)), "spacing_mm must be 3 positive numbers"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_lits_case(*arguments)


def test_wrong_labels_and_no_case():
    with pytest.raises(ValueError, match="0 < liver < tumour"):
        score_lits_case(row(), row(), SPACING_MM, liver=2, tumour=1)
    with pytest.raises(ValueError, match="at least one case"):
        summarise_lits([])
