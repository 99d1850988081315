"""Tables of a cohort, from a handful of scores: every number is worked out by hand."""

from math import log, nan, sqrt

import numpy as np
import pandas
import pytest
from made_scores import NAMES, counted, expected_table, indexed

from rankseg_rma.evaluation import cohort, protocols
from rankseg_rma.evaluation.case import ArmScores, CaseScores
from rankseg_rma.evaluation.structures import Structure
from rankseg_rma.metrics import match_lesions
from rankseg_rma.metrics.calibration import count_calibration


def test_summary_pools_voxels():
    cases = [("a", 0.4, 1, 3, 0), ("b", 0.75, 6, 2, 2), ("c", nan, 0, 0, 0)]
    scores = pandas.concat([counted(cases), counted([(*case[:1], 0.5, *case[2:]) for case in cases], "iou"),
                            counted([("a", 3.0, 1, 3, 0)], "hd95_mm")])  # fmt: skip
    rows = indexed(cohort.summary_rows(scores), "metric")
    assert rows.index.tolist() == ["dice", "dice_global", "iou", "iou_global", "hd95_mm"]
    # Pooled TP 7, FP 5, FN 2: Dice 14 / 21, IoU 7 / 14.
    assert rows.loc["dice_global", "mean"] == pytest.approx(14 / 21)
    assert rows.loc["iou_global", "mean"] == pytest.approx(7 / 14)
    assert rows.loc["dice_global", "num_cases"] == 3
    dice = rows.loc["dice"]
    assert (dice["num_cases"], dice["num_undefined"]) == (2, 1)
    assert (dice["mean"], dice["median"], dice["smallest"], dice["largest"]) == pytest.approx((0.575, 0.575, 0.4, 0.75))
    assert dice["sd"] == pytest.approx(0.35 / sqrt(2))  # n - 1
    assert dice["q25"] == pytest.approx(0.4 + 0.35 / 4)
    assert np.isnan(rows.loc["hd95_mm", "sd"])


def test_volumes_and_their_agreement():
    # Voxels of half a mL: reference 10 and 20 mL, prediction 12 and 26 mL.
    rows = [("a", 0.9, 20, 4, 0), ("b", 0.9, 40, 12, 0)]
    scores = pandas.concat([counted(rows), counted(rows, decoder="argmax"), counted(rows, "iou")])
    told = pandas.concat([expected_table("argmax", (11, 19)), expected_table("rma", (13, 24))])
    notes: list[str] = []
    volumes = cohort.volume_rows(scores, told, ["rma", "argmax", "rma"], notes)
    assert len(volumes) == 6
    table = volumes.set_index(["decoder", "case_id"])
    assert table.loc["rma", "difference_ml"].tolist() == [2, 6]
    assert table.loc["rma", "difference_percent"].tolist() == pytest.approx([20, 30])
    # The sum of probabilities is that of the first run named, once and as it is.
    assert table.loc["expected", "prediction_ml"].tolist() == [13, 24]
    assert table.loc["expected", "reference_ml"].tolist() == [10, 20]
    assert table.loc["expected", "difference_ml"].tolist() == [3, 4]
    assert len(notes) == 1 and "rma's run" in notes[0] and notes[0].endswith("differ: argmax")
    burden = pandas.DataFrame({"label": "2", "decoder": "rma", "burden_reference": [0.1, 0.2],
                               "burden_prediction": [0.2, 0.2]})  # fmt: skip
    agreement = indexed(cohort.agreement_rows(volumes, burden), "decoder")
    assert agreement["bias_ml"].to_dict() == pytest.approx({"rma": 4, "argmax": 4, "expected": 3.5})
    assert agreement.loc["rma", "loa_high_ml"] == pytest.approx(4 + 1.96 * sqrt(8))
    assert agreement.loc["rma", "burden_bias"] == pytest.approx(0.05)
    assert agreement.loc["rma", "burden_rmse"] == pytest.approx(0.1 / sqrt(2))
    assert np.isnan(agreement.loc["argmax", "burden_bias"])


def test_volumes_of_equal_runs_need_no_note():
    scores = counted([("a", 0.9, 20, 4, 0), ("b", 0.9, 0, 4, 0)])
    told = pandas.concat([expected_table("argmax", (11, 19)), expected_table("rma", (11, 19))])
    notes: list[str] = []
    table = cohort.volume_rows(scores, told, ["argmax", "rma"], notes).set_index(["decoder", "case_id"])
    assert notes == [] and np.isnan(table.loc[("rma", "b"), "difference_percent"])
    assert "expected" not in cohort.volume_rows(scores, pandas.DataFrame(), ["rma"], notes)["decoder"].tolist()


