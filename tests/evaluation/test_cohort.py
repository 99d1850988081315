"""Tables of a cohort, from a handful of scores: every number is worked out by hand."""

import json
from collections.abc import Mapping
from math import log, nan, sqrt

import numpy as np
import pandas
import pytest

from rankseg_rma.evaluation import advise, cohort, compare, foreign_files, protocols
from rankseg_rma.evaluation import case as scoring
from rankseg_rma.evaluation import paired as comparison
from rankseg_rma.evaluation.case import ArmScores, CaseScores, LabelMap, score_case, score_mask
from rankseg_rma.evaluation.inputs import RESERVED, find_arms
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.paired import WITHOUT, PairingRule, margins_of, pair_rows, strata_rows
from rankseg_rma.evaluation.plan import make_plan
from rankseg_rma.evaluation.structures import CaseFiles, Structure
from rankseg_rma.files.volumes import write_volume
from rankseg_rma.metrics import match_lesions
from rankseg_rma.metrics.calibration import count_calibration
from rankseg_rma.metrics.lits import score_lits_case
from rankseg_rma.report import advice
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.statistics.differences import compare_pairs
from rankseg_rma.tables.columns_of_evaluation import MACRO

NAMES = {"1": "liver", "2": "tumour", "3": "cyst", "1+2": "whole"}
EYE = np.eye(4)


def frame(values: Mapping[tuple[str, str], Mapping[str, float]], metric="dice", unit="1", **more) -> pandas.DataFrame:
    """Rows as of cases.csv from {(label, decoder): {case: value}}."""
    same = {"metric": metric, "unit": unit, "status": "ok", "empty_policy": "kits", "voxel_ml": 0.5, "n_reference": 1,
            "n_prediction": 1, "tp": 1, "fp": 0, "fn": 0, "n_voxels": 100, **more}  # fmt: skip
    return pandas.DataFrame([
        {"case_id": case_id, "decoder": decoder, "label": label, "label_name": NAMES[label], "value": value, **same}
        for (label, decoder), column in values.items()
        for case_id, value in column.items()
    ])  # fmt: skip


def two_arms(differences, label="1", **more) -> pandas.DataFrame:
    """Argmax at one half in every case and RMA by so much above it; NaN where neither mask nor reference has any."""
    cases = {f"c_{k + 1:02d}": 0.5 + value for k, value in enumerate(differences)}
    half = {case_id: value if np.isnan(value) else 0.5 for case_id, value in cases.items()}
    scores = frame({(label, "argmax"): half, (label, "rma"): cases}, **more)
    return scores.assign(n_reference=scores["value"].notna().astype(int))


def rule(*, arms=("argmax", "rma"), cluster=None, averaged=(), optimised="", partial=False) -> PairingRule:
    return PairingRule(arms, cluster, averaged, optimised, partial)


def indexed(rows, *keys):
    return pandas.DataFrame(rows).set_index(list(keys))


# --- decoder against decoder


def test_holm_over_the_labels_of_a_metric():
    # n equal gains: both tests are exact with p = 2 / 2^n. 8 gains 0.0078125, 7 gains 0.015625, 5 gains 0.0625.
    # Holm: 3 * 0.0078125; max(that, 2 * 0.015625); max(that, 0.0625).
    parts = [[0.1] * 5 + [nan] * 3, [0.1] * 8, [0.1] * 7 + [nan]]
    scores = pandas.concat([two_arms(part, str(k + 1)) for k, part in enumerate(parts)])
    rows = indexed(pair_rows(scores, rule(averaged=["1", "2", "3"])), "label")
    assert rows.index.tolist() == ["1", "2", "3", MACRO]
    assert rows["num_pairs"].tolist() == [5, 8, 7, 8] and rows["num_left_out"].tolist() == [3, 0, 1, 0]
    for name in ("p_permutation", "p_wilcoxon"):
        assert rows[name].tolist() == [0.0625, 0.0078125, 0.015625, 0.0078125]
        # The mean over labels is no further comparison.
        assert rows[f"{name}_holm"].tolist() == [0.0625, 0.0234375, 0.03125, 0.0078125]


