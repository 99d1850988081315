"""Agreement of predicted and reference volumes over a cohort: limits of agreement, ICC, CCC, tumour burden.

Differences are prediction minus reference. NaN means "not defined".
"""

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong

# 95 % of a normal distribution, as in Bland and Altman's limits of agreement.
LIMIT_SD = 1.96


@dataclass(frozen=True)
class VolumeAgreement:
    """Agreement of predicted with reference volumes; differences are prediction minus reference.

    Attributes:
        num_cases: cases with both volumes; num_left_out: cases where one is NaN.
        bias_ml: mean difference.
        sd_ml: standard deviation of the differences (n - 1).
        loa_low_ml, loa_high_ml: limits of agreement, bias -/+ 1.96 sd.
        bias_percent, sd_percent, loa_low_percent, loa_high_percent: the same of the difference in percent of the mean
            of both volumes. A case lies between -200 (nothing predicted) and 200 (nothing in the reference); the limits
            may not.
        mae_ml: mean absolute difference.
        icc_agreement: ICC(A,1), which a systematic difference lowers.
        icc_consistency: ICC(C,1), which it does not.
        ccc: Lin's concordance correlation coefficient.
        pearson: correlation.
        num_percent: cases behind the figures in percent, those where not both volumes are 0.
    """

    num_cases: int
    num_left_out: int
    bias_ml: float
    sd_ml: float
    loa_low_ml: float
    loa_high_ml: float
    bias_percent: float
    sd_percent: float
    loa_low_percent: float
    loa_high_percent: float
    mae_ml: float
    icc_agreement: float
    icc_consistency: float
    ccc: float
    pearson: float
    num_percent: int


@dataclass(frozen=True)
class BurdenError:
    """Error of the tumour burden over cases, in fractions of the organ.

    Attributes:
        num_cases: cases with both burdens; num_left_out: cases where one is NaN.
        rmse: root mean squared difference.
        largest: largest absolute difference.
        largest_signed: what LiTS calls the maximum: the largest *reference minus prediction*. It is the worst
            under-estimate and overlooks over-estimates; negative where every case is over-estimated.
        bias: mean of prediction minus reference.
    """

    num_cases: int
    num_left_out: int
    rmse: float
    largest: float
    largest_signed: float
    bias: float


def agree_volumes(reference_ml: Any, prediction_ml: Any) -> VolumeAgreement:
    """Compare predicted with reference volumes over a cohort.

    Args:
        reference_ml: (case,) volumes in mL; NaN leaves the case out.
        prediction_ml: (case,) volumes in mL of the same cases.
    Returns:
        The agreement. NaN where it is not defined: everything without a case; standard deviations, limits and
        coefficients below two cases; the correlation when one side is constant; ICC and CCC when all volumes are equal.
        An empty mask is a volume of 0 and counts, except in percent where both are 0.
    Raises:
        ValueError: lengths differ, or a volume is negative or infinite.
    Source:
        Bland and Altman 1986 (limits of agreement), McGraw and Wong 1996 (ICC), Lin 1989 (CCC).
    Example:
        >>> found = agree_volumes([10, 20, 30], [12, 22, 32])
        >>> found.bias_ml, found.icc_consistency, round(found.icc_agreement, 4), round(found.ccc, 4)
        (2.0, 1.0, 0.9804, 0.9709)
    """
    reference, prediction, num_left_out = _pairs(
        "agree_volumes", reference_ml=reference_ml, prediction_ml=prediction_ml
    )
    difference, size = prediction - reference, (prediction + reference) / 2
    percent = 100 * difference[size > 0] / size[size > 0]
    bias_ml, sd_ml = _mean_and_sd(difference)
    bias_percent, sd_percent = _mean_and_sd(percent)
    icc_agreement, icc_consistency = intraclass_correlation(np.stack([reference, prediction], axis=1))
    return VolumeAgreement(
        num_cases=len(difference),
        num_left_out=num_left_out,
        bias_ml=bias_ml,
        sd_ml=sd_ml,
        loa_low_ml=bias_ml - LIMIT_SD * sd_ml,
        loa_high_ml=bias_ml + LIMIT_SD * sd_ml,
        bias_percent=bias_percent,
        sd_percent=sd_percent,
        loa_low_percent=bias_percent - LIMIT_SD * sd_percent,
        loa_high_percent=bias_percent + LIMIT_SD * sd_percent,
        mae_ml=_mean_and_sd(np.abs(difference))[0],
        icc_agreement=icc_agreement,
        icc_consistency=icc_consistency,
        ccc=concordance(reference, prediction),
        pearson=pearson(reference, prediction),
        num_percent=len(percent),
    )


