"""What an expected score is worth: the score that a decoder expects, against the one that it really gets.

The expected score needs no reference, so it can say which masks to look at. It is implied by the model: it believes the
network's probabilities, is optimistic where they are over-confident or their errors come together, and carries no
interval. Here it is judged on cases that do have a reference.
"""

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from scipy.stats import rankdata

from rankseg_rma.checks import require_number, wrong
from rankseg_rma.statistics.agreement import pearson

# A score may leave [0, 1] by rounding.
SLACK = 1e-6


@dataclass(frozen=True)
class QualityScores:
    """How well the expected score, which the model implies, foretells the real one. No interval is derived from it.

    Attributes:
        num_cases: cases with both scores; num_left_out: cases where one is NaN.
        mae: mean absolute difference.
        bias: mean of expected minus real; above 0 the model is optimistic.
        pearson, spearman: correlation of values and of ranks; NaN below two cases or when one score is constant.
        auroc: chance that a failed case has a lower expected score than one that did not fail, ties counting half;
            NaN unless there are cases of both kinds.
        aurc: area under the risk-coverage curve, the mean of `risk_coverage`'s risks; lower is better.
        aurc_best: the same had cases been ordered by their real score, the least possible.
        aurc_random: the same in random order, the mean risk.
        failure_below: a case failed when its real score lies below this.
    """

    num_cases: int
    num_left_out: int
    mae: float
    bias: float
    pearson: float
    spearman: float
    auroc: float
    aurc: float
    aurc_best: float
    aurc_random: float
    failure_below: float


def judge_quality(expected: Any, real: Any, *, failure_below: float) -> QualityScores:
    """Compare expected with real scores over cases.

    Args:
        expected: (case,) scores in [0, 1] that the model implies, without a reference; NaN leaves the case out.
        real: (case,) scores of the same masks against their references.
        failure_below: a case failed when its real score lies below this.
    Returns:
        The comparison; NaN where it is not defined, everything without a case.
    Raises:
        ValueError: lengths differ, a score is not in [0, 1] (points from 0 to 100, say), or ``failure_below`` is not.
    Source:
        Geifman and El-Yaniv 2017 (risk and coverage); arXiv 2406.03323 (AURC for masks).
    Example:
        >>> found = judge_quality([0.9, 0.8, 0.7, 0.4], [0.9, 0.6, 0.8, 0.1], failure_below=0.5)
        >>> found.auroc, round(found.mae, 3), round(found.bias, 3), round(found.aurc, 4)
        (1.0, 0.15, 0.1, 0.2458)
    """
    threshold = require_number("judge_quality", "failure_below", failure_below, 0, 1)
    expected, real, num_left_out = _pairs("judge_quality", expected, real)
    difference = expected - real
    return QualityScores(
        num_cases=len(real),
        num_left_out=num_left_out,
        mae=_mean(np.abs(difference)),
        bias=_mean(difference),
        pearson=pearson(expected, real),
        spearman=pearson(rankdata(expected), rankdata(real)),
        auroc=_auroc(expected, real < threshold),
        aurc=_mean(_risks(expected, 1 - real)),
        aurc_best=_mean(_risks(real, 1 - real)),
        aurc_random=_mean(1 - real),
        failure_below=threshold,
    )


def risk_coverage(expected: Any, real: Any) -> tuple[Any, Any]:
    """Risk of the cases that are kept when those with the lowest expected score are handed to a reader.

    Cases are kept in the order of decreasing expected score, which the model implies. Cases that tie are kept in random
    order, and the risk is its expectation: it depends neither on the order of the files nor on a seed.

    Args:
        expected: (case,) scores in [0, 1], without a reference; NaN leaves the case out.
        real: (case,) scores of the same masks against their references.
    Returns:
        coverage and risk, both (defined case,) float64: the fraction of cases kept, 1/n to 1, and the mean of 1 - real
        over them. Empty without a case.
    Raises:
        ValueError: lengths differ, or a score is not in [0, 1].
    Example:
        >>> coverage, risk = risk_coverage([0.2, 0.8], [0.5, 1.0])
        >>> coverage.tolist(), risk.tolist()
        ([0.5, 1.0], [0.0, 0.25])
    """
    expected, real, _ = _pairs("risk_coverage", expected, real)
    return np.arange(1, len(real) + 1) / max(len(real), 1), _risks(expected, 1 - real)


def _risks(score: Any, risk: Any) -> Any:
    """Mean risk of the 1, 2, ... n cases of highest score, expected over the order of ties."""
    order = np.argsort(-score, kind="stable")
    _, tie = np.unique(-score, return_inverse=True)
    # Any of the tied cases is as likely to come next: each counts as their mean.
    shared = (np.bincount(tie, risk) / np.bincount(tie))[tie] if len(tie) else risk
    return np.cumsum(shared[order]) / np.arange(1, len(risk) + 1)


def _auroc(score: Any, failed: Any) -> float:
    """Chance that a failed case has the lower score, from the ranks (Mann and Whitney)."""
    num_failed, num_fine = int(failed.sum()), int((~failed).sum())
    if not num_failed or not num_fine:
        return nan
    # Tied scores share their mean rank, and so count one half, as the definition has it.
    ranks = rankdata(-score)
    return float((ranks[failed].sum() - num_failed * (num_failed + 1) / 2) / (num_failed * num_fine))


def _pairs(function: str, expected: Any, real: Any) -> tuple[Any, Any, int]:
    """Both scores as float64 where neither is NaN, and how many cases that leaves out."""
    expected, real = np.asarray(expected, np.float64), np.asarray(real, np.float64)
    for argument, scores in (("expected", expected), ("real", real)):
        if scores.ndim != 1 or scores.shape != expected.shape:
            raise ValueError(wrong(function, argument, "one score per case", f"shape {scores.shape}"))
        strange = scores[(scores < -SLACK) | (scores > 1 + SLACK)]
        if strange.size:
            advice = "Give fractions, not points or percent."
            raise ValueError(wrong(function, argument, "scores in [0, 1] or NaN", f"{strange[0]:g}", advice=advice))
    defined = ~(np.isnan(expected) | np.isnan(real))
    return expected[defined], real[defined], int((~defined).sum())


def _mean(values: Any) -> float:
    return float(values.mean()) if len(values) else nan
