"""Tests and estimates of paired differences, and the strata of a cohort."""

import dataclasses
import tracemalloc
from itertools import combinations_with_replacement

import numpy as np
import pytest
from pairs import compare, compare_differences
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rankseg_rma.statistics import differences as paired
from rankseg_rma.statistics.differences import (
    PairedDifference,
    adjust_holm,
    hodges_lehmann,
    stratify,
)
from rankseg_rma.statistics.resampling import flip_p_value

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
