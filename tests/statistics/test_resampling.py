"""Intervals of paired differences, by resampling patients."""

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest
from pairs import compare_differences
from scipy import stats

from rankseg_rma.statistics.resampling import MIN_CLUSTERS, bca_interval, bootstrap, leave_one_out

INTERVALS = [f"{name}{end}" for name in ("", "percentile_", "median_", "median_percentile_") for end in ("low", "high")]


@pytest.mark.parametrize(("statistic", "prefix"), [(np.mean, ""), (np.median, "median_")])
@pytest.mark.parametrize(("method", "infix"), [("BCa", ""), ("percentile", "percentile_")])
def test_intervals_against_scipy(rng, statistic, prefix, method, infix):
    """Other draws, so within Monte-Carlo error: an end has a standard error of 0.027 deviations, two ends 0.038."""
    difference = rng.gamma(1.5, 0.02, 60) - 0.02
    found = vars(compare_differences(difference))
    judge = stats.bootstrap((difference,), statistic, n_resamples=10_000, method=method, rng=1)
    ours = found[f"{prefix}{infix}low"], found[f"{prefix}{infix}high"]
    # The median's distribution is lumpy, so that its quantiles jump.
    tolerance = (0.1 if statistic is np.mean else 0.3) * judge.standard_error
    assert ours == pytest.approx(tuple(judge.confidence_interval), abs=tolerance)


@pytest.mark.parametrize(("statistic", "prefix", "which"), [(np.mean, "", 0), (np.median, "median_", 1)])
@pytest.mark.parametrize("num_cases", [6, 25, 60])
def test_bca_equals_scipy_on_the_same_resamples(rng, statistic, prefix, which, num_cases):
    difference = np.sort(rng.gamma(1.5, 0.02, num_cases) - 0.02)
    distribution = bootstrap(difference, np.arange(num_cases), 2000, seed=3)[which]
    given = dataclasses.make_dataclass("Given", ["bootstrap_distribution"])(distribution)
    judge = stats.bootstrap((difference,), statistic, n_resamples=0, bootstrap_result=given, method="BCa")
    found = vars(compare_differences(difference, num_resamples=2000, seed=3))
    ours = found[f"{prefix}low"], found[f"{prefix}high"]
    assert ours == pytest.approx(tuple(judge.confidence_interval), rel=1e-12)


def test_resamples_of_clusters_are_those_of_their_cases(rng):
    """Draw clusters, lay their cases side by side, and ask NumPy; likewise with one cluster left out."""
    owner = np.repeat(np.arange(7), [1, 4, 2, 1, 3, 5, 2])
    values = rng.integers(-4, 5, len(owner)) / 8
    means, medians = bootstrap(values, owner, 300, seed=5)
    for drawn, mean, median in zip(np.random.default_rng(5).integers(7, size=(300, 7)), means, medians, strict=True):
        cases = np.concatenate([values[owner == k] for k in drawn])
        assert (mean, median) == (pytest.approx(cases.mean(), abs=1e-15), np.median(cases))
    means, medians = leave_one_out(values, owner)
    for k in range(7):
        cases = values[owner != k]
        assert (means[k], medians[k]) == (pytest.approx(cases.mean(), abs=1e-15), np.median(cases))


def test_resamples_in_pieces_are_those_in_one(rng):
    values = rng.normal(size=701)
    means, medians = bootstrap(values, np.arange(701), 1000, seed=5)
    drawn = values[np.random.default_rng(5).integers(701, size=(1000, 701))]
    assert means == pytest.approx(drawn.mean(axis=1), abs=1e-14)
    assert np.array_equal(medians, np.median(drawn, axis=1))
    means, medians = leave_one_out(values, np.arange(701))
    left = [np.delete(values, k) for k in range(701)]
    assert means == pytest.approx([cases.mean() for cases in left], abs=1e-14)
    assert np.array_equal(medians, [np.median(cases) for cases in left])