def test_mean_over_labels_of_a_case():
    one, two = two_arms([0.2, 0.2, 0.4], "1"), two_arms([0.4, nan, nan], "2")
    # In the third case argmax has the second label, which is in the reference, and RMA missed it.
    missed = (two["case_id"] == "c_03") & (two["decoder"] == "argmax")
    two.loc[two["case_id"] == "c_03", "n_reference"] = 1
    two.loc[missed, "value"] = 0.5
    scores = pandas.concat([one, two], ignore_index=True)
    macro = indexed(pair_rows(scores, rule(averaged=["1", "2"])), "label").loc[MACRO]
    # Gains: (0.2 + 0.4) / 2 in the first, 0.2 of the only label in the second; the third must not gain by missing it.
    assert (macro["num_pairs"], macro["num_left_out"]) == (2, 1)
    assert (macro["mean_first"], macro["mean"]) == pytest.approx((0.5, 0.25))
    assert (macro["smallest_case"], macro["largest_case"]) == ("c_02", "c_01")
    assert MACRO not in indexed(pair_rows(scores, rule(averaged=["1"])), "label").index


@pytest.mark.parametrize(
    ("metric", "unit", "differences", "margin", "moved"),
    [
        # Beyond 1, 5 and 10 points: 3, 2, 1 up; 2, 1, 1 down; one within a point.
        ("dice", "1", [0.02, 0.06, 0.11, 0.005, -0.02, -0.2], 0.01, (3, 1, 2, 2, 1, 1, 1)),
        # Beyond 1, 5 and 10 mm, and lower is better: 1, 1, 0 better; 2, 1, 1 worse.
        ("hd95_mm", "mm", [-0.5, -7.0, 2.0, 11.0, 0.02, 0.9], 1.0, (1, 3, 2, 1, 1, 0, 1)),
    ],
)
def test_margins_are_points_or_units(metric, unit, differences, margin, moved):
    (row,) = pair_rows(two_arms(differences, metric=metric, unit=unit), rule())
    names = ("improved", "unchanged", "worsened", "improved_5", "worsened_5", "improved_10", "worsened_10")
    assert tuple(row[name] for name in names) == moved
    assert row["margin"] == margin and margins_of(unit) == pytest.approx((margin, 5 * margin, 10 * margin))
    assert row["mean"] == pytest.approx(sum(differences) / 6)  # second minus first
    assert row["largest_case"] == f"c_{1 + int(np.argmax(differences)):02d}"


def test_metrics_without_a_direction_are_not_compared_and_the_optimised_is_marked():
    parts = [two_arms([0.1, 0.2], metric=name) for name in ("dice", "iou", "rvd")]
    rows = indexed(pair_rows(pandas.concat(parts), rule(optimised="iou", partial=True)), "metric")
    assert rows["optimised"].to_dict() == {"dice": False, "iou": True}
    assert rows["partial"].all() and rows["empty_policy"].eq("kits").all()


@pytest.mark.parametrize(
    ("told", "metric"),
    [
        ([("dice", "volume")] * 2, "dice"),
        ([("iou", "volume")], "iou"),
        ([("dice", "slice")], "slice_dice"),
        ([("iou", "slice")], "slice_iou"),
        ([("dice", "volume"), ("iou", "volume")], ""),
        ([("dice", "volume"), ("dice", "slice")], ""),
        ([], ""),
    ],
)
def test_metric_that_was_optimised(told, metric):
    assert comparison.optimised_metric(pandas.DataFrame(told, columns=["metric", "unit"])) == metric