def test_detection_counts_every_case():
    def match(prediction, reference):
        arrays = (np.array(side, bool).reshape(-1, 1, 1) for side in (prediction, reference))
        return match_lesions(*arrays, (10.0, 10.0, 10.0), connectivity=26, slice_axis=2)  # 1 mL per voxel

    # a: lesions of 3 mL (IoU 1/3) and 1 mL (missed); b: nothing anywhere; c: a false positive; d: rma failed.
    a, c = match([1, 0, 0, 0, 0], [1, 1, 1, 0, 1]), match([0, 1, 0, 0, 0], [0, 0, 0, 0, 0])
    cases = [
        CaseScores("a", {"rma": ArmScores(matches={"2": a})}), CaseScores("b", {"rma": ArmScores()}),
        CaseScores("c", {"rma": ArmScores(matches={"2": c})}), CaseScores("d", {"argmax": ArmScores(matches={"2": c})}),
    ]  # fmt: skip
    rows = indexed(cohort.detection_rows(cases, NAMES), "decoder", "iou_threshold", "volume_bin")
    for threshold, tp in ((0.0, 1), (0.1, 1), (0.25, 1), (0.5, 0)):
        row = rows.loc[("rma", threshold, "all")]
        assert (row["tp"], row["fp"], row["fn"], row["num_cases"]) == (tp, 2 - tp, 2 - tp, 3)
        assert row["false_positives_per_case"] == pytest.approx((2 - tp) / 3)
        assert row["label_name"] == "tumour" and row["f1"] == pytest.approx(tp / 2)
    assert rows.loc[("rma", 0.1, "2-10 mL"), "recall"] == 1 and rows.loc[("rma", 0.1, "0.5-2 mL"), "recall"] == 0
    assert rows.loc[("argmax", 0.0, "all"), ["num_cases", "fp"]].tolist() == [1, 1]


def test_expected_scores_come_from_beside_the_folder(tmp_path):
    table = pandas.DataFrame({
        "case_id": ["001", "NA"], "label": 1, "expected_score_argmax": [0.7, 0.6], "expected_score_rma": [0.8, 0.9],
        "volume_argmax_ml": [3.0, 0.0], "volume_rma_ml": [2.0, 2.0],
        "expected_volume_ml": [3.0, 4.0], "metric": "dice", "score_over": "volume",
        "temperature": 1.5,
    })  # fmt: skip
    table.to_csv(tmp_path / "inference.csv", index=False)
    arms = {"ours": tmp_path / "rma", "plain": tmp_path / "argmax", "other": tmp_path / "other"}
    for folder in arms.values():
        folder.mkdir()
    found = cohort.read_expected(arms)
    assert found["decoder"].tolist() == ["ours", "ours", "plain", "plain"]
    # Of argmax's empty mask nothing is expected.
    assert found["expected_score"].tolist() == pytest.approx([0.8, 0.9, 0.7, nan], nan_ok=True)
    assert found["case_id"].tolist() == ["001", "NA"] * 2 and set(found["label"]) == {"1"}
    assert found["expected_volume_ml"].tolist() == [3, 4, 3, 4] and set(found["temperature"]) == {1.5}
    assert cohort.read_expected({"other": arms["other"]}).empty


@pytest.mark.parametrize(
    ("unit", "metric", "real"), [("volume", "dice", (0.8, 0.5)), ("slice", "slice_dice", (0.3, 0.2))]
)
def test_expected_beside_the_metric_that_was_told(unit, metric, real):
    pieces = [
        counted([("a", values[0], 1, 0, 0), ("b", values[1], 1, 0, 0)], name)
        for name, values in (("dice", (0.8, 0.5)), ("slice_dice", (0.3, 0.2)), ("iou", (0.1, 0.1)))
    ]
    found = cohort.expected_rows(pandas.concat(pieces), expected_table("rma", (11, 19), unit=unit))
    assert found["metric"].tolist() == [metric] * 2 and found["real_score"].tolist() == list(real)
    assert found["expected_score"].tolist() == [0.9, 0.8] and found["expected_volume_ml"].tolist() == [11, 19]


def test_quality_is_expected_minus_real():
    table = pandas.DataFrame({"label": "2", "label_name": "tumour", "decoder": "rma", "case_id": list("abc"),
                              "expected_score": [0.9, 0.8, 0.75], "real_score": [0.8, 0.9, 0.3]})  # fmt: skip
    (row,) = cohort.quality_rows(table)
    # Differences 0.1, -0.1, 0.45: the model is optimistic. Only c failed (below 0.7), and it is the least expected.
    assert (row["bias"], row["mae"], row["auroc"]) == pytest.approx((0.15, 0.65 / 3, 1.0))
    assert row["aurc_random"] == pytest.approx((0.2 + 0.1 + 0.7) / 3) and row["failure_below"] == 0.7
    # Kept in the order expected: risk 0.2, then (0.2 + 0.1) / 2, then 1 / 3.
    assert row["aurc"] == pytest.approx((0.2 + 0.15 + 1 / 3) / 3)
    assert cohort.quality_rows(pandas.DataFrame()) == []


