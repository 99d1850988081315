"""Scores of one case: structures, lesions and slices by the affine, and what a failed decoder leaves."""

from math import log, sqrt

import numpy as np
import pandas
import pytest
from made_scores import EYE, indexed, plan_of

from rankseg_rma.evaluation import case as scoring
from rankseg_rma.evaluation import cohort
from rankseg_rma.evaluation.case import CaseScores, LabelMap, score_case, score_mask
from rankseg_rma.evaluation.structures import CaseFiles
from rankseg_rma.files.volumes import write_volume
from rankseg_rma.metrics import match_lesions
from rankseg_rma.metrics.calibration import count_calibration


def maps(prediction, reference, affine=EYE):
    return (LabelMap(array, affine, "memory") for array in (prediction, reference))


def rows_of(arm, label):
    return {row["metric"]: row["value"] for row in arm.rows if row["label"] == label}


@pytest.mark.parametrize(
    ("options", "number"),
    [({"protocol": "lits"}, 2), ({"label_names": {1: "liver", 2: "tumour"}}, 1),
     ({"label_names": {1: "liver", 2: "tumour"}, "connectivity": 6}, 2), ({}, 1)],
)  # fmt: skip
def test_tumours_that_touch_at_a_corner(options, number):
    array = np.ones((6, 6, 4), np.uint8)
    array[2, 2, 2] = array[3, 3, 2] = 2
    arm = score_mask(*maps(array, array), plan_of(**options))
    assert len(arm.matches["2"].references) == len(arm.matches["2"].predictions) == number
    assert (arm.lits is not None) == ("protocol" in options)
    sides = [row["side"] for row in arm.lesions if row["label"] == "2"]
    assert sides == ["reference"] * number + ["prediction"] * number


def test_lits_structures_and_organ():
    plan = plan_of(protocol="lits")
    assert [(one.key, one.is_lesion) for one in plan.structures] == [("2", True), ("1+2", False)]
    assert plan.connectivity == 6 and plan.organ == (1,) and plan.lits and plan.known == {1, 2}
    array = np.ones((5, 4, 1), np.uint8)
    array[1, :2, 0] = 2
    arm = score_mask(*maps(np.where(array == 2, 1, array), array), plan)
    # Two of twenty voxels of the liver, tumour included; the mask marks none.
    (burden,) = arm.burden
    assert (burden["burden_reference"], burden["burden_prediction"]) == (0.1, 0.0)
    assert burden["burden_difference"] == -0.1 and rows_of(arm, "1+2")["dice"] == 1.0