@pytest.mark.parametrize("through", ["comparison", "advise"])
def test_twins_are_one_patient(through):
    # Ids 2k - 1 and 2k are twins of the same gain: the interval is that of 6 patients, not of 12.
    gains = [0.01, 0.02, 0.05, 0.08, 0.13, 0.3]
    scores = two_arms([gain for gain in gains for _ in "ab"])

    def row(cluster):
        if through == "comparison":
            return pair_rows(scores, rule(cluster=cluster))[0]
        return advise._compare(scores.assign(unit="volume"), "dice", cluster, False)[0]

    alone, paired = row(None), row("pair")
    six = compare_pairs([0.5] * 6, [0.5 + gain for gain in gains], clusters=None, better="higher",
                        margins=(0.01, 0.05, 0.1), num_resamples=comparison.NUM_RESAMPLES,
                        seed=comparison.SEED)  # fmt: skip
    assert (alone["num_clusters"], paired["num_clusters"], paired["num_pairs"]) == (12, 6, 12)
    assert (alone["p_permutation"], paired["p_permutation"]) == (2 / 2**12, 2 / 2**6)
    assert (paired["low"], paired["high"]) == pytest.approx((six.low, six.high))
    assert paired["low"] < alone["low"] < alone["high"] < paired["high"]


def stratified():
    """Ten cases and three decoders; case 10 has no reference. Each decoder's own numbers would divide otherwise."""
    ids = [f"c_{k:02d}" for k in range(1, 11)]
    # b gains 0.01 k in case k; c loses 0.02 k.
    values = {"a": [0.5] * 10, "b": [0.5 + 0.01 * k for k in range(1, 11)], "c": [0.5 - 0.02 * k for k in range(1, 11)]}
    scores = frame({("2", arm): dict(zip(ids, column, strict=True)) for arm, column in values.items()})
    voxels = dict(zip(ids, [2, 4, 6, 8, 10, 12, 14, 16, 18, 0], strict=True))  # half a mL each
    first = scores["decoder"] == "a"
    scores["n_reference"] = scores["case_id"].map(voxels).where(first, 20 - scores["case_id"].map(voxels))
    # Lesions of the reference: 3, 3, 3, 2, 2, 2, 1, 1, 1 and none; b's own rows and predictions count otherwise.
    counts = [3, 3, 3, 2, 2, 2, 1, 1, 1, 0]
    lesions = [
        {"case_id": case_id, "label": label, "side": side, "decoder": arm}
        for place, (case_id, count) in enumerate(zip(ids, counts, strict=True))
        for label, side, arm, number in (
            ("2", "reference", "a", count), ("2", "prediction", "a", place), ("1", "reference", "a", place),
            ("2", "reference", "b", 10 - place),
        )
        for _ in range(number)
    ]  # fmt: skip
    # Expected of b: 0.95, 0.90, ... 0.55, and nothing of an empty mask; of a the other way round.
    score = [*(0.95 - 0.05 * k for k in range(9)), nan]
    told = pandas.DataFrame([
        {"case_id": case_id, "label": "2", "decoder": arm, "expected_score": value}
        for arm, column in (("a", score[::-1]), ("b", score)) for case_id, value in zip(ids, column, strict=True)
    ])  # fmt: skip
    return scores, pandas.DataFrame(lesions), told


def test_strata_by_hand():
    scores, lesions, told = stratified()
    rows = strata_rows(scores, lesions, told, "dice", rule(arms=("a", "b", "c")))
    found = indexed(rows, "second", "stratum_by", "stratum")[["from", "to", "num_pairs", "mean"]]
    volume, count = "reference volume (mL)", "reference lesions"
    unsure = "predicted uncertainty (1 - expected score)"
    # Cases 1-3, 4-6, 7-9 by volume and, in reverse, by lesions. Uncertainty is 0.05 k.
    expected = {
        ("b", volume, "low"): (1, 3, 3, 0.02), ("b", volume, "middle"): (4, 6, 3, 0.05),
        ("b", volume, "high"): (7, 9, 3, 0.08), ("c", volume, "low"): (1, 3, 3, -0.04),
        ("c", volume, "middle"): (4, 6, 3, -0.10), ("c", volume, "high"): (7, 9, 3, -0.16),
        ("b", count, "low"): (1, 1, 3, 0.08), ("b", count, "middle"): (2, 2, 3, 0.05),
        ("b", count, "high"): (3, 3, 3, 0.02), ("c", count, "low"): (1, 1, 3, -0.16),
        ("c", count, "high"): (3, 3, 3, -0.04),
        ("b", unsure, "low"): (0.05, 0.15, 3, 0.02), ("b", unsure, "middle"): (0.20, 0.30, 3, 0.05),
        ("b", unsure, "high"): (0.35, 0.45, 3, 0.08),
    }  # fmt: skip
    for key, values in expected.items():
        assert tuple(found.loc[key]) == pytest.approx(values), key
    for by, name in ((volume, WITHOUT), (count, WITHOUT), (unsure, "empty mask")):
        assert found.loc[("b", by, name), ["num_pairs", "mean"]].tolist() == pytest.approx([1, 0.10])
    assert WITHOUT == "none in the reference" and unsure not in found.loc["c"].index  # nothing was expected of c
    sums = found.groupby(level=["second", "stratum_by"])["num_pairs"].sum()
    assert sums.eq(10).all() and len(sums) == 5


