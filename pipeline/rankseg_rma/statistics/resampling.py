"""Resampling of whole clusters (patients): bootstrap distributions, their intervals, and sign flips.

Everywhere ``values`` is (case,) float64 and ``owner`` (case,) int64, the cluster of each case, 0 to the number of
clusters minus 1, none empty. Numbers are drawn and summed in a fixed order and in pieces, so that a seed gives the
same result on every machine and 10,000 resamples of 5,000 cases need a few megabytes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

TAIL = 0.025
# Statistics closer than this (times their size, where they exceed 1) are ties: only rounding tells them apart.
TIE = 1e-12
MAX_ENUMERATED_CLUSTERS = 14
_PIECE = 2**18


def bootstrap(values: Any, owner: Any, num_resamples: int, seed: int) -> tuple[Any, Any]:
    """Draw whole clusters with replacement, and take the mean and the median over the cases drawn.

    Args:
        values: (case,) float64.
        owner: (case,) cluster of each case.
        num_resamples: number of resamples.
        seed: seed of `numpy.random.default_rng`.
    Returns:
        means and medians, (resample,) float64 each, of the same draws. A cluster drawn twice counts twice.
    """
    generator, num_clusters = np.random.default_rng(seed), int(owner.max()) + 1

    def draw(first: int, last: int) -> Any:
        rows = last - first
        drawn = generator.integers(num_clusters, size=(rows, num_clusters))
        drawn += num_clusters * np.arange(rows)[:, None]
        return np.bincount(drawn.ravel(), minlength=rows * num_clusters).reshape(rows, num_clusters)

    return _means_and_medians(values, owner, num_resamples, draw)


def leave_one_out(values: Any, owner: Any) -> tuple[Any, Any]:
    """Means and medians, (cluster,) float64 each, over the cases without each cluster in turn: the jackknife."""
    num_clusters = int(owner.max()) + 1

    def leave(first: int, last: int) -> Any:
        weights = np.ones((last - first, num_clusters), np.int64)
        weights[np.arange(last - first), np.arange(first, last)] = 0
        return weights

    return _means_and_medians(values, owner, num_clusters, leave)


def percentile_interval(distribution: Any) -> tuple[float, float]:
    """95 % percentile interval of a bootstrap distribution."""
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
    edge = abs(total.sum()) - TIE * len(values) * max(1.0, float(np.abs(values).max()))
    exact = len(total) <= MAX_ENUMERATED_CLUSTERS
    num_patterns = 2 ** len(total) if exact else num_resamples
    generator, extreme = np.random.default_rng(seed), 0
    for first, last in _pieces(num_patterns, len(total)):
        if exact:
            flipped = (np.arange(first, last)[:, None] >> np.arange(len(total))) & 1 == 1
        else:
            flipped = generator.integers(2, size=(last - first, len(total)), dtype=np.bool_)
        extreme += int((np.abs(np.where(flipped, -total, total).sum(axis=1)) >= edge).sum())
    return extreme / num_patterns if exact else (extreme + 1) / (num_patterns + 1)


def _pieces(num_rows: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, _PIECE // width)
    return ((first, min(first + step, num_rows)) for first in range(0, num_rows, step))


def _means_and_medians(values: Any, owner: Any, num_rows: int, weigh: Any) -> tuple[Any, Any]:
    """Mean and median over the cases for rows of cluster weights; ``weigh(first, last)`` gives (row, cluster)."""
    total, count = np.bincount(owner, values), np.bincount(owner)
    order = np.argsort(values, kind="stable")
    ascending, owner = values[order], owner[order]
    means, medians = np.empty(num_rows), np.empty(num_rows)
    for first, last in _pieces(num_rows, len(values)):
        weights = weigh(first, last)
        # No matrix product: its order of summation depends on the machine.
        means[first:last] = (weights * total).sum(axis=1) / (weights * count).sum(axis=1)
        medians[first:last] = _weighted_medians(ascending, weights[:, owner])
    return means, medians


def _weighted_medians(ascending: Any, weights: Any) -> Any:
    """Median of each row when ``ascending[k]`` occurs ``weights[row, k]`` times."""
    reached = np.cumsum(weights, axis=1)
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


# Resamples times cases that are held at once.
_DRAWN_PIECE = 2**20


def draw_weights(cluster: Any, num_resamples: int, seed: int) -> Iterator[Any]:
    """Draw whole clusters with replacement, a few resamples at a time.

    Args:
        cluster: (case,) number of the cluster (patient) of each case, 0 to the number of clusters minus 1.
        num_resamples: number of resamples in all.
        seed: seed of `numpy.random.default_rng`; the draws do not depend on the size of the pieces.
    Yields:
        (resample, case) int64: how often each case is drawn. The same draws as `compare_pairs` takes.
    """
    generator, num_clusters = np.random.default_rng(seed), int(cluster.max()) + 1
    step = max(1, _DRAWN_PIECE // len(cluster))
    for first in range(0, num_resamples, step):
        rows = min(step, num_resamples - first)
        drawn = generator.integers(num_clusters, size=(rows, num_clusters))
        drawn += num_clusters * np.arange(rows)[:, None]
        counted = np.bincount(drawn.ravel(), minlength=rows * num_clusters).reshape(rows, num_clusters)
        yield counted[:, cluster]


def join_rows(pieces: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """One array per name from pieces of rows."""
    listed = list(pieces)
    return {name: np.concatenate([piece[name] for piece in listed]) for name in listed[0]}
