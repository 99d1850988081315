"""The paired comparison against SciPy, statsmodels, brute force, cases worked by hand, and simulated coverage."""

import dataclasses
import tracemalloc
from itertools import combinations_with_replacement
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rankseg_rma.statistics import differences as paired
from rankseg_rma.statistics.differences import (
    MIN_CLUSTERS,
    PairedDifference,
    adjust_holm,
    compare_pairs,
    hodges_lehmann,
    stratify,
)
from rankseg_rma.statistics.resampling import bca_interval, bootstrap, flip_p_value, leave_one_out

INTERVALS = [f"{name}{end}" for name in ("", "percentile_", "median_", "median_percentile_") for end in ("low", "high")]


def compare(first, second, clusters=None, better="higher", margins=(0.01, 0.05, 0.1), num_resamples=10_000, seed=0):
    return compare_pairs(
        first, second, clusters=clusters, better=better, margins=margins, num_resamples=num_resamples, seed=seed
    )


def compare_differences(difference, clusters=None, **options):
    return compare(np.zeros(len(difference)), difference, clusters, **options)


# Intervals


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


# Tests


@pytest.mark.parametrize("num_cases", [2, 7, 12])
def test_permutation_against_scipy(rng, num_cases):
    first, second = rng.random(num_cases), rng.random(num_cases)
    judge = stats.permutation_test(
        (first, second), lambda x, y: (y - x).mean(), permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert compare(first, second, num_resamples=10).p_permutation == pytest.approx(judge.pvalue, rel=1e-12)


@pytest.mark.parametrize(
    ("clusters", "difference", "extreme", "patterns"),
    [
        # Totals 0.3, 0.1, -0.2: |sum| is 0.6, 0.2, 0.4, 0 with the first sign fixed, 0.2 observed: 3 of 4.
        ("aabc", [0.1, 0.2, 0.1, -0.2], 6, 8),
        # Totals 4, 3, 2, 1, all of one sign: only all and none flipped.
        ("aabcd", [3, 1, 3, 2, 1], 2, 16),
        # Totals 1, 1, 1, 1, -4: 0 observed, so every pattern.
        ("abcde", [1, 1, 1, 1, -4], 32, 32),
        # Five of six alike, sum 4: none, one, five or six flipped, 1 + 6 + 6 + 1.
        ("abcdef", [0.1, 0.1, 0.1, 0.1, 0.1, -0.1], 14, 64),
        # |28 - 2 s| >= 14 tenths, s of {3, 8, 6, 4, 7}: s <= 7 for none, 3, 4, 6, 7, 3 + 4, and the complements. Two
        # of them miss 1.4 by rounding.
        ("abcde", [-0.3, -0.8, -0.6, -0.4, 0.7], 12, 32),
    ],
)
def test_permutation_of_clusters_by_hand(clusters, difference, extreme, patterns):
    assert compare_differences(difference, list(clusters), num_resamples=10).p_permutation == extreme / patterns


def test_random_flips(rng):
    """15 clusters are flipped at random: near the p-value of all 32,768 patterns, and never 0."""
    values, bits = rng.normal(0.03, 0.05, 15), np.arange(2**15)[:, None] >> np.arange(15) & 1
    exact = (np.abs((1 - 2 * bits) @ values) >= abs(values.sum()) - 1e-12).mean()
    assert 0.01 < exact < 0.5
    assert flip_p_value(values, np.arange(15), 50_000, seed=0) == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 50_000))
    assert flip_p_value(np.ones(40), np.arange(40), 999, seed=0) == 1 / 1000
    assert flip_p_value(np.ones(15), np.arange(15), 9, seed=0) == 1 / 10
    assert flip_p_value(np.ones(14), np.arange(14), 9, seed=0) == 2 / 2**14
    assert flip_p_value(np.zeros(40), np.arange(40), 999, seed=0) == 1