def test_strata_need_something_to_divide_by():
    scores, _, _ = stratified()
    rows = strata_rows(scores, pandas.DataFrame(), pandas.DataFrame(), "dice", rule(arms=("a", "b")))
    assert {row["stratum_by"] for row in rows} == {"reference volume (mL)"}
    assert [row["stratum"] for row in rows] == [WITHOUT, "low", "middle", "high"]


# --- tables of the cohort


def counted(rows, metric="dice", label="2", decoder="rma"):
    """Rows from (case, value, tp, fp, fn)."""
    parts = [
        frame({(label, decoder): {case: value}}, metric, tp=tp, fp=fp, fn=fn, n_reference=tp + fn, n_prediction=tp + fp)
        for case, value, tp, fp, fn in rows
    ]
    return pandas.concat(parts, ignore_index=True)


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


def expected_table(arm, volumes, scores=(0.9, 0.8), metric="dice", unit="volume"):
    return pandas.DataFrame([
        {"case_id": case_id, "label": "2", "decoder": arm, "expected_score": score, "expected_volume_ml": volume,
         "metric": metric, "unit": unit, "temperature": 1.0}
        for case_id, volume, score in zip("ab", volumes, scores, strict=True)
    ])  # fmt: skip


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
        "expected_volume_ml": [3.0, 4.0], "metric": "dice", "unit": "volume", "temperature": 1.5,
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


# --- scores of one case


def plan_of(**options):
    return make_plan(EvaluationOptions(**{"surface": False, **options}), [])


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


# --- challenge protocols


def test_averaged_labels():
    single = [Structure("1", "liver", (1,), False, ()), Structure("2", "tumour", (2,), True, ())]
    region = Structure("1+2", "whole", (1, 2), False, ())
    assert protocols.averaged_keys([*single, region], None) == ("1", "2")
    assert protocols.averaged_keys([region], "nnunet") == ("1+2",)
    assert protocols.averaged_keys(single, "lits") == ()
    assert protocols.averaged_keys(protocols.KITS23_REGIONS, "kits23") == ("1+2+3", "2+3", "2")


def test_kits23_file(tmp_path):
    values = {
        (region.key, metric): (0.5 + 0.1 * k, 1.0)
        for k, region in enumerate(protocols.KITS23_REGIONS)
        for metric in ("dice", f"nsd_{region.tolerances_mm[0]:.12g}mm")
    }
    scores = pandas.DataFrame([
        {"case_id": case_id, "label": label, "metric": metric, "value": pair[k]}
        for (label, metric), pair in values.items() for k, case_id in enumerate(("case_2", "case_1"))
    ])  # fmt: skip
    lines = foreign_files.write_kits23(tmp_path / "evaluation.csv", scores).read_text().splitlines()
    ones, mixed = ",".join(["1.00000000"] * 6), ",".join(["0.50000000", "0.60000000", "0.70000000"] * 2)
    average = ",".join(["0.75000000", "0.80000000", "0.85000000"] * 2)
    assert lines == ["caseID,Dice_kidney,Dice_masses,Dice_tumor,SD_kidney,SD_masses,SD_tumor", f"case_1,{ones}",
                     f"case_2,{mixed}", f"average,{average}"]  # fmt: skip


