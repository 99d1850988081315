"""The difference of two decoders on the same cases: mean, bootstrap interval, and how many cases move."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong

MIN_CLUSTERS = 6


@dataclass(frozen=True)
class PairedDifference:
    """Second minus first, over the pairs where both are defined.

    Attributes:
        num_pairs: number of pairs; num_left_out: pairs where a score is NaN.
        mean_first, mean_second: means over the pairs.
        mean: mean difference; low and high: its 95 % percentile bootstrap interval, NaN below six patients.
        improved, unchanged, worsened: pairs above +margin, within, below -margin.
        smallest, largest: extreme differences.
    """

    num_pairs: int
    num_left_out: int
    mean_first: float
    mean_second: float
    mean: float
    low: float
    high: float
    improved: int
    unchanged: int
    worsened: int
    smallest: float
    largest: float


def compare_pairs(
    first: Any, second: Any, *, clusters: Sequence[Any] | None, margin: float, num_resamples: int, seed: int
) -> PairedDifference:
    """Compare two decoders case by case.

    Args:
        first: (case,) scores, for example of argmax.
        second: (case,) scores of the other decoder for the same cases in the same order.
        clusters: patient of each case; whole patients are resampled. None: every case is its own.
        margin: a case counts as improved or worsened when it moves by more than this.
        num_resamples: bootstrap resamples.
        seed: seed of the resampling.
    Raises:
        ValueError: lengths differ, or no pair is defined.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    groups = np.arange(len(first)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    if not first.shape == second.shape == groups.shape:
        got = f"{first.shape}, {second.shape} and {groups.shape}"
        raise ValueError(wrong("compare_pairs", "scores and clusters", "of one length", got))
    defined = np.isfinite(first) & np.isfinite(second)
    if not defined.any():
        raise ValueError(wrong("compare_pairs", "scores", "defined for at least one pair", "none"))
    difference = (second - first)[defined]
    low, high = np.nan, np.nan
    if len(np.unique(groups[defined])) >= MIN_CLUSTERS:
        low, high = _bootstrap_mean(difference, groups[defined], num_resamples, seed)
    # A difference of exactly the margin stays unchanged whatever the last bit of the subtraction says.
    edge = margin + 1e-12
    return PairedDifference(
        num_pairs=int(defined.sum()),
        num_left_out=int((~defined).sum()),
        mean_first=float(first[defined].mean()),
        mean_second=float(second[defined].mean()),
        mean=float(difference.mean()),
        low=low,
        high=high,
        improved=int((difference > edge).sum()),
        unchanged=int((np.abs(difference) <= edge).sum()),
        worsened=int((difference < -edge).sum()),
        smallest=float(difference.min()),
        largest=float(difference.max()),
    )


def _bootstrap_mean(difference: Any, groups: Any, num_resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean when whole groups are drawn with replacement."""
    groups = np.unique(groups, return_inverse=True)[1]
    total, count = np.bincount(groups, difference), np.bincount(groups)
    draws = np.random.default_rng(seed).integers(len(total), size=(num_resamples, len(total)))
    means = total[draws].sum(axis=1) / count[draws].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