def intraclass_correlation(table: Any) -> tuple[float, float]:
    """ICC of single measurements in the two-way layout: absolute agreement ICC(A,1) and consistency ICC(C,1).

    With MSR, MSC and MSE the mean squares of cases, raters and residual, n cases and k raters,
    ICC(C,1) = (MSR - MSE) / (MSR + (k - 1) MSE), and ICC(A,1) adds k (MSC - MSE) / n to the denominator. They are
    Shrout and Fleiss's ICC(3,1) and ICC(2,1).

    Args:
        table: (case, rater) finite numbers.
    Returns:
        (agreement, consistency), at most 1 and negative where raters disagree more than cases differ. NaN below two
        cases or two raters, and where the denominator is 0.
    Raises:
        ValueError: another shape, NaN or infinite.
    Source:
        McGraw and Wong 1996; Shrout and Fleiss 1979.
    """
    table = np.asarray(table, np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        expected = "a (case, rater) table of finite numbers"
        raise ValueError(wrong("intraclass_correlation", "table", expected, f"shape {table.shape}"))
    n, k = table.shape
    if n < 2 or k < 2:
        return nan, nan
    # Shifts change no mean square but make those of constant columns exactly 0, so that 0 / 0 is seen.
    shifted, raters = table - table[0], (table - table[0, 0]).mean(axis=0)
    cases = shifted.mean(axis=1) - shifted.mean()
    residual = shifted - shifted.mean(axis=0) - cases[:, None]
    msr = k * (cases**2).sum() / (n - 1)
    msc = n * ((raters - raters.mean()) ** 2).sum() / (k - 1)
    mse = (residual**2).sum() / ((n - 1) * (k - 1))
    consistency = _ratio(msr - mse, [msr, (k - 1) * mse])
    agreement = _ratio(msr - mse, [msr, (k - 1) * mse, k / n * msc, -k / n * mse])
    return agreement, consistency


def concordance(first: Any, second: Any) -> float:
    """Lin's concordance correlation, with population moments (1 / n) as in his paper.

    2 cov / (var + var + (difference of the means) squared): 1 only where both are equal in every case.

    Args:
        first: (case,) finite numbers.
        second: (case,) finite numbers of the same cases.
    Returns:
        In [-1, 1]; NaN below two cases, or when all numbers are equal.
    Source:
        Lin 1989.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(first) < 2:
        return nan
    gap = float((first - second).mean())
    first, second = _centred(first), _centred(second)
    covariance = float((first * second).mean())
    return _ratio(2 * covariance, [float((first**2).mean()), float((second**2).mean()), gap**2])


def pearson(first: Any, second: Any) -> float:
    """Pearson's correlation of two (case,) arrays of finite numbers; NaN below two cases or when one is constant."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return nan
    first, second = _centred(first), _centred(second)
    # Scaled, so that squares of tiny numbers do not vanish.
    first, second = first / np.abs(first).max(), second / np.abs(second).max()
    found = float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))
    # Rounding may carry a perfect correlation beyond 1.
    return min(max(found, -1.0), 1.0)