@pytest.mark.parametrize("num_cases", [1, 5, 13, 14, 15, 40, 80])
def test_wilcoxon_against_scipy(rng, num_cases):
    difference = rng.normal(0.01, 0.05, num_cases)
    judge = stats.wilcoxon(difference, zero_method="pratt").pvalue
    assert compare_differences(difference, num_resamples=10).p_wilcoxon == pytest.approx(judge, rel=1e-9)


@pytest.mark.parametrize("num_cases", [6, 13, 30, 90])
def test_wilcoxon_with_zeros_and_ties_against_scipy(rng, num_cases):
    difference = rng.integers(-3, 5, num_cases) / 8
    difference[:2] = 0
    judge = stats.wilcoxon(difference, zero_method="pratt").pvalue
    assert compare_differences(difference, num_resamples=10).p_wilcoxon == pytest.approx(judge, rel=1e-9)
    # Scores whose differences are the same numbers but for the last bits.
    first = rng.random(num_cases)
    noisy = compare(first, first + difference, num_resamples=10)
    assert noisy.p_wilcoxon == pytest.approx(judge, rel=1e-9)


def test_wilcoxon_by_hand():
    # Ranks 1 (a zero, dropped), 2, 3, 4 (negative), 5: 10 against 4. |sum| of +-2 +-3 +-4 +-5 is at least 6 where the
    # flipped ranks sum to at most 4 or at least 10: none, 2, 3, 4 and their complements, 8 of 16.
    assert compare_differences([0, 0.1, 0.2, -0.3, 0.4]).p_wilcoxon == 0.5
    assert compare_differences([0, 1e-14, 0]).p_wilcoxon == 1
    assert compare_differences(np.zeros(60), num_resamples=10).p_wilcoxon == 1
    # Cluster means 0.1, -0.2, 0.3 (totals 0.4, -0.2, 0.3): ranks 1, -2, 3, sum 2. |sum| is 6, 2, 4, 0 with the last
    # sign fixed: 3 of 4.
    assert compare_differences([0.1, 0, 0.1, 0.2, -0.2, 0.3], list("aaaabc")).p_wilcoxon == 0.75


