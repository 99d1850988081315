"""Resampling of whole clusters (patients): bootstrap distributions, their intervals, and sign flips.

Everywhere ``values`` is (case,) float64 and ``owner`` (case,) int64, the cluster of each case, 0 to the number of
clusters minus 1, none empty. Numbers are drawn and summed in a fixed order and in pieces, so that a seed gives the
same result on every machine and 10,000 resamples of 5,000 cases need a few megabytes.

All intervals rest on one drawing, `draw_clusters`: `bootstrap` takes means and medians of values from it, `resample`
any scores that are functions of how often each case is drawn. With one seed both see the same resamples.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

TAIL = 0.025
# Statistics closer than this (times their size, where they exceed 1) are ties: only rounding tells them apart.
TIE = 1e-12
MAX_ENUMERATED_CLUSTERS = 14
# With fewer there are too few different resamples (126 of five) for their tails to mean anything.
MIN_CLUSTERS = 6
# Weights (rows times cases) held at once: of means and medians as many as stay in a processor's cache.
_PIECE = 2**18
# Of scores that are matrix products. The last bits of a product may hang on its number of rows, and so on this.
_SCORE_PIECE = 2**20


@dataclass(frozen=True, eq=False)
class Resampled:
    """A score of the sample itself, and of its resamples.

    Attributes:
        value: score of the sample.
        distribution: (resample,) float64; all NaN below six clusters.
    """

    value: float
    distribution: Any


def number_clusters(names: Sequence[Any]) -> Any:
    """(case,) number of the cluster of each case, by its name; in the order of the sorted names."""
    return np.unique(np.asarray(names), return_inverse=True)[1]


def has_interval(owner: Any) -> bool:
    """Whether there are clusters enough for an interval."""
    return int(owner.max()) + 1 >= MIN_CLUSTERS


def draw_clusters(owner: Any, num_resamples: int, seed: int, piece: int) -> Iterator[Any]:
    """Draw whole clusters with replacement, a few resamples at a time.

    Args:
        owner: (case,) cluster of each case.
        num_resamples: number of resamples in all.
        seed: seed of `numpy.random.default_rng`.
        piece: resamples times cases to yield at once; the draws do not depend on it.
    Yields:
        (resample, cluster) int64: how often each cluster is drawn.
    """
    generator, num_clusters = np.random.default_rng(seed), int(owner.max()) + 1
    for first, last in _pieces(num_resamples, len(owner), piece):
        rows = last - first
        drawn = generator.integers(num_clusters, size=(rows, num_clusters))
        # One count for all rows: each has a range of numbers of its own.
        drawn += num_clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * num_clusters).reshape(rows, num_clusters)


def resample(
    score: Callable[[Any], Mapping[str, Any]], owner: Any, num_resamples: int, seed: int
) -> dict[str, Resampled]:
    """Scores of a data set and of its resamples.

    Args:
        score: from (row, case) int64 weights, how often each row has each case, to (row,) float64 by name.
        owner: (case,) cluster of each case.
        num_resamples: number of resamples.
        seed: as for `draw_clusters`.
    Returns:
        By name of the score. A cluster drawn twice counts twice.
    """
    whole = score(np.ones((1, len(owner)), np.int64))
    if has_interval(owner):
        pieces = [score(part[:, owner]) for part in draw_clusters(owner, num_resamples, seed, _SCORE_PIECE)]
        drawn = {name: np.concatenate([piece[name] for piece in pieces]) for name in whole}
    else:
        drawn = dict.fromkeys(whole, np.full(num_resamples, nan))
    return {name: Resampled(float(row[0]), drawn[name]) for name, row in whole.items()}


def bootstrap(values: Any, owner: Any, num_resamples: int, seed: int) -> tuple[Any, Any]:
    """Draw whole clusters with replacement, and take the mean and the median over the cases drawn.

    Args:
        values: (case,) float64.
        owner: (case,) cluster of each case.
        num_resamples: number of resamples.
        seed: as for `draw_clusters`.
    Returns:
        means and medians, (resample,) float64 each, of the same draws. A cluster drawn twice counts twice.
    """
    return _means_and_medians(values, owner, draw_clusters(owner, num_resamples, seed, _PIECE))


def leave_one_out(values: Any, owner: Any) -> tuple[Any, Any]:
    """Means and medians, (cluster,) float64 each, over the cases without each cluster in turn: the jackknife."""
    num_clusters = int(owner.max()) + 1
    pieces = _pieces(num_clusters, len(owner), _PIECE)
    return _means_and_medians(
        values, owner, (1 - np.eye(last - first, num_clusters, first, np.int64) for first, last in pieces)
    )


def percentile_interval(distribution: Any) -> tuple[float, float]:
    """95 % percentile interval of a bootstrap distribution; NaN where a resample has no value."""
    # Quantiles of the others would hide that the score can vanish; below six clusters none has a value.
    if np.isnan(distribution).any():
        return nan, nan
    low, high = np.quantile(distribution, [TAIL, 1 - TAIL])
    return float(low), float(high)


def bca_interval(distribution: Any, point: float, jackknife: Any) -> tuple[float, float]:
    """95 % interval, bias-corrected and accelerated.

    Args:
        distribution: (resample,) bootstrap values of the statistic.
        point: the statistic of the sample itself.
        jackknife: (cluster,) the statistic without each cluster.
    Returns:
        low and high. Resamples equal to the point count half in the bias correction. Where the jackknife does not
        move (a median amid equal values), the acceleration is 0.
    Source:
        Efron 1987, Better bootstrap confidence intervals, J. Am. Stat. Assoc. 82, 171-185.
    """
    tie = TIE * max(1.0, float(np.abs(distribution).max()))
    below, through = (distribution < point - tie).sum(), (distribution <= point + tie).sum()
    # A point outside all its resamples would have an infinite bias; half a resample keeps it finite.
    share = np.clip((below + through) / 2, 0.5, len(distribution) - 0.5) / len(distribution)
    shifted = ndtri(share) + np.array([ndtri(TAIL), ndtri(1 - TAIL)])
    # A large acceleration could turn the levels around; at the limit they only reach the end of the distribution.
    stretch = np.maximum(1 - _acceleration(jackknife) * shifted, 1e-9)
    low, high = np.quantile(distribution, ndtr(ndtri(share) + shifted / stretch))
    return float(low), float(high)


def flip_p_value(values: Any, owner: Any, num_resamples: int, seed: int) -> float:
    """Two-sided p-value of the mean when the signs of whole clusters are flipped at random.

    Args:
        values: (case,) differences.
        owner: (case,) cluster of each case.
        num_resamples: number of random flips, with more than 14 clusters; up to 14 every pattern is counted.
        seed: seed of `numpy.random.default_rng`.
    Returns:
        share of patterns whose mean is at least as far from 0 as the observed one; 1 when all values are 0. For
        random patterns the observed one is counted too, so that the p-value is never 0.
    Source:
        Phipson and Smyth 2010, Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9, 39.
    """
    total = np.bincount(owner, values)
    # Patterns that mirror the observed one, or differ from it in zeros only, must count as equally far.
    edge = abs(total.sum()) - TIE * len(values) * max(1.0, float(np.abs(values).max()))
    exact = len(total) <= MAX_ENUMERATED_CLUSTERS
    num_patterns = 2 ** len(total) if exact else num_resamples
    generator, extreme = np.random.default_rng(seed), 0
    for first, last in _pieces(num_patterns, len(total), _PIECE):
        if exact:
            flipped = (np.arange(first, last)[:, None] >> np.arange(len(total))) & 1 == 1
        else:
            flipped = generator.integers(2, size=(last - first, len(total)), dtype=np.bool_)
        extreme += int((np.abs(np.where(flipped, -total, total).sum(axis=1)) >= edge).sum())
    return extreme / num_patterns if exact else (extreme + 1) / (num_patterns + 1)


def _pieces(num_rows: int, width: int, piece: int) -> Iterator[tuple[int, int]]:
    step = max(1, piece // width)
    return ((first, min(first + step, num_rows)) for first in range(0, num_rows, step))


def _means_and_medians(values: Any, owner: Any, pieces: Iterable[Any]) -> tuple[Any, Any]:
    """Mean and median over the cases for rows of weights, given as pieces of (row, cluster)."""
    # Clusters are drawn whole: the mean needs their sums only, the median every case.
    total, count = np.bincount(owner, values), np.bincount(owner)
    order = np.argsort(values, kind="stable")
    ascending, owner = values[order], owner[order]
    means, medians = [], []
    for weights in pieces:
        # No matrix product: its order of summation depends on the machine.
        means.append((weights * total).sum(axis=1) / (weights * count).sum(axis=1))
        medians.append(_weighted_medians(ascending, weights[:, owner]))
    return np.concatenate(means), np.concatenate(medians)


def _weighted_medians(ascending: Any, weights: Any) -> Any:
    """Median of each row when ``ascending[k]`` occurs ``weights[row, k]`` times."""
    reached = np.cumsum(weights, axis=1)
    # Resamples hold different numbers of cases where clusters differ in size, so each row has a middle of its own.
    middle = reached[:, -1:] // 2
    upper = ascending[np.count_nonzero(reached <= middle, axis=1)]
    lower = ascending[np.count_nonzero(reached <= (reached[:, -1:] - 1) // 2, axis=1)]
    return (lower + upper) / 2


def _acceleration(jackknife: Any) -> float:
    """A sixth of the skewness of the jackknife influences; between -1/6 and 1/6, and 0 when they are all equal."""
    influence = jackknife.mean() - jackknife
    largest = float(np.abs(influence).max())
    if largest <= TIE * max(1.0, float(np.abs(jackknife).max())) / len(jackknife):
        return 0.0
    influence /= largest
    return float((influence**3).sum() / (6 * (influence**2).sum() ** 1.5))
