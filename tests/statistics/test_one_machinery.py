"""Evaluation and test share one formula of Dice and IoU, one drawing of patients and one interval."""

import re
from pathlib import Path

import numpy as np
import pytest

import rankseg_rma
from rankseg_rma.metrics.lits import LitsObject
from rankseg_rma.metrics.metric import Measured, find_metric
from rankseg_rma.metrics.overlap import Overlap, dice_of, fraction_of, iou_of
from rankseg_rma.metrics.semantic import SemanticCounts, class_values
from rankseg_rma.statistics.differences import compare_pairs, mean_difference

PACKAGE = Path(rankseg_rma.__file__).parent


def test_every_judge_of_the_same_counts_says_the_same(rng):
    for tp, fp, fn in [(0, 0, 3), (5, 0, 0), (2, 7, 1), *rng.integers(1, 10**12, (20, 3)).tolist()]:
        counts = Overlap(tp, fp, fn)
        whole = SemanticCounts(*(np.array([[0, part]]) for part in (tp, fp, fn)), np.zeros(1, np.int64))
        for metric, found in (("dice", dice_of(counts)), ("iou", iou_of(counts))):
            numerator, denominator = fraction_of(metric, tp, fp, fn)
            assert found == numerator / denominator == class_values(whole, metric, "present")[0, 1]
            assert found == find_metric(metric).value(Measured(counts, 1.0), "kits")
        assert LitsObject(counts, 0.0, 0.0, 0.0).corrected_scores()["dice"] == dice_of(counts)


def test_empty_masks_are_left_to_the_caller():
    empty = Overlap(0, 0, 0)
    assert np.isnan([dice_of(empty), iou_of(empty)]).all() and fraction_of("dice", 0, 0, 0) == (0, 0)
    assert find_metric("dice").value(Measured(empty, 1.0), "kits") == 1.0
    nothing = SemanticCounts(*np.zeros((3, 1, 2), np.int64), np.zeros(1, np.int64))
    assert np.isnan(class_values(nothing, "dice", "binary")).all()


def test_dice_is_written_once():
    """The decoder, which may not import metrics, scores its thresholds over arrays of its own."""
    doubled = re.compile(r"\b2 \* (self\.)?(counts\.)?(tp|true|true_positives)\b")
    found = {path for path in PACKAGE.rglob("*.py") if doubled.search(path.read_text(encoding="utf-8"))}
    assert found == {PACKAGE / "metrics" / "overlap.py", PACKAGE / "decoder" / "threshold.py"}


@pytest.mark.parametrize("clusters", [None, list("aabbbccddefgh"), list("aaaaabbbbbccc")])
def test_the_difference_of_a_test_is_that_of_an_evaluation(rng, clusters):
    first, second = rng.random((2, 13))
    first[4] = np.nan
    options = {"clusters": clusters, "num_resamples": 500, "seed": 3}
    found = compare_pairs(first, second, better="higher", margins=(0.01, 0.05, 0.1), **options)
    assert mean_difference(first, second, **options) == pytest.approx(
        (found.mean, found.low, found.high), nan_ok=True, abs=0
    )