def test_bca_of_clusters_against_the_formula(rng):
    clusters = np.repeat([f"p{k}" for k in range(9)], [1, 4, 2, 1, 3, 5, 2, 2, 1])
    difference = rng.gamma(1.0, 0.05, len(clusters)) - 0.02
    found = compare_differences(difference, clusters, num_resamples=4000, seed=2)
    draws = np.random.default_rng(2).integers(9, size=(4000, 9))
    cases = [difference[clusters == f"p{k}"] for k in range(9)]
    means = np.array([np.concatenate([cases[k] for k in drawn]).mean() for drawn in draws])
    left = np.array([np.concatenate(cases[:k] + cases[k + 1 :]).mean() for k in range(9)])
    influence = left.mean() - left
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    normal = NormalDist()
    # Some draws take every patient once, and so tie with the sample.
    ties = np.isclose(means, difference.mean(), rtol=1e-12)
    assert ties.any()
    bias = normal.inv_cdf(((means < difference.mean()) & ~ties).mean() + ties.mean() / 2)
    levels = []
    for tail in (0.025, 0.975):
        shifted = bias + normal.inv_cdf(tail)
        levels.append(normal.cdf(bias + shifted / (1 - acceleration * shifted)))
    assert abs(levels[0] - 0.025) > 0.005  # the correction is at work
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, levels)), rel=1e-9)
    assert (found.percentile_low, found.percentile_high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_resamples_equal_to_the_point_count_half():
    """A third tie with the point but for rounding, a third lie on either side: no bias, so the plain percentiles."""
    distribution = np.r_[np.linspace(-2, -1, 100), np.tile([-1e-16, 0.0, 0.0, 1e-16], 25), np.linspace(1, 2, 100)]
    plain = tuple(np.quantile(distribution, [0.025, 0.975]))
    assert bca_interval(distribution, 0.0, np.array([-1.0, 1.0])) == pytest.approx(plain, rel=1e-12)
    one_sided = np.arange(100.0)
    # 10.5 of 100 at or below 10: bias -1.2536, levels Phi(2 bias -+ 1.96) = 0.0000 and 0.2922.
    assert bca_interval(one_sided, 10.0, np.array([-1.0, 1.0])) == pytest.approx((0.0, 28.93), abs=0.01)


def test_coverage_of_normal_samples():
    """The true difference lies in about 95 % of the intervals; 25 cases and the bootstrap make it a bit less."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        found = compare_differences(rng.normal(0.01, 0.05, 25), num_resamples=1000)
        inside += found.low <= 0.01 <= found.high
    assert 0.88 <= inside / 200 <= 0.98


def test_coverage_needs_whole_patients():
    """Three alike cases per patient: intervals over patients hold the true difference, those over cases do not."""
    rng, whole, single = np.random.default_rng(1), 0, 0
    clusters = np.repeat(np.arange(25), 3)
    for _ in range(200):
        difference = np.repeat(rng.normal(0, 0.05, 25), 3) + rng.normal(0, 0.01, 75)
        by_patient = compare_differences(difference, clusters, num_resamples=500)
        by_case = compare_differences(difference, num_resamples=500)
        whole += by_patient.low <= 0 <= by_patient.high
        single += by_case.low <= 0 <= by_case.high
    assert 0.88 <= whole / 200 <= 0.98
    assert single / 200 < 0.8


def test_twins_carry_no_more_than_singles(rng):
    """Mean, intervals and tests over patients with each case doubled are those over the cases."""
    single, names = rng.normal(0.01, 0.05, 40), np.arange(40)
    alone = compare_differences(single, names)
    twins = compare_differences(np.repeat(single, 2), np.repeat(names, 2))
    for name in ("mean", "median", "p_permutation", "p_wilcoxon", *INTERVALS):
        assert getattr(twins, name) == pytest.approx(getattr(alone, name), rel=1e-12), name
    assert (alone.num_clusters, twins.num_clusters, twins.num_pairs) == (40, 40, 80)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-200])
def test_equal_differences_are_their_own_interval(value):
    found = compare_differences(np.full(9, value), num_resamples=50)
    assert {getattr(found, name) for name in INTERVALS[:4]} == {found.mean}
    assert {getattr(found, name) for name in INTERVALS[4:]} == {found.median} == {value}


def test_degenerate_resamples_raise_no_warning():
    """Most cases do not move: the median's jackknife is flat, some of its resamples are not."""
    difference = np.repeat([-0.2, 0.0, 0.3], [3, 5, 3])
    found = compare_differences(difference)
    assert (found.median, found.median_low, found.median_high) == (0, -0.2, 0.3)
    # One case moves: bias and acceleration at their largest; the interval stays finite and holds the mean.
    found = compare_differences(np.r_[np.zeros(30), 1.0])
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert (found.median_low, found.median_high) == (0, 0)
    # Patients whose cases cancel: every resample has the mean 0.
    found = compare_differences(np.tile([-1.0, 1.0], 8), np.repeat(np.arange(8), 2))
    assert (found.low, found.high, found.p_permutation, found.p_wilcoxon) == (0, 0, 1, 1)
    assert bca_interval(np.linspace(1, 2, 100), 5.0, np.array([1.0, 2.0])) == pytest.approx((2, 2), abs=1e-3)


def test_too_few_clusters_carry_no_interval():
    difference = np.linspace(-1, 1, 12)
    few, enough = (compare_differences(difference, np.arange(12) % number) for number in (5, 6))
    assert (few.num_clusters, enough.num_clusters, MIN_CLUSTERS) == (5, 6, 6)
    assert all(np.isnan(getattr(few, name)) for name in INTERVALS)
    assert all(np.isfinite(getattr(enough, name)) for name in INTERVALS)