def test_nnunet_file(tmp_path):
    parts = [("1+2", [("a", 0.5, 6, 4, 2), ("b", nan, 0, 0, 0)]), ("2", [("a", 0.25, 1, 3, 3), ("b", 0.75, 3, 1, 1)])]
    scores = pandas.concat([counted(rows, name, label) for label, rows in parts for name in ("dice", "iou")])
    places = {case_id: tmp_path / f"{case_id}.nii" for case_id in "ab"}
    path = foreign_files.write_nnunet(tmp_path / "summary.json", scores, ("2",), places, places)
    found = json.loads(path.read_text())
    assert list(found["mean"]) == ["(1, 2)", "2"] and found["empty_policy"] == "kits"
    assert found["mean"]["(1, 2)"]["Dice"] == 0.5  # the case without it is left out
    assert found["mean"]["(1, 2)"]["FP"] == 2 and found["mean"]["2"]["Dice"] == 0.5
    assert found["foreground_mean"]["Dice"] == 0.5 and found["foreground_mean"]["FN"] == 2
    (first, _), whole = found["metric_per_case"], "(1, 2)"
    # 100 voxels less 6 + 4 + 2.
    assert first["metrics"][whole] == {"Dice": 0.5, "IoU": 0.5, "FN": 2, "FP": 4, "TN": 88, "TP": 6, "n_pred": 10,
                                       "n_ref": 8}  # fmt: skip
    everything = json.loads(foreign_files.write_nnunet(path, scores, (), places, places).read_text())
    assert everything["foreground_mean"]["FP"] == 2  # both rows: (2 + 2) / 2


def test_lits_files(tmp_path):
    array = np.ones((6, 6, 4), np.uint8)
    array[2, 2, 2] = 2
    case = score_lits_case(array, array, (1.0, 1.0, 1.0))
    for path in foreign_files.write_lits(tmp_path, [case]):
        assert path.is_file()
    found = json.loads((tmp_path / "lits.json").read_text())
    assert found["lesion_precision"] == found["lesion_recall"] == 1 and found["num_cases"] == 1
    assert len(pandas.read_csv(tmp_path / "lits.csv")) == 1


# --- advice before a switch


def read_case(folder, probs, reference):
    """A case as `advise` keeps it, from files; one class is the foreground."""
    write_volume(folder / "p.nii", probs[0] if len(probs) == 1 else probs, EYE)
    write_volume(folder / "r.nii", reference, EYE)
    outcome = Outcome(folder)
    cases = advise._read_cases({"c_1": folder / "p.nii"}, {"c_1": folder / "r.nii"}, "axial", None, outcome)
    assert not outcome.failed
    return cases[0]


def test_thresholds_are_tuned_by_unit(tmp_path):
    # One slice with the label: two voxels at 0.9, two at 0.395; in the other slice eight at 0.45 are false.
    # Volume: above 0.45 Dice is 4/6, below 0.395 8/16: 0.5 of the best. Slices with reference: all four below 0.395.
    plane, reference = np.zeros((8, 1, 2), np.float32), np.zeros((8, 1, 2), np.uint8)
    plane[:4, 0, 0], plane[:, 0, 1], reference[:4, 0, 0] = (0.9, 0.9, 0.395, 0.395), 0.45, 1
    case = read_case(tmp_path, np.stack([1 - plane, plane]), reference)
    temperature, thresholds = advise._fit([case], "dice")
    assert thresholds == {"volume": (0.5,), "slice": (0.39,)}
    assert 0.05 <= temperature <= 20


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize(("true", "temperature"), [(9, 1), (8, log(9) / log(4)), (5, 20)])
def test_temperature_by_how_many_are_true(tmp_path, classes, true, temperature):
    # Ten voxels at 0.9, odds of 9: nine true are just right; eight have odds of 4 = 9 ** (1 / T); five have none, and T
    # goes as far as it may.
    plane, reference = np.full((10, 1, 1), 0.9, np.float32), (np.arange(10) < true).reshape(10, 1, 1).astype(np.uint8)
    probs = plane[None] if classes == 1 else np.stack([1 - plane, plane])
    found, _ = advise._fit([read_case(tmp_path, probs, reference)], "dice")
    assert found == pytest.approx(temperature, rel=1e-3)


