"""The difference of two decoders on the same cases: estimates, intervals, tests, and how many cases move."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.statistics.resampling import (
    MAX_ENUMERATED_CLUSTERS,
    TIE,
    bca_interval,
    bootstrap,
    flip_p_value,
    has_interval,
    leave_one_out,
    number_clusters,
    percentile_interval,
)

_QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
_MAX_SUMS = 2**18


@dataclass(frozen=True)
class PairedDifference:
    """Second minus first, over the pairs where both are defined; numbers in the unit of the scores.

    Attributes:
        num_pairs: number of pairs; num_left_out: pairs where a score is NaN or infinite.
        num_clusters: number of patients that the pairs come from.
        mean_first, mean_second: means over the pairs.
        mean: mean difference; low and high: its 95 % BCa interval; percentile_low and percentile_high: its 95 %
            percentile interval. All intervals resample whole clusters and are NaN below six clusters.
        median: median difference, with its intervals likewise.
        hodges_lehmann: median of the averages of two differences, over all pairs of cases and each case with itself.
        p_permutation: two-sided, signs of whole clusters flipped; exact up to 14 clusters.
        p_wilcoxon: two-sided signed-rank test, zeros by Pratt. The observations are the mean differences of the
            clusters (the cases themselves when every case is its own cluster), equal when they agree to 12 decimals.
            Exact up to 14 observations, and up to 50 without zeros and ties; else the normal approximation. 1 when
            all are zero.
        wins, ties, losses: cases where the second decoder is better, equal within 1e-12, worse.
        improved, unchanged, worsened: cases better by more than the first margin, within it, worse by more.
        improved_5, worsened_5, improved_10, worsened_10: the same beyond the second and the third margin.
        first_q05 to difference_q95: quantiles (linear) of either decoder and of the difference over the cases.
        smallest, largest: extreme differences, second minus first whichever direction is better.
    """

    num_pairs: int
    num_left_out: int
    num_clusters: int
    mean_first: float
    mean_second: float
    mean: float
    low: float
    high: float
    percentile_low: float
    percentile_high: float
    median: float
    median_low: float
    median_high: float
    median_percentile_low: float
    median_percentile_high: float
    hodges_lehmann: float
    p_permutation: float
    p_wilcoxon: float
    wins: int
    ties: int
    losses: int
    improved: int
    unchanged: int
    worsened: int
    improved_5: int
    worsened_5: int
    improved_10: int
    worsened_10: int
    first_q05: float
    first_q25: float
    first_q50: float
    first_q75: float
    first_q95: float
    second_q05: float
    second_q25: float
    second_q50: float
    second_q75: float
    second_q95: float
    difference_q05: float
    difference_q25: float
    difference_q50: float
    difference_q75: float
    difference_q95: float
    smallest: float
    largest: float


def compare_pairs(
    first: Any,
    second: Any,
    *,
    clusters: Sequence[Any] | None,
    better: str,
    margins: tuple[float, float, float],
    num_resamples: int,
    seed: int,
) -> PairedDifference:
    """Compare two decoders case by case.

    Args:
        first: (case,) scores, for example of argmax.
        second: (case,) scores of the other decoder for the same cases in the same order.
        clusters: patient of each case; whole patients are resampled and flipped. None: every case is its own.
        better: "higher" or "lower", the direction in which a score improves.
        margins: three ascending sizes in the unit of the scores; a case improves or worsens when it moves by more.
        num_resamples: resamples of the bootstrap, and flips of the permutation test.
        seed: seed of both.
    Returns:
        The comparison. It does not depend on the order of the cases.
    Raises:
        ValueError: lengths differ, no pair is defined, or an option is out of range.
    Example:
        >>> found = compare_pairs(
        ...     [0.5, 0.6, 0.7], [0.6, 0.8, 0.7], clusters=None, better="higher", margins=(0.01, 0.05, 0.1),
        ...     num_resamples=1000, seed=0,
        ... )
        >>> round(found.mean, 6), found.wins, found.ties, found.improved_10, found.p_permutation
        (0.1, 2, 1, 1, 0.5)
    """
    _check_options(better, margins, num_resamples)
    first, second, owner, num_left_out = _defined_pairs(first, second, clusters)
    difference = second - first
    return PairedDifference(
        num_pairs=len(difference),
        num_left_out=num_left_out,
        num_clusters=int(owner.max()) + 1,
        mean_first=float(first.mean()),
        mean_second=float(second.mean()),
        mean=float(difference.mean()),
        median=float(np.median(difference)),
        **_intervals(difference, owner, num_resamples, seed),
        hodges_lehmann=hodges_lehmann(difference),
        p_permutation=flip_p_value(difference, owner, num_resamples, seed),
        p_wilcoxon=_wilcoxon(np.bincount(owner, difference) / np.bincount(owner)),
        **_counts(difference if better == "higher" else -difference, margins),
        **_quantiles("first", first),
        **_quantiles("second", second),
        **_quantiles("difference", difference),
        smallest=float(difference.min()),
        largest=float(difference.max()),
    )


def mean_difference(
    first: Any, second: Any, *, clusters: Sequence[Any] | None, num_resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean, low and high of `compare_pairs`, without the rest; arguments and errors as there."""
    first, second, owner, _ = _defined_pairs(first, second, clusters)
    difference = second - first
    ends = _intervals(difference, owner, num_resamples, seed)
    return float(difference.mean()), ends["low"], ends["high"]


