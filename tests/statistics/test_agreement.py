"""Agreement of volumes against statsmodels, published tables and examples worked by hand."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from rankseg_rma.statistics.agreement import (
    agree_volumes,
    compare_burden,
    concordance,
    intraclass_correlation,
    pearson,
    tumour_burden,
)

# Shrout and Fleiss 1979, table 2: six targets rated by four judges.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def volumes(rng, n=40, bias=3.0, noise=4.0):
    """Volumes of n livers' tumours in mL, and a biased, noisy prediction."""
    reference = rng.gamma(2, 20, n)
    return reference, np.maximum(reference + rng.normal(bias, noise, n), 0)


def anova_mean_squares(table):
    """Mean squares of cases, raters and residual by least squares in statsmodels."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    n, k = np.shape(table)
    long = pd.DataFrame(
        {"value": np.ravel(table), "case": np.repeat(np.arange(n), k), "rater": np.tile(np.arange(k), n)}
    )
    squares = anova_lm(ols("value ~ C(case) + C(rater)", long).fit())["mean_sq"]
    return squares["C(case)"], squares["C(rater)"], squares["Residual"]


def test_icc_of_the_published_table():
    agreement, consistency = intraclass_correlation(SHROUT_FLEISS)
    assert round(agreement, 2) == 0.29  # their ICC(2,1)
    assert round(consistency, 2) == 0.71  # their ICC(3,1)


@pytest.mark.parametrize("k", [2, 4])
def test_icc_against_anova_of_statsmodels(rng, k):
    reference, _ = volumes(rng, 12)
    table = reference[:, None] + rng.normal(0, 15, (12, k)) + np.arange(k) * 6.0
    msr, msc, mse = anova_mean_squares(table)
    agreement, consistency = intraclass_correlation(table)
    assert consistency == pytest.approx((msr - mse) / (msr + (k - 1) * mse))
    assert agreement == pytest.approx((msr - mse) / (msr + (k - 1) * mse + k / 12 * (msc - mse)))
    assert 0 < agreement < consistency < 1


def test_limits_against_statsmodels(rng):
    from statsmodels.graphics.agreement import mean_diff_plot

    reference, prediction = volumes(rng)
    axes = Figure().subplots()
    mean_diff_plot(prediction, reference, ax=axes)
    bias, low, high = (line.get_ydata()[0] for line in axes.lines)
    found = agree_volumes(reference, prediction)
    widening = np.sqrt(40 / 39)  # it divides by n, Bland and Altman by n - 1
    assert found.bias_ml == pytest.approx(bias)
    assert found.loa_low_ml == pytest.approx(bias + (low - bias) * widening)
    assert found.loa_high_ml == pytest.approx(bias + (high - bias) * widening)


def test_correlations_against_scipy_and_textbook_moments(rng):
    reference, prediction = volumes(rng)
    found = agree_volumes(reference, prediction)
    assert found.pearson == pytest.approx(stats.pearsonr(reference, prediction).statistic)
    # Lin: ccc = pearson * bias correction factor, from the ratio of scales and the shift of location.
    scale = prediction.std() / reference.std()
    shift = (prediction.mean() - reference.mean()) / np.sqrt(prediction.std() * reference.std())
    assert found.ccc == pytest.approx(found.pearson * 2 / (scale + 1 / scale + shift**2))


def test_worked_by_hand():
    # differences +2, -2, 0, 6; means 9, 19, 0, 3; percent 22.2222, -10.5263, left out, 200
    found = agree_volumes([8, 20, 0, 0, np.nan], [10, 18, 0, 6, 5])
    assert (found.num_cases, found.num_left_out, found.num_percent) == (4, 1, 3)
    assert (found.bias_ml, found.mae_ml) == (1.5, 2.5)
    sd = np.sqrt((0.5**2 + 3.5**2 + 1.5**2 + 4.5**2) / 3)
    assert found.sd_ml == pytest.approx(sd)
    assert (found.loa_low_ml, found.loa_high_ml) == pytest.approx((1.5 - 1.96 * sd, 1.5 + 1.96 * sd))
    percent = [200 / 9, -200 / 19, 200]
    assert found.bias_percent == pytest.approx(np.mean(percent))
    assert found.sd_percent == pytest.approx(np.std(percent, ddof=1))
    assert found.loa_low_percent == pytest.approx(np.mean(percent) - 1.96 * np.std(percent, ddof=1))
    assert found.loa_high_percent == pytest.approx(np.mean(percent) + 1.96 * np.std(percent, ddof=1))


def test_an_offset_lowers_agreement_but_not_consistency():
    # reference 10, 20, 30; MSR 200, MSC 3 * (1 + 1) = 6, MSE 0; population variance 200 / 3
    found = agree_volumes([10, 20, 30], [12, 22, 32])
    assert (found.icc_consistency, found.pearson) == (1.0, 1.0)
    assert found.icc_agreement == pytest.approx(200 / (200 + 2 / 3 * 6))
    assert found.ccc == pytest.approx((400 / 3) / (400 / 3 + 4))
    perfect = agree_volumes([10, 20, 30], [10, 20, 30])
    assert (perfect.icc_agreement, perfect.icc_consistency, perfect.ccc, perfect.sd_ml) == (1, 1, 1, 0)


def test_scale_order_and_sides(rng):
    reference, prediction = volumes(rng)
    found, order = agree_volumes(reference, prediction), rng.permutation(40)
    shuffled = agree_volumes(reference[order], prediction[order])
    swapped = agree_volumes(prediction, reference)
    litres = agree_volumes(reference / 1000, prediction / 1000)
    for field in fields(found):
        assert getattr(shuffled, field.name) == pytest.approx(getattr(found, field.name)), field.name
    for name in ("bias_percent", "icc_agreement", "icc_consistency", "ccc", "pearson"):
        assert getattr(litres, name) == pytest.approx(getattr(found, name)), name
    assert (swapped.bias_ml, swapped.loa_low_ml) == pytest.approx((-found.bias_ml, -found.loa_high_ml))
    assert swapped.bias_percent == pytest.approx(-found.bias_percent)
    assert (swapped.ccc, swapped.icc_agreement) == pytest.approx((found.ccc, found.icc_agreement))


def test_too_few_cases_are_not_defined():
    none, one = agree_volumes([np.nan], [1.0]), agree_volumes([10], [12])
    assert (none.num_cases, none.num_left_out) == (0, 1)
    assert np.isnan([none.bias_ml, none.mae_ml, none.sd_ml, none.bias_percent, none.ccc]).all()
    assert (one.bias_ml, one.mae_ml) == (2, 2)
    assert one.bias_percent == pytest.approx(200 / 11)
    assert np.isnan([one.sd_ml, one.loa_low_ml, one.sd_percent, one.loa_high_percent]).all()
    assert np.isnan([one.icc_agreement, one.icc_consistency, one.ccc, one.pearson]).all()
    assert np.isnan(intraclass_correlation([[1.0], [2.0]])).all()


def test_no_variance_is_not_defined():
    # 0.1 has no exact mean: rounding must not look like variance.
    same = agree_volumes([0.1] * 7, [0.1] * 7)
    assert np.isnan([same.icc_agreement, same.icc_consistency, same.ccc, same.pearson]).all()
    assert (same.bias_ml, same.sd_ml, same.bias_percent) == (0, 0, 0)
    both_empty = agree_volumes([0, 0, 0], [0, 0, 0])
    assert (both_empty.num_cases, both_empty.num_percent, both_empty.bias_ml) == (3, 0, 0)
    assert np.isnan([both_empty.bias_percent, both_empty.loa_low_percent, both_empty.ccc]).all()
    # All cases alike but for an offset: no consistency to speak of, and no agreement.
    offset = agree_volumes([0.1] * 7, [0.3] * 7)
    assert np.isnan([offset.icc_consistency, offset.pearson]).all()
    assert (offset.icc_agreement, offset.ccc) == (0, 0)
    # One side constant: cov 0, so CCC 0; MSR = MSE, so ICC 0.
    constant = agree_volumes([0.1] * 3, [0.1, 0.2, 0.6])
    assert np.isnan(constant.pearson)
    assert (constant.ccc, constant.icc_consistency) == pytest.approx((0, 0))


def test_opposite_pairs():
    # Two cases that swap: MSR 0, MSC 0, and the denominator of ICC(A,1) MSE - MSE.
    agreement, consistency = intraclass_correlation([[1.1, 2.3], [2.3, 1.1]])
    assert np.isnan(agreement)
    assert consistency == pytest.approx(-1)
    assert (concordance([1, 2], [2, 1]), pearson([1, 2], [2, 1])) == (-1, -1)
    assert pearson([1e-200, 2e-200, 4e-200], [1, 2, 4]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("reference", "prediction", "message"),
    [
        ([1, 2], [1], "prediction_ml must be one non-negative number"),
        ([1, -2], [1, 2], "reference_ml must be .* values from -2 to 1"),
        ([1, 2], [1, np.inf], "prediction_ml must be"),
        ([[1, 2]], [[1, 2]], "reference_ml must be"),
    ],
)
def test_wrong_volumes(reference, prediction, message):
    with pytest.raises(ValueError, match=f"agree_volumes: {message}"):
        agree_volumes(reference, prediction)


@pytest.mark.parametrize("table", [[1.0, 2.0], [[1.0, np.nan], [1.0, 2.0]]])
def test_wrong_table(table):
    with pytest.raises(ValueError, match="case, rater"):
        intraclass_correlation(table)


def test_tumour_burden_by_hand():
    np.testing.assert_array_equal(tumour_burden([10, 0, 5, 0], [100, 50, 0, 0]), [0.1, 0, np.nan, np.nan])
    with pytest.raises(ValueError, match="organ_voxels must be one non-negative number per case"):
        tumour_burden([1, 2], [3, np.nan])
    with pytest.raises(ValueError, match="tumour_voxels must be"):
        tumour_burden([1], [3, 4])


def test_burden_error_by_hand():
    # prediction - reference: +0.3, -0.1, 0, and two cases without an organ
    found = compare_burden([0.1, 0.3, 0.2, 0.2, np.nan], [0.4, 0.2, 0.2, np.nan, 0.1])
    assert (found.num_cases, found.num_left_out) == (3, 2)
    assert found.rmse == pytest.approx(np.sqrt((0.09 + 0.01) / 3))
    assert found.bias == pytest.approx(0.2 / 3)
    assert found.largest == pytest.approx(0.3)
    assert found.largest_signed == pytest.approx(0.1)  # reference - prediction: the over-estimate of 0.3 is not seen
    assert compare_burden([0.1], [0.4]).largest_signed == pytest.approx(-0.3)
    under = compare_burden([0.4, 0.1], [0.1, 0.2])
    assert (under.largest, under.largest_signed, under.bias) == pytest.approx((0.3, 0.3, -0.1))
    none = compare_burden([np.nan], [0.1])
    assert np.isnan([none.rmse, none.largest, none.largest_signed, none.bias]).all()
    with pytest.raises(ValueError, match="compare_burden: prediction must be"):
        compare_burden([0.1], [np.inf])