def test_every_arm_of_the_advice(tmp_path):
    # One voxel at 0.9 is true, ten at 0.3 are not. RMA's value 2 S / (tau + mass + 1): at face value the first alone
    # has 1.8 / 5.9, all eleven 7.8 / 15.9. T = 0.2 takes 0.3 to 0.014: 2 / 3.14 for the first alone.
    probs, reference = np.zeros((1, 12, 1, 1), np.float32), np.zeros((12, 1, 1), np.uint8)
    probs[0, 0], probs[0, 1:11], reference[0] = 0.9, 0.3, 1
    case = read_case(tmp_path, probs, reference)
    rows = advise._score(case, 0.2, {"volume": (0.5,), "slice": (0.2,)}, "dice", "axial", ["tumour"])
    found = indexed(rows, "unit", "decoder")
    poor = 2 / 12  # eleven marked, one true
    values = {"argmax": (1, 1), "rma": (1, 1), "rma_untempered": (poor, poor), "threshold": (1, poor)}
    for arm, pair in values.items():
        assert [found.loc[(unit, arm), "value"] for unit in advise.UNITS] == pytest.approx(list(pair)), arm
        assert set(found.xs(arm, level="decoder")["temperature"]) == {0.2 if arm == "rma" else 1.0}
    assert found.loc["volume", "metric"].eq("dice").all() and found.loc["slice", "metric"].eq("slice_dice").all()
    assert set(found["label_name"]) == {"tumour"} and set(found["label"]) == {"1"}


def test_no_case_is_judged_by_a_fit_that_saw_its_patient(tmp_path, monkeypatch):
    probs, reference = np.zeros((1, 4, 1, 1), np.float32), np.zeros((4, 1, 1), np.uint8)
    probs[0, :2], reference[:2] = 0.9, 1
    ids = [f"c_{k}" for k in range(1, 7)]
    for case_id in ids:
        write_volume(tmp_path / "p" / f"{case_id}.nii", probs[0], EYE)
        write_volume(tmp_path / "r" / f"{case_id}.nii", reference, EYE)
    fits = []

    def fit(cases, metric):
        fits.append({case.case_id for case in cases})
        return 1.0 + len(fits), {"volume": (0.5,), "slice": (0.5,)}

    monkeypatch.setattr(advise, "_fit", fit)
    outcome = advise.advise([tmp_path / "p"], tmp_path / "r", tmp_path / "out", "dice", "axial", "pair", 5)
    assert not outcome.failed and len(fits) == 3  # as many folds as patients
    rows = pandas.read_csv(tmp_path / "out" / "advice_cases.csv")
    seen = rows[rows["decoder"] == "rma"].groupby("case_id")["temperature"].unique()
    for number, case_id in enumerate(ids, 1):
        (temperature,) = seen[case_id]
        twin = f"c_{number + 1 if number % 2 else number - 1}"
        assert fits[int(temperature) - 2] == set(ids) - {case_id, twin}
    assert "6 cases of 3 patients; temperature 2.000 to 4.000" in (tmp_path / "out" / "advice.txt").read_text()


def arms_of(rma=(0.0, -0.1, 0.1), plain=(0.0, -0.1, 0.1), threshold=(0.0, -0.1, 0.1), p=0.01) -> pandas.DataFrame:
    """Mean, low and high of the difference to argmax of every arm."""
    given = {"rma": rma, "rma_untempered": plain, "threshold": threshold}
    table = pandas.DataFrame.from_dict(given, orient="index", columns=["mean", "low", "high"])
    return table.assign(p_permutation=p)