def adjust_holm(p_values: Any) -> Any:
    """P-values adjusted for the number of comparisons by Holm's step-down method.

    Args:
        p_values: (comparison,) in [0, 1]; NaN is no comparison.
    Returns:
        (comparison,) float64, never below the p-value itself; NaN stays NaN.
    Raises:
        ValueError: not one-dimensional, or a value outside [0, 1].
    Source:
        Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 65-70.
    Example:
        >>> adjust_holm([0.01, 0.04, float("nan"), 0.03]).tolist()
        [0.03, 0.06, nan, 0.06]
    """
    p_values = np.asarray(p_values, np.float64)
    counted = ~np.isnan(p_values)
    kept = p_values[counted]
    if p_values.ndim != 1 or ((kept < 0) | (kept > 1)).any():
        raise ValueError(wrong("adjust_holm", "p_values", "one-dimensional, in [0, 1] or NaN", repr(p_values.tolist())))
    order = np.argsort(kept, kind="stable")
    adjusted = np.full(p_values.shape, np.nan)
    stepped = np.maximum.accumulate(kept[order] * np.arange(len(kept), 0, -1))
    adjusted[np.flatnonzero(counted)[order]] = np.minimum(stepped, 1.0)
    return adjusted


def stratify(values: Any, *, names: Sequence[str] = ("low", "middle", "high")) -> list[str]:
    """Name the stratum of each value: as many strata of about equal size, by rank, as there are names.

    Args:
        values: (case,) numbers, for example reference volumes, lesion counts or predicted uncertainties.
        names: strata from the lowest to the highest values.
    Returns:
        (case,) names. Equal values share a stratum, that of their mean rank (on an edge the upper one), so strata
        differ in size and can be empty; all values equal are in the middle. "undefined" where not finite.
    Raises:
        ValueError: values are not one-dimensional, or there is no name.
    Example:
        >>> stratify([5.0, 1.0, 9.0, float("nan"), 1.0])
        ['middle', 'low', 'high', 'undefined', 'low']
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not names:
        got = f"{values.ndim}-dimensional values and {len(names)} names"
        raise ValueError(wrong("stratify", "values and names", "one-dimensional and at least one", got))
    finite = np.isfinite(values)
    # Twice the mean rank is a whole number, so a rank on an edge is not left to rounding.
    twice = np.rint(2 * stats.rankdata(values[finite])).astype(np.int64)
    place = np.full(values.shape, -1)
    place[finite] = len(names) * (twice - 1) // (2 * max(1, int(finite.sum())))
    return [names[k] if k >= 0 else "undefined" for k in place]


def hodges_lehmann(values: Any) -> float:
    """Median of the averages of any two values, each value with itself included (Walsh averages).

    Exact for every number of values: the averages are listed only once few enough are left, so memory stays below
    20 MB for 10,000 values (50 million averages).

    Args:
        values: (case,) finite float64, at least one.
    Source:
        Hodges and Lehmann 1963, Ann. Math. Stat. 34, 598-611; selection after Johnson and Mizoguchi 1978, SIAM J.
        Comput. 7, 147-153.
    Example:
        >>> hodges_lehmann([0.0, 1.0, 5.0])  # averages 0, 0.5, 1, 2.5, 3, 5
        1.75
    """
    ascending = np.sort(np.asarray(values, np.float64))
    num_sums = len(ascending) * (len(ascending) + 1) // 2
    lower = _select_sum(ascending, (num_sums - 1) // 2)
    upper = lower if num_sums % 2 else _select_sum(ascending, num_sums // 2)
    return (lower + upper) / 4


def _check_options(better: str, margins: Sequence[float], num_resamples: int) -> None:
    require_one_of("compare_pairs", "better", better, ("higher", "lower"))
    if len(margins) != 3 or not 0 <= margins[0] <= margins[1] <= margins[2] < np.inf:
        raise ValueError(wrong("compare_pairs", "margins", "three ascending numbers from 0", repr(margins)))
    if num_resamples < 1:
        raise ValueError(wrong("compare_pairs", "num_resamples", "at least 1", num_resamples))


def _defined_pairs(first: Any, second: Any, clusters: Sequence[Any] | None) -> tuple[Any, Any, Any, int]:
    """The pairs where both are finite, with the cluster of each, in an order that depends on no other."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    names = np.zeros(first.shape) if clusters is None else np.asarray(clusters)
    if not first.shape == second.shape == names.shape == (first.size,):
        got = f"{first.shape}, {second.shape} and {names.shape}"
        raise ValueError(wrong("compare_pairs", "scores and clusters", "of one length", got))
    defined = np.isfinite(first) & np.isfinite(second)
    if not defined.any():
        raise ValueError(wrong("compare_pairs", "scores", "defined for at least one pair", "none"))
    first, second = first[defined], second[defined]
    owner = number_clusters(names[defined])
    # Sums round by their order, so one order for every order of the files: by what is summed.
    order = np.lexsort((first, second - first, owner))
    owner = np.arange(len(first)) if clusters is None else owner[order]
    return first[order], second[order], owner, int((~defined).sum())