def test_lesions_lie_where_the_affine_says():
    affine = np.array([[-0.8, 0, 0, 100], [0, 0.5, 0, -50], [0, 0, 3, 10], [0, 0, 0, 1.0]])
    reference, prediction = np.zeros((2, 40, 30, 20), np.uint8)
    reference[30:32, 20:23, 15] = prediction[30:32, 20:23, 16] = 1
    arm = score_mask(*maps(prediction, reference, affine), plan_of())
    places = {row["side"]: [row[f"{axis}_mm"] for axis in "xyz"] for row in arm.lesions}
    # Centre (30.5, 21, 15 or 16): -24.4 + 100, 10.5 - 50, 45 or 48 + 10.
    assert places["reference"] == pytest.approx([75.6, -39.5, 55])
    assert places["prediction"] == pytest.approx([75.6, -39.5, 58])
    lesion = arm.lesions[0]
    # Six voxels of 1.2 mm3; in the plane 1.6 by 1.5 mm.
    assert (lesion["voxels"], lesion["volume_ml"]) == (6, pytest.approx(0.0072))
    assert lesion["diameter_mm"] == pytest.approx(sqrt(1.6**2 + 1.5**2))
    assert (lesion["best_iou"], lesion["partner"], lesion["matched_0"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("slice_axis", "slice_dice", "diameter_mm"),
    # Axial is axis 0: Dice 1 and 0, and 1 by 3 mm. Along axis 2 every slice has Dice 2/3, and 6 by 1 mm.
    [("axial", 0.5, sqrt(10)), (0, 0.5, sqrt(10)), (2, 2 / 3, sqrt(37)), ("sagittal", 2 / 3, sqrt(37))],
)
def test_slices_are_axial_by_the_affine(slice_axis, slice_dice, diameter_mm):
    stored_zyx = np.array([[0, 0, 1, 5], [0, 1, 0, 6], [3, 0, 0, 7], [0, 0, 0, 1.0]])
    reference, prediction = np.zeros((2, 4, 5, 6), np.uint8)
    reference[1:3, 2, 2:5] = prediction[1, 2, 2:5] = 1
    options = {} if slice_axis == "axial" else {"slice_axis": slice_axis}
    arm = score_mask(*maps(prediction, reference, stored_zyx), plan_of(slices=True, **options))
    assert rows_of(arm, "1")["slice_dice"] == pytest.approx(slice_dice)
    assert arm.lesions[0]["side"] == "reference"
    assert arm.lesions[0]["diameter_mm"] == pytest.approx(diameter_mm)
    assert arm.num_slices == (4 if slice_dice == 0.5 else 6)
    assert rows_of(arm, "1")["avd_ml"] == pytest.approx(3 * 0.003)


def test_recist_difference_of_a_scored_case():
    reference, prediction = np.zeros((2, 9, 9, 3), np.uint8)
    reference[1:4, 1, 1], prediction[1:7, 1, 1] = 2, 2  # 3 by 1 and 6 by 1 mm
    arm = score_mask(*maps(prediction, reference), plan := plan_of(label_names={1: "liver", 2: "tumour"}))
    lesions = pandas.DataFrame([{"case_id": "a", "decoder": "rma", **row} for row in arm.lesions])
    (row,) = cohort.recist_rows(lesions, plan.structures)
    assert (row["reference_mm"], row["prediction_mm"]) == pytest.approx((sqrt(10), sqrt(37)))
    assert row["difference_mm"] == pytest.approx(sqrt(37) - sqrt(10)) and row["difference_percent"] > 90
    assert rows_of(arm, "2")["recist_error_mm"] == pytest.approx(sqrt(37) - sqrt(10))
    assert "recist_error_mm" not in rows_of(arm, "1")


@pytest.fixture
def files(tmp_path):
    """A reference and two masks of labels 1 and 2."""
    array = np.zeros((4, 4, 2), np.uint8)
    array[0], array[3] = 1, 2
    for name in ("reference", "bad", "good"):
        write_volume(tmp_path / f"{name}.nii", array, EYE)
    masks = {name: tmp_path / f"{name}.nii" for name in ("bad", "good")}
    return CaseFiles("c1", tmp_path / "reference.nii", masks, None, None)


@pytest.mark.parametrize(("failing_call", "bad", "good"), [(2, "bad", "good"), (4, "good", "bad")])
def test_a_decoder_that_fails_half_way_leaves_no_rows(files, monkeypatch, failing_call, bad, good):
    calls = []

    def match_once_too_often(*args, **options):
        calls.append(1)
        if len(calls) == failing_call:
            raise MemoryError("too many lesions")
        return match_lesions(*args, **options)

    monkeypatch.setattr(scoring, "match_lesions", match_once_too_often)
    scores = score_case(files, plan_of(label_names={1: "tumour", 2: "cyst"}))
    assert list(scores.failed) == [bad] and list(scores.arms) == [good]
    assert scores.failed[bad].startswith("MemoryError: too many lesions") and f"{bad}.nii" in scores.failed[bad]
    arm = scores.arms[good]
    assert rows_of(arm, "1")["dice"] == rows_of(arm, "2")["dice"] == 1 and set(arm.matches) == {"1", "2"}
    assert len(arm.sha256) == len(scores.reference_sha256) == 64


def test_stored_temperature_scales_the_probabilities(files, tmp_path):
    # The class of the reference has 0.7, 0.9 or 0.6.
    reference = np.zeros((4, 4, 2), np.uint8)
    reference[0], reference[3] = 1, 2
    choose = [[0.7, 0.05, 0.3], [0.2, 0.9, 0.1], [0.1, 0.05, 0.6]]  # by class, then by label
    probs = np.array(choose, np.float32)[:, reference]
    write_volume(tmp_path / "probs.nii", probs, EYE)
    plan = plan_of()

    def judge(temperature):
        given = CaseFiles("c1", files.reference, files.predictions, tmp_path / "probs.nii", temperature)
        scores = score_case(given, plan)
        assert not scores.failed and len(scores.probabilities_sha256) == 64
        return scores.calibration

    assert set(judge(None)) == {"none"}
    found = judge(0.5)
    # T = 0.5 squares: 0.81 / (0.81 + 2 * 0.0025), 0.36 / (0.36 + 0.09 + 0.01), 0.49 / (0.49 + 0.04 + 0.01).
    squares = probs.astype(float) ** 2
    scaled = count_calibration(squares / squares.sum(axis=0), reference)
    plain = count_calibration(probs, reference)
    assert found["none"].classes == plain.classes and found["none"].brier() == pytest.approx(plain.brier())
    assert found["stored"].nll() == pytest.approx(scaled.nll(), rel=1e-5)
    assert found["stored"].top.count == scaled.top.count and found["stored"].ece() == pytest.approx(
        scaled.ece(), rel=1e-5
    )
    by_hand = -(8 * log(0.81 / 0.815) + 8 * log(0.36 / 0.46) + 16 * log(0.49 / 0.54)) / 32
    assert found["stored"].nll() == pytest.approx(by_hand, rel=1e-5)
    assert found["none"].nll() == pytest.approx(-(8 * log(0.9) + 8 * log(0.6) + 16 * log(0.7)) / 32, rel=1e-5)
    case = CaseScores("c1", calibration=found)
    rows = indexed(
        cohort.calibration_rows([case], cohort.pool_calibration([case], {})), "scope", "temperature", "measure"
    )
    assert rows.loc[("pooled", "stored", "nll"), "value"] == pytest.approx(by_hand, rel=1e-5)
    assert rows.loc[("pooled", "none", "nll"), "value"] > by_hand