def tumour_burden(tumour_voxels: Any, organ_voxels: Any) -> Any:
    """Fraction of the organ that is tumour, per case.

    Args:
        tumour_voxels: (case,) number of voxels of the tumour.
        organ_voxels: (case,) number of voxels of the organ *with* its tumour (LiTS: label 1 or above).
    Returns:
        (case,) float64; NaN where the organ is empty. It exceeds 1 where the tumour reaches beyond the organ.
    Raises:
        ValueError: lengths differ, or a number is negative, NaN or infinite.
    Source:
        LiTS challenge, tumour burden.
    Example:
        >>> tumour_burden([10, 0, 5], [100, 50, 0]).tolist()
        [0.1, 0.0, nan]
    """
    tumour, organ = np.asarray(tumour_voxels, np.float64), np.asarray(organ_voxels, np.float64)
    for argument, counts in (("tumour_voxels", tumour), ("organ_voxels", organ)):
        if counts.ndim != 1 or counts.shape != organ.shape or not ((counts >= 0) & np.isfinite(counts)).all():
            expected = "one non-negative number per case"
            raise ValueError(wrong("tumour_burden", argument, expected, _shape_and_range(counts)))
    return np.divide(tumour, organ, out=np.full(organ.shape, nan), where=organ > 0)


def compare_burden(reference: Any, prediction: Any) -> BurdenError:
    """Error of the predicted tumour burden.

    Args:
        reference: (case,) burdens from `tumour_burden`; NaN leaves the case out.
        prediction: (case,) burdens of the same cases.
    Returns:
        The error; NaN without a case. LiTS gives a prediction without an organ an infinite or huge burden; here such
        a case is left out and counted in ``num_left_out``: report the two together.
    Raises:
        ValueError: lengths differ, or a burden is negative or infinite.
    Source:
        LiTS challenge (RMSE and maximum of reference minus prediction).
    Example:
        >>> compare_burden([0.1, 0.2], [0.2, 0.2]).largest_signed
        0.0
    """
    reference, prediction, num_left_out = _pairs("compare_burden", reference=reference, prediction=prediction)
    difference = prediction - reference
    if not len(difference):
        return BurdenError(0, num_left_out, nan, nan, nan, nan)
    return BurdenError(
        num_cases=len(difference),
        num_left_out=num_left_out,
        rmse=float(np.sqrt((difference**2).mean())),
        largest=float(np.abs(difference).max()),
        largest_signed=float((reference - prediction).max()),
        bias=float(difference.mean()),
    )


def _pairs(function: str, **columns: Any) -> tuple[Any, Any, int]:
    """The two columns as float64 where neither is NaN, and how many cases that leaves out."""
    first, second = (np.asarray(column, np.float64) for column in columns.values())
    for argument, column in zip(columns, (first, second), strict=True):
        if column.ndim != 1 or column.shape != first.shape or (column < 0).any() or np.isinf(column).any():
            expected = "one non-negative number (or NaN) per case"
            raise ValueError(wrong(function, argument, expected, _shape_and_range(column)))
    defined = ~(np.isnan(first) | np.isnan(second))
    return first[defined], second[defined], int((~defined).sum())


def _shape_and_range(array: Any) -> str:
    extremes = f" with values from {array.min():g} to {array.max():g}" if array.size else ""
    return f"shape {array.shape}{extremes}"


def _mean_and_sd(values: Any) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); NaN where there are too few values."""
    mean = float(values.mean()) if len(values) else nan
    return mean, float(values.std(ddof=1)) if len(values) > 1 else nan


def _centred(values: Any) -> Any:
    """Deviations from the mean, exactly 0 where all values are equal."""
    # Shifted first: the mean of equal values may round, and leave deviations that are not 0.
    shifted = values - values[0]
    return shifted - shifted.mean()


def _ratio(numerator: float, terms: list[float]) -> float:
    """Numerator over the sum of the terms; NaN where they cancel, be it but for rounding."""
    denominator = sum(terms)
    # Relative to the terms, so that the unit of the volumes does not matter.
    if denominator <= 1e-12 * sum(abs(term) for term in terms):
        return nan
    return float(numerator / denominator)
