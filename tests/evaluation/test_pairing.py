"""Decoder against decoder, from a handful of scores: every number is worked out by hand."""

from math import nan

import numpy as np
import pandas
import pytest
from made_scores import frame, indexed, rule, two_arms

from rankseg_rma.evaluation import advise, protocols
from rankseg_rma.evaluation import paired as comparison
from rankseg_rma.evaluation.paired import WITHOUT, margins_of, pair_rows, strata_rows
from rankseg_rma.evaluation.structures import Structure
from rankseg_rma.statistics.differences import compare_pairs
from rankseg_rma.tables.columns_of_evaluation import MACRO


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
    assert comparison.optimised_metric(pandas.DataFrame(told, columns=["metric", "score_over"])) == metric


@pytest.mark.parametrize("through", ["comparison", "advise"])
def test_twins_are_one_patient(through):
    # Ids 2k - 1 and 2k are twins of the same gain: the interval is that of 6 patients, not of 12.
    gains = [0.01, 0.02, 0.05, 0.08, 0.13, 0.3]
    scores = two_arms([gain for gain in gains for _ in "ab"])

    def row(cluster):
        if through == "comparison":
            return pair_rows(scores, rule(cluster=cluster))[0]
        return advise._compare(scores.assign(score_over="volume"), "dice", cluster, False)[0]

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


def test_averaged_labels():
    single = [Structure("1", "liver", (1,), False, ()), Structure("2", "tumour", (2,), True, ())]
    region = Structure("1+2", "whole", (1, 2), False, ())
    assert protocols.averaged_keys([*single, region], None) == ("1", "2")
    assert protocols.averaged_keys([region], "nnunet") == ("1+2",)
    assert protocols.averaged_keys(single, "lits") == ()
    assert protocols.averaged_keys(protocols.KITS23_REGIONS, "kits23") == ("1+2+3", "2+3", "2")