def _intervals(difference: Any, owner: Any, num_resamples: int, seed: int) -> dict[str, Any]:
    names = [f"{statistic}{method}{end}" for statistic in ("", "median_") for method in ("", "percentile_")
             for end in ("low", "high")]  # fmt: skip
    if not has_interval(owner):
        return dict.fromkeys(names, float("nan"))
    points = float(difference.mean()), float(np.median(difference))
    # All resamples are this one value, but for the last bits of their means.
    if difference.min() == difference.max():
        return dict(zip(names, np.repeat(points, 4).tolist(), strict=True))
    ends: list[float] = []
    drawn, left = bootstrap(difference, owner, num_resamples, seed), leave_one_out(difference, owner)
    for point, distribution, jackknife in zip(points, drawn, left, strict=True):
        ends += [*bca_interval(distribution, point, jackknife), *percentile_interval(distribution)]
    return dict(zip(names, ends, strict=True))


def _wilcoxon(observations: Any) -> float:
    # Equal differences of scores, 0.51 - 0.50 and 0.61 - 0.60, differ in their last bits.
    observations = np.round(observations, 12)
    if not observations.any():
        return 1.0
    if len(observations) <= MAX_ENUMERATED_CLUSTERS:
        # As exact as SciPy's enumeration, which takes most of a second where there are zeros or ties.
        ranks = np.sign(observations) * stats.rankdata(np.abs(observations))
        return flip_p_value(ranks, np.arange(len(ranks)), num_resamples=0, seed=0)
    return float(stats.wilcoxon(observations, zero_method="pratt").pvalue)


def _counts(gain: Any, margins: Sequence[float]) -> dict[str, Any]:
    """Cases beyond 0 and beyond each margin; a gain of exactly the margin is within it, whatever its last bit."""
    up = [int((gain > edge + TIE).sum()) for edge in (0.0, *margins)]
    down = [int((gain < -edge - TIE).sum()) for edge in (0.0, *margins)]
    return {
        "wins": up[0], "ties": len(gain) - up[0] - down[0], "losses": down[0],
        "improved": up[1], "unchanged": len(gain) - up[1] - down[1], "worsened": down[1],
        "improved_5": up[2], "worsened_5": down[2], "improved_10": up[3], "worsened_10": down[3],
    }  # fmt: skip


def _quantiles(prefix: str, values: Any) -> dict[str, Any]:
    found = np.quantile(values, list(_QUANTILES.values()))
    return {f"{prefix}_{name}": float(value) for name, value in zip(_QUANTILES, found, strict=True)}


def _select_sum(ascending: Any, rank: int) -> float:
    """The sum of this rank, from 0, among ascending[i] + ascending[j] with i <= j."""
    rows = np.arange(len(ascending))
    start, stop = rows, np.full(len(rows), len(rows))  # row i keeps the columns start[i] to stop[i] - 1
    # Sums of sorted values ascend along rows and columns: each step drops at least a quarter of those left.
    while (stop - start).sum() > _MAX_SUMS:
        pivot = _middle_sum(ascending, start, stop)
        below = _first_column(ascending, start, stop, np.less, pivot)
        through = _first_column(ascending, below, stop, np.less_equal, pivot)
        if rank < (below - rows).sum():
            stop = below
        elif rank < (through - rows).sum():
            return pivot
        else:
            start = through
    kept = stop - start
    columns = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept - start, kept)
    sums = np.repeat(ascending, kept) + ascending[columns]
    place = rank - int((start - rows).sum())
    return float(np.partition(sums, place)[place])


def _middle_sum(ascending: Any, start: Any, stop: Any) -> float:
    """The weighted median of the rows' middle sums: at least a quarter of the sums left lie on either side."""
    middle = ascending + ascending[(start + stop - 1) // 2]
    order = np.argsort(middle, kind="stable")
    reached = np.cumsum((stop - start)[order])
    return float(middle[order[np.searchsorted(reached, reached[-1] / 2)]])


def _first_column(ascending: Any, start: Any, stop: Any, precedes: Any, pivot: float) -> Any:
    """First column of each row, in [start, stop], whose sum does not precede the pivot: bisection in all rows."""
    while (start < stop).any():
        middle = (start + stop) // 2
        before = precedes(ascending + ascending[np.minimum(middle, len(ascending) - 1)], pivot)
        searching = start < stop
        start, stop = np.where(searching & before, middle + 1, start), np.where(searching & ~before, middle, stop)
    return start
