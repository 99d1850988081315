"""Expected against real scores: SciPy, pair counting, every order of ties, and examples worked by hand."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from rankseg_rma.statistics.quality import judge_quality, risk_coverage

JUDGED = ("mae", "bias", "pearson", "spearman", "auroc", "aurc", "aurc_best", "aurc_random")


def scores(rng, n=60, decimals=12):
    """Expected scores that follow real ones loosely and are optimistic; few decimals give ties."""
    real = rng.beta(5, 2, n)
    return np.round(np.clip(real + rng.normal(0.05, 0.1, n), 0, 1), decimals), np.round(real, decimals)


def auroc_by_pairs(expected, failed):
    """Fraction of (failed, fine) pairs where the failed one has the lower score, ties half."""
    pairs = list(product(expected[failed], expected[~failed]))
    return np.mean([(low < high) + 0.5 * (low == high) for low, high in pairs])


def aurc_of_order(real, order):
    risk = 1 - np.asarray(real)[list(order)]
    return np.mean([risk[: kept + 1].mean() for kept in range(len(risk))])


@pytest.mark.parametrize("decimals", [1, 12])
def test_against_scipy_and_pair_counting(rng, decimals):
    expected, real = scores(rng, decimals=decimals)
    found = judge_quality(expected, real, failure_below=0.7)
    assert found.pearson == pytest.approx(stats.pearsonr(expected, real).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(expected, real).statistic)
    failed = real < 0.7
    assert found.auroc == pytest.approx(auroc_by_pairs(expected, failed))
    assert found.auroc == pytest.approx(
        stats.mannwhitneyu(expected[~failed], expected[failed]).statistic / (failed.sum() * (~failed).sum())
    )
    assert found.mae == pytest.approx(np.mean(np.abs(expected - real)))
    assert found.bias == pytest.approx(expected.mean() - real.mean())
    assert (found.num_cases, found.num_left_out, found.failure_below) == (60, 0, 0.7)


def test_risk_and_coverage_by_hand():
    # kept in the order 0.9, 0.8, 0.7, 0.4: risks 0.1, 0.4, 0.2, 0.9
    expected, real = [0.7, 0.9, 0.4, 0.8], [0.8, 0.9, 0.1, 0.6]
    coverage, risk = risk_coverage(expected, real)
    np.testing.assert_array_equal(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0.1, 0.5 / 2, 0.7 / 3, 1.6 / 4])
    found = judge_quality(expected, real, failure_below=0.5)
    assert found.aurc == pytest.approx((0.1 + 0.25 + 0.7 / 3 + 0.4) / 4)
    assert found.aurc_best == pytest.approx((0.1 + 0.3 / 2 + 0.7 / 3 + 0.4) / 4)  # 0.1, 0.2, 0.4, 0.9
    assert found.aurc_random == pytest.approx(0.4)
    assert (found.mae, found.bias) == pytest.approx(((0.1 + 0 + 0.3 + 0.2) / 4, (-0.1 + 0 + 0.3 + 0.2) / 4))
    assert found.auroc == 1


@pytest.mark.parametrize("expected", [[0.5, 0.9, 0.5, 0.5, 0.1], [0.5] * 5, [0.5, 0.2, 0.2, 0.5, 0.9]])
def test_ties_are_the_mean_over_their_orders(expected):
    real = [0.9, 0.3, 0.2, 0.7, 0.55]
    orders = [order for order in permutations(range(5)) if (np.diff(np.array(expected)[list(order)]) <= 0).all()]
    found = judge_quality(expected, real, failure_below=0.5)
    assert found.aurc == pytest.approx(np.mean([aurc_of_order(real, order) for order in orders]))
    every = [aurc_of_order(real, order) for order in permutations(range(5))]
    assert found.aurc_random == pytest.approx(np.mean(every))
    assert found.aurc_best == pytest.approx(min(every))


def test_order_of_cases_does_not_matter(rng):
    expected, real = scores(rng, decimals=1)
    order = rng.permutation(60)
    found = judge_quality(expected, real, failure_below=0.7)
    other = judge_quality(expected[order], real[order], failure_below=0.7)
    for name in JUDGED:
        assert getattr(other, name) == pytest.approx(getattr(found, name)), name
    np.testing.assert_allclose(risk_coverage(expected, real)[1], risk_coverage(expected[order], real[order])[1])
    assert found.aurc_best <= found.aurc < found.aurc_random


def test_a_perfect_and_a_useless_expectation(rng):
    real = rng.random(30)
    perfect = judge_quality(real, real, failure_below=0.5)
    assert (perfect.mae, perfect.bias, perfect.auroc, perfect.aurc) == (0, 0, 1, perfect.aurc_best)
    assert (perfect.pearson, perfect.spearman) == pytest.approx((1, 1))
    reverse = judge_quality(1 - real, real, failure_below=0.5)
    assert (reverse.auroc, reverse.spearman) == pytest.approx((0, -1))
    assert reverse.aurc > reverse.aurc_random
    constant = judge_quality(np.full(30, 0.1), real, failure_below=0.5)
    assert constant.auroc == 0.5
    assert constant.aurc == pytest.approx(constant.aurc_random)
    assert np.isnan([constant.pearson, constant.spearman]).all()


def test_a_score_at_the_limit_did_not_fail():
    found = judge_quality([0.2, 0.6], [0.5, 0.4], failure_below=0.5)
    assert found.auroc == 0  # only the second failed, and it has the higher expected score


def test_undefined_cases_are_left_out_and_counted():
    found = judge_quality([0.5, np.nan, 0.7, 0.9], [0.4, 0.3, np.nan, 0.8], failure_below=0.5)
    assert (found.num_cases, found.num_left_out) == (2, 2)
    assert found == replace(judge_quality([0.5, 0.9], [0.4, 0.8], failure_below=0.5), num_left_out=2)
    assert len(risk_coverage([0.5, np.nan], [0.4, 0.3])[0]) == 1


def test_too_few_cases_are_not_defined():
    none = judge_quality([], [], failure_below=0.5)
    assert none.num_cases == 0
    assert np.isnan([getattr(none, name) for name in JUDGED]).all()
    assert [part.tolist() for part in risk_coverage([], [])] == [[], []]
    one = judge_quality([0.9], [0.7], failure_below=0.5)
    assert (one.mae, one.aurc, one.aurc_best, one.aurc_random) == pytest.approx((0.2, 0.3, 0.3, 0.3))
    assert np.isnan([one.pearson, one.spearman, one.auroc]).all()
    assert np.isnan(judge_quality([0.9, 0.8], [0.1, 0.2], failure_below=0.5).auroc)  # all failed
    assert np.isnan(judge_quality([0.9, 0.8], [0.9, 0.8], failure_below=0.5).auroc)  # none did


@pytest.mark.parametrize(
    ("expected", "real", "message"),
    [
        ([0.5, 0.6], [0.5], "real must be one score per case"),
        ([[0.5]], [[0.5]], "expected must be one score per case"),
        ([0.5], [81.0], "real must be scores in .0, 1. or NaN; got 81"),
        ([-0.5], [0.5], "expected must be scores"),
        ([np.inf], [0.5], "expected must be scores"),
    ],
)
def test_wrong_scores(expected, real, message):
    with pytest.raises(ValueError, match=f"judge_quality: {message}"):
        judge_quality(expected, real, failure_below=0.5)
    with pytest.raises(ValueError, match=f"risk_coverage: {message}"):
        risk_coverage(expected, real)


def test_wrong_threshold():
    with pytest.raises(ValueError, match="failure_below must be a number in"):
        judge_quality([0.5], [0.5], failure_below=50)