@pytest.mark.parametrize(
    ("arms", "start", "parts", "absent"),
    [
        (arms_of((-0.02, -0.03, -0.01)), "keep argmax: RMA loses (-2.00 points", [], ["confirm"]),
        (arms_of((-0.02, -0.03, -0.01), p=0.2), "keep argmax unless", ["no clear difference", "p = 0.20"], ["loses"]),
        (arms_of((0.02, -0.01, 0.05)), "keep argmax unless", ["no clear difference"], ["confirm"]),
        (arms_of((0.02, 0.01, 0.05), p=0.2), "keep argmax unless", ["no clear difference", "p = 0.20"], ["use RMA"]),
        (arms_of((0.02, 0.01, 0.05)), "use RMA with the temperature (+2.00 points", [], ["threshold", "would lose"]),
        (arms_of((0.02, 0.01, 0.05), threshold=(0.03, 0.01, 0.06)), "use RMA", ["ahead of it (+3.00"], ["would lose"]),
        (arms_of((0.02, 0.01, 0.05), (-0.04, -0.06, -0.01)), "use RMA", ["RMA would lose (-4.00)"], ["ahead"]),
        (arms_of((0.02, nan, nan)), "too few patients for an answer (+2.00 points", [], ["use RMA"]),
    ],
)  # fmt: skip
def test_verdicts(arms, start, parts, absent):
    text = advice._verdict(arms, "volume")
    assert text.startswith(start) and all(part in text for part in parts)
    assert not any(part in text for part in absent)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([-0.05] * 8, "volume: keep argmax: RMA loses (-5.00 points"),
        ([0.05] * 8, "volume: use RMA with the temperature (+5.00 points"),
        (
            [0.05, -0.05, 0.04, -0.04, 0.03, -0.03, 0.02, -0.02],
            "volume: keep argmax unless you have other reasons: no clear difference (+0.00 points",
        ),
        ([0.05] * 5, "volume: too few patients for an answer (+5.00 points"),
    ],
)
def test_answer_in_words(gains, words):
    cases = {f"c_{k}": 0.5 + gain for k, gain in enumerate(gains)}
    same = dict.fromkeys(cases, 0.5)
    arms = {"argmax": same, "rma": cases, "rma_untempered": same, "threshold": same}
    scores = frame({("1", arm): column for arm, column in arms.items()}).assign(unit="volume")
    rows = advise._compare(scores, "dice", None, False)
    assert [row["arm"] for row in rows] == ["rma", "rma_untempered", "threshold"]
    assert all(row["unit"] == "volume" and row["score_unit"] == "1" and row["optimised"] for row in rows)
    lines = advice.word_advice(pandas.DataFrame(rows), scores, [0.8, 1.25], "dice", len(cases))
    assert any(line.startswith(words) for line in lines)
    assert lines[0].startswith(f"{len(cases)} cases of {len(cases)} patients; temperature 0.800 to 1.250")
    num_lost = sum(gain < 0 for gain in gains)
    expected = f"  {num_lost} lose more than a point, most: " if num_lost else "  no case loses more than a point"
    assert lines[-1].startswith(expected)


def test_losers_are_the_worst_first():
    scores = two_arms([0.3, -0.005, -0.02, -0.4, nan, -0.1])
    expected = "  3 lose more than a point, most: c_04 liver -40.0, c_06 liver -10.0, c_03 liver -2.0"
    assert advice._losers(scores, "dice") == [expected]


# --- what is refused, and how folders are named


@pytest.mark.parametrize("name", [*(word for word in RESERVED if word), "Mean", "EXPECTED", "x.csv", "x.json", "x.html",
                                  "../x", "/abs", "a/b", "a/"])  # fmt: skip
def test_names_that_decoders_cannot_have(tmp_path, name):
    with pytest.raises(ValueError, match="named by a plain word"):
        find_arms([f"{name}={tmp_path}"])


@pytest.mark.parametrize("word", ["reference", "expected", "mean", "Masks"])
def test_folders_of_reserved_names_need_another(tmp_path, word):
    (tmp_path / word).mkdir()
    with pytest.raises(ValueError, match="named by a plain word"):
        find_arms([str(tmp_path / word)])
    assert find_arms([f"mine={tmp_path / word}"]) == {"mine": tmp_path / word}