def test_recist_of_named_single_lesion_labels():
    structures = [
        Structure("1", "liver", (1,), False, ()), Structure("2", "tumour", (2,), True, ()),
        Structure("3", "3", (3,), True, ()), Structure("2+3", "masses", (2, 3), True, ()),
    ]  # fmt: skip
    sides = {"reference": [10.0, 4.0, 8.0], "prediction": [12.0]}
    lesions = pandas.DataFrame([
        {"case_id": "a", "decoder": "rma", "label": label, "side": side, "diameter_mm": diameter}
        for label in ("1", "2", "3", "2+3") for side, diameters in sides.items() for diameter in diameters
    ])  # fmt: skip
    # The two largest of one organ: 18 mm against 12 mm.
    assert cohort.recist_rows(lesions, structures) == [{
        "case_id": "a", "decoder": "rma", "reference_mm": 18.0, "prediction_mm": 12.0, "difference_mm": -6.0,
        "difference_percent": pytest.approx(-100 / 3),
    }]  # fmt: skip
    for others in (structures[:1], structures[2:3], structures[3:], protocols.KITS23_REGIONS[:2]):
        assert cohort.recist_rows(lesions, others) == []
    assert cohort.recist_rows(pandas.DataFrame(), structures) == []


def calibrated(*cases):
    """Scores of cases that hold nothing but counts of two or more classes, from (case, probs, reference)."""
    return [
        CaseScores(case_id, calibration={"none": count_calibration(np.array(probs, float), np.array(reference))})
        for case_id, probs, reference in cases
    ]


def test_calibration_pools_voxels():
    # Of the more probable class: a 0.9 and 0.8, both right; b 0.6 and 0.8, both right.
    cases = calibrated(("a", [[0.1, 0.8], [0.9, 0.2]], [1, 0]), ("b", [[0.6, 0.2], [0.4, 0.8]], [0, 1]))
    failed: dict[str, str] = {}
    pooled = cohort.pool_calibration(cases, failed)
    rows = indexed(cohort.calibration_rows(cases, pooled), "scope", "case_id", "measure")["value"]
    assert rows[("case", "a", "ece")] == pytest.approx((0.1 + 0.2) / 2)
    assert rows[("case", "b", "ece")] == pytest.approx((0.4 + 0.2) / 2)
    assert rows[("pooled", "", "ece")] == pytest.approx((0.1 + 0.4 + (2 - 1.6)) / 4)
    # Squares over both classes: 2 (0.01 + 0.04) of a, 2 (0.16 + 0.04) of b.
    assert rows[("pooled", "", "brier")] == pytest.approx(0.5 / 4)
    assert rows[("pooled", "", "nll")] == pytest.approx(-(log(0.9) + 2 * log(0.8) + log(0.6)) / 4)
    assert rows[("pooled", "", "foreground_ece")] == pytest.approx((0.1 + 0.2) / 2)
    assert failed == {}


def test_a_case_of_other_classes_is_left_out_and_named():
    first, last = ("a", [[0.1, 0.8], [0.9, 0.2]], [1, 0]), ("c", [[0.6, 0.2], [0.4, 0.8]], [0, 1])
    other = ("b", [[0.1], [0.2], [0.7]], [2])
    failed: dict[str, str] = {}
    pooled = cohort.pool_calibration(calibrated(first, other, last), failed)
    assert pooled == cohort.pool_calibration(calibrated(first, last), {}) and pooled["none"].num_voxels == 4
    assert failed == {"probabilities/b": "3 classes where the cases before have 2"}


@pytest.mark.parametrize(
    ("structures", "names"),
    [
        ([Structure("2", "tumour", (2,), True, ()), Structure("1", "liver", (1,), False, ())], ("liver", "tumour")),
        (protocols.KITS23_REGIONS, ("1", "tumor")),
        ([], ("1", "2")),
    ],
)
def test_reliability_of_each_class(structures, names):
    # Four voxels of (0.10, 0.65, 0.25), labels 1, 1, 1, 2; fifteen bins: 0.65 is in the tenth, 0.25 in the fourth.
    (case,) = calibrated(("a", [[0.10] * 4, [0.65] * 4, [0.25] * 4], [1, 1, 1, 2]))
    rows = pandas.DataFrame(cohort.reliability_rows({"none": case.calibration["none"]}, structures))
    assert rows.groupby("label", sort=False).size().to_dict() == {"1": 15, "2": 15}
    filled = rows[rows["count"] > 0].set_index("label")
    assert filled["label_name"].tolist() == list(names) and filled["bin"].to_dict() == {"1": 9, "2": 3}
    assert filled["confidence"].tolist() == pytest.approx([0.65, 0.25])
    assert filled["frequency"].to_dict() == {"1": 0.75, "2": 0.25}