@pytest.mark.parametrize("num_values", [1, 2, 7, 40])
def test_holm_against_statsmodels(rng, num_values):
    p_values = np.round(rng.random(num_values) ** 3, 2)  # with ties
    judge = multipletests(p_values, method="holm")[1]
    assert adjust_holm(p_values) == pytest.approx(judge, rel=1e-12)
    mixed = np.insert(p_values, [0, num_values // 2, num_values], np.nan)
    found = adjust_holm(mixed)
    assert found[~np.isnan(mixed)] == pytest.approx(judge, rel=1e-12)
    assert np.array_equal(np.isnan(found), np.isnan(mixed))


def test_holm_edges():
    assert adjust_holm([]).shape == (0,)
    assert np.isnan(adjust_holm([np.nan, np.nan])).all()
    for bad in ([1.5], [-0.1, 0.5], [[0.5]], 0.5):
        with pytest.raises(ValueError, match="p_values must be one-dimensional, in"):
            adjust_holm(bad)


# Estimates


@pytest.mark.parametrize("num_values", [1, 2, 3, 10, 61])
def test_hodges_lehmann_against_brute_force(rng, num_values):
    for values in (rng.normal(size=num_values), rng.integers(-2, 3, num_values) / 4):
        walsh = [(x + y) / 2 for x, y in combinations_with_replacement(values, 2)]
        assert hodges_lehmann(values) == np.median(walsh)


@pytest.mark.parametrize("kind", ["smooth", "mostly zero", "few values", "two groups", "tiny"])
def test_hodges_lehmann_of_many_against_brute_force(rng, kind):
    values = rng.normal(0.01, 1, 2000)
    if kind == "mostly zero":
        values[:1500] = 0
    elif kind == "few values":
        values = rng.integers(-2, 3, 2001) / 10
    elif kind == "two groups":
        values[1000:] += 1e6
    elif kind == "tiny":
        values *= 1e-300
    walsh = (values[:, None] + values)[np.triu_indices(len(values))] / 2
    assert hodges_lehmann(values) == np.median(walsh)


@pytest.mark.parametrize("num_listed", [1, 5, 1000])
def test_every_rank_of_the_sums(rng, monkeypatch, num_listed):
    monkeypatch.setattr(paired, "_MAX_SUMS", num_listed)
    for values in (rng.normal(size=9), rng.integers(-2, 3, 9) / 4):
        sums = sorted(x + y for x, y in combinations_with_replacement(values, 2))
        assert [paired._select_sum(np.sort(values), rank) for rank in range(45)] == sums


def test_memory_is_bounded(rng):
    """Unbounded, the resamples alone would take 40 MB and the Walsh averages 100 MB."""
    difference = rng.normal(size=5000)
    tracemalloc.start()
    compare_differences(difference, num_resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


def test_estimates_against_numpy(rng):
    first, second = rng.random(31), rng.random(31)
    found = vars(compare(first, second, num_resamples=10))
    for name, values in (("first", first), ("second", second), ("difference", second - first)):
        for percent in (5, 25, 50, 75, 95):
            assert found[f"{name}_q{percent:02d}"] == pytest.approx(np.percentile(values, percent))
    judge = [first.mean(), second.mean(), (second - first).mean(), np.median(second - first)]
    assert [found[name] for name in ("mean_first", "mean_second", "mean", "median")] == pytest.approx(judge)
    assert (found["smallest"], found["largest"]) == ((second - first).min(), (second - first).max())


def test_counts_by_hand():
    # Points: +10.1, +10 (edge), +5.1, +5 (edge), +1 (edge), 0, 0, -1 (edge), -2, -5 (edge), -5.1, -30.
    first = np.full(12, 0.5)
    second = np.array([0.601, 0.6, 0.551, 0.55, 0.51, 0.5, 0.5 + 1e-13, 0.49, 0.48, 0.45, 0.449, 0.2])
    found = compare(first, second, num_resamples=10)
    assert (found.wins, found.ties, found.losses) == (5, 2, 5)
    assert (found.improved, found.unchanged, found.worsened) == (4, 4, 4)
    assert (found.improved_5, found.worsened_5, found.improved_10, found.worsened_10) == (3, 2, 1, 1)


def test_lower_is_better_swaps_the_counts_only(rng):
    first, second = rng.random(50), rng.random(50) + 0.05
    higher, lower = (vars(compare(first, second, better=better, num_resamples=100)) for better in ("higher", "lower"))
    swaps = {"wins": "losses", "improved": "worsened", "improved_5": "worsened_5", "improved_10": "worsened_10"}
    for up, down in swaps.items():
        assert (lower[up], lower[down]) == (higher[down], higher[up])
    assert higher["wins"] != higher["losses"]
    moved = {*swaps, *swaps.values()}
    assert {k: v for k, v in lower.items() if k not in moved} == {k: v for k, v in higher.items() if k not in moved}


# The whole


def test_undefined_pairs_are_left_out():
    first, second = np.array([0.5, 0.5, 0.5, np.nan, 0.2]), np.array([0.51, 0.52, 0.4, 1.0, np.inf])
    found = compare(first, second, list("aabcd"), num_resamples=100)
    assert (found.num_pairs, found.num_left_out, found.num_clusters) == (3, 2, 2)
    assert (found.improved, found.unchanged, found.worsened) == (1, 1, 1)
    assert (found.mean_first, found.smallest) == (0.5, pytest.approx(-0.1))


def test_one_pair():
    found = compare([0.25], [0.5])
    assert (found.mean, found.median, found.hodges_lehmann, found.difference_q05) == (0.25, 0.25, 0.25, 0.25)
    assert (found.p_permutation, found.p_wilcoxon, found.wins) == (1, 1, 1)


def test_order_of_the_cases_does_not_matter(rng):
    first = rng.random(60)
    second = first + rng.integers(-3, 4, 60) / 50
    first[7] = np.nan
    clusters, order = np.array([f"p{k}" for k in rng.integers(20, size=60)]), rng.permutation(60)
    for patients in (None, clusters):
        shuffled = None if patients is None else patients[order]
        # To the last bit, and so also twice the same.
        assert compare(first, second, patients) == compare(first[order], second[order], shuffled)
    assert compare(first, second, seed=0).low != compare(first, second, seed=1).low


def test_a_seed_gives_these_numbers():
    k = np.arange(48)
    first = 0.5 + 0.01 * k
    found = compare(first, first + ((7 * k) % 11 - 4) ** 3 / 1000 + k**2 / 1e5, k // 3, seed=20251015)
    recorded = {
        "mean": 0.0395666666667,
        "median": 0.01075,
        "hodges_lehmann": 0.0212675,
        "low": 0.0224863158488,
        "high": 0.0572750463379,
        "percentile_low": 0.0222451614583,
        "percentile_high": 0.057009171875,
        "median_low": 0.00646,
        "median_high": 0.02016,
        "median_percentile_low": 0.00646,
        "median_percentile_high": 0.02016,
        "p_permutation": 0.000799920007999,
        "p_wilcoxon": 0.00100708007812,
    }
    assert {name: getattr(found, name) for name in recorded} == pytest.approx(recorded, rel=1e-9)


def test_fields_become_a_row(rng):
    found = compare(rng.random(8), rng.random(8), num_resamples=10)
    row = vars(found)
    assert list(row) == [field.name for field in dataclasses.fields(PairedDifference)]
    assert list(row)[:8] == [
        "num_pairs", "num_left_out", "num_clusters", "mean_first", "mean_second", "mean", "low", "high",
    ]  # fmt: skip
    assert list(row)[-2:] == ["smallest", "largest"]
    assert {type(value) for value in row.values()} == {int, float}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.mean = 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"first": [np.nan, np.inf]}, "scores must be defined for at least one pair; got none"),
        ({"first": [], "second": []}, "at least one pair"),
        ({"first": [1.0]}, "scores and clusters must be of one length"),
        ({"first": 1.0, "second": 1.0}, "of one length"),
        ({"first": [[0.0, 1.0]], "second": [[0.0, 1.0]]}, "of one length"),
        ({"clusters": ["a"]}, "of one length"),
        ({"better": "up"}, "better must be one of 'higher', 'lower'"),
        ({"margins": (0.1, 0.05, 0.01)}, "margins must be three ascending"),
        ({"margins": (0.1, 0.2)}, "margins must be three ascending"),
        ({"margins": (0.1, np.nan, 0.2)}, "margins must be three ascending"),
        ({"num_resamples": 0}, "num_resamples must be at least 1"),
    ],
)
def test_errors(change, match):
    with pytest.raises(ValueError, match=match):
        compare(**{"first": [0.0, 1.0], "second": [1.0, 1.0], **change})


# Strata


def test_strata_by_hand(rng):
    assert stratify([1, 2, 3, 4, 5, 6]) == ["low", "low", "middle", "middle", "high", "high"]
    assert stratify([4, 3, 2, 1]) == ["high", "middle", "middle", "low"]
    # Lesion counts: ranks 2.5 of the zeros and 6 of the ones, of 8 cases: (2.5 - 0.5) / 8 and 5.5 / 8 on a scale of 3.
    assert stratify([0, 0, 0, 0, 1, 1, 1, 7]) == [*["low"] * 4, *["high"] * 3, "high"]
    assert stratify([2, 2, 2]) == ["middle"] * 3
    assert stratify([np.nan, 1, np.inf]) == ["undefined", "middle", "undefined"]
    assert stratify([]) == []
    assert stratify([3, 1], names=("small", "large")) == ["large", "small"]
    values = rng.normal(size=300)
    cuts = np.quantile(values, [1 / 3, 2 / 3])
    assert stratify(values) == [("low", "middle", "high")[k] for k in np.searchsorted(cuts, values)]
    for bad, names in (([[1.0]], ("a",)), ([1.0], ())):
        with pytest.raises(ValueError, match="stratify: values and names must be"):
            stratify(bad, names=names)