@pytest.mark.parametrize("relative", [True, False])
def test_folders_with_an_equals_sign(tmp_path, monkeypatch, relative):
    for name in ("a=b", "c=d/e=f"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    base = "" if relative else f"{tmp_path}/"
    found = find_arms([f"{base}a=b", f"named={base}c=d/e=f", f"{base}c=d/e=f"])
    assert {name: path.resolve() for name, path in found.items()} == {
        "a=b": tmp_path / "a=b", "named": tmp_path / "c=d/e=f", "e=f": tmp_path / "c=d/e=f",
    }  # fmt: skip


def test_decoders_of_one_folder_and_of_one_name(tmp_path):
    for name in ("run/argmax", "run/rma", "other/rma"):
        (tmp_path / name).mkdir(parents=True)
    run, other = tmp_path / "run", tmp_path / "other"
    assert find_arms([str(run), f"old={other}"]) == {"argmax": run / "argmax", "rma": run / "rma", "old": other / "rma"}
    for entries in ([str(run), str(other)], [f"x={run / 'rma'}", f"x={other}"], [str(run / "rma")] * 2):
        with pytest.raises(ValueError, match="of different names"):
            find_arms(entries)
    with pytest.raises(ValueError, match="one folder of masks to name"):
        find_arms([f"x={run}"])
    with pytest.raises(FileNotFoundError, match="an existing folder"):
        find_arms([f"x={tmp_path / 'none'}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"protocol": protocol, **given}, f"those of the protocol; got {name}")
          for protocol in ("kits23", "lits")
          for name, given in (("label_names", {"label_names": {1: "liver"}}), ("lesions", {"lesions": ["2"]}),
                              ("regions", {"regions": {"x": (1, 2)}}), ("organ", {"organ": (1,)}))),
        ({"label_names": {1: "liver", 2: "tumour"}, "regions": {"liver": (1, 2)}}, "each named once"),
        ({"regions": {"x": (1, 2), "y": (1, 2)}}, "each named once"),
        ({"label_names": {1: "liver", 2: "liver"}}, "each named once"),
        ({"metric": "rvd"}, "a better direction"),
        ({"metric": "slice_dice"}, "slice_dice"),
        ({"connectivity": 18}, "6 or 26"),
        ({"protocol": "brats"}, "brats"),
        ({"empty_policy": "zero"}, "zero"),
        ({"label_names": {1: "liver"}, "lesions": ["tumour"]}, "tumour"),
    ],
)  # fmt: skip
def test_plans_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan_of(**options)


def test_plans_that_are_made():
    plan = plan_of(label_names={1: "liver", 2: "Tumour"}, regions={"both": (1, 2)})
    assert [one.key for one in plan.structures] == ["1", "2", "1+2"]
    assert [one.is_lesion for one in plan.structures] == [False, True, False]
    assert plan.organ == (1,) and plan.empty_policy == "kits" and plan.connectivity == 26
    assert plan_of(protocol="nnunet").empty_policy == "nnunet" and plan_of().structures is None
    assert plan_of(protocol="nnunet", empty_policy="monai").empty_policy == "monai"


def test_validation_patients_must_be_others(tmp_path, monkeypatch):
    for name in ("one/c_2", "two/c_2", "references/c_1", "references/c_2", "validation/c_1", "probabilities/c_2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii").touch()

    def run(**options):
        given = EvaluationOptions(probabilities=tmp_path / "probabilities", **options)
        folders = [str(tmp_path / name) for name in ("one", "two")]
        return compare.compare_folders(
            folders, tmp_path / "references", tmp_path / "out", tmp_path / "validation", given
        )

    with pytest.raises(ValueError, match="1 patients in both, for example 1"):
        run(cluster="pair")
    assert not (tmp_path / "out").exists()
    # Without a rule these are other patients, and c_1 is tuned on, not judged.
    monkeypatch.setattr(compare, "_write_threshold_masks", lambda tuning, outcome: None)
    monkeypatch.setattr(compare, "evaluate_masks", lambda arms, references, out, options, outcome: (arms, options.only))
    arms, only = run()
    assert list(arms) == ["one", "two", "threshold"] and only == {"c_2"}
    (tmp_path / "probabilities" / "c_1.nii").touch()
    with pytest.raises(ValueError, match="for example c_1"):
        run()
