"""Overlap scores and paired differences against independent judges."""

import numpy as np
import pytest
import SimpleITK
import torch
from monai.metrics import compute_dice, compute_iou
from scipy import stats

from rankseg_rma.evaluation import METRIC_TABLE, Overlap, compare_pairs, count_overlap, count_overlap_by_slice


def scores(prediction, reference, label, name):
    return METRIC_TABLE[name].compute(count_overlap(prediction, reference, [label]))


@pytest.mark.parametrize("shape", [(20, 30), (9, 10, 11)])
def test_overlap_against_monai_and_simpleitk(rng, shape):
    prediction, reference = rng.integers(0, 4, shape), rng.integers(0, 4, shape)
    one_hot = [torch.from_numpy(np.stack([[array == c for c in range(4)]])) for array in (prediction, reference)]
    dice, iou = compute_dice(*one_hot)[0], compute_iou(*one_hot)[0]
    judge = SimpleITK.LabelOverlapMeasuresImageFilter()
    judge.Execute(*(SimpleITK.GetImageFromArray(array.astype(np.uint8)) for array in (reference, prediction)))
    for label in (1, 2, 3):
        assert scores(prediction, reference, label, "dice") == pytest.approx(float(dice[label]))
        assert scores(prediction, reference, label, "iou") == pytest.approx(float(iou[label]))
        assert scores(prediction, reference, label, "dice") == pytest.approx(judge.GetDiceCoefficient(label))
        assert scores(prediction, reference, label, "iou") == pytest.approx(judge.GetJaccardCoefficient(label))


def test_counts_by_hand_and_empty_masks():
    reference, prediction = np.array([[1, 1, 0, 2]]), np.array([[1, 0, 1, 0]])
    first, second, third = count_overlap(prediction, reference, [1, 2, 3])
    assert first == Overlap(tp=1, fp=1, fn=1)
    assert (second, second.status) == (Overlap(0, 0, 1), "prediction_empty")
    assert (third, third.status) == (Overlap(0, 0, 0), "both_empty")
    assert Overlap(0, 2, 0).status == "reference_empty"
    dice = METRIC_TABLE["dice"].compute
    assert [dice([counts]) for counts in (second, third, Overlap(0, 2, 0))] == [0.0, 1.0, 0.0]


def test_slices_are_scored_alone(rng):
    prediction, reference = rng.integers(0, 2, (4, 5, 6)), rng.integers(0, 2, (4, 5, 6))
    reference[:, 2] = 0
    prediction[:, 4], reference[:, 4] = 0, 0
    (slices,) = count_overlap_by_slice(prediction, reference, [1], axis=1)
    by_hand = [scores(prediction[:, k], reference[:, k], 1, "dice") for k in range(5)]
    assert by_hand[2] == 0
    assert by_hand[4] == 1
    assert METRIC_TABLE["slice_dice"].compute(slices) == pytest.approx(np.mean([by_hand[k] for k in (0, 1, 3)]))
    assert METRIC_TABLE["slice_dice_all"].compute(slices) == pytest.approx(np.mean(by_hand))
    assert np.isnan(METRIC_TABLE["slice_dice"].compute([Overlap(0, 1, 0)]))


@pytest.mark.parametrize(
    "bad", [np.full((2, 2), 0.5), np.full((2, 2), np.nan), np.full((2, 2), -1), np.zeros((2, 3), int)]
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_wrong_label_maps(bad):
    with pytest.raises(ValueError, match="prediction must be"):
        count_overlap(bad, np.zeros((2, 2), int), [1])


def test_paired_difference_against_scipy(rng):
    first = rng.random(60)
    second = np.clip(first + rng.normal(0.01, 0.03, 60), 0, 1)
    found = compare_pairs(first, second, clusters=None, margin=0.01, num_resamples=10_000, seed=0)
    judge = stats.bootstrap(
        (second - first,), np.mean, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    assert found.mean == pytest.approx((second - first).mean())
    assert (found.low, found.high) == pytest.approx((judge.low, judge.high), abs=5e-4)
    assert found.improved + found.unchanged + found.worsened == 60
    assert found == compare_pairs(first, second, clusters=None, margin=0.01, num_resamples=10_000, seed=0)


def test_paired_difference_by_hand():
    first, second = np.array([0.5, 0.5, 0.5, np.nan]), np.array([0.51, 0.52, 0.4, 1.0])
    found = compare_pairs(first, second, clusters=None, margin=0.01, num_resamples=100, seed=0)
    assert (found.num_pairs, found.num_left_out) == (3, 1)
    assert (found.improved, found.unchanged, found.worsened) == (1, 1, 1)
    assert np.isnan(found.low)  # three cases carry no interval
    with pytest.raises(ValueError, match="at least one pair"):
        compare_pairs([np.nan], [1.0], clusters=None, margin=0.01, num_resamples=10, seed=0)


def test_clusters_are_resampled_whole(rng):
    """Twins carry half the information: the interval over 200 twins is that over 100 singles."""
    single = rng.normal(0, 1, 100)
    twins, clusters = np.repeat(single, 2), np.repeat(np.arange(100), 2)
    zero = np.zeros(200)
    ours = compare_pairs(zero, twins, clusters=clusters, margin=0.01, num_resamples=10_000, seed=0)
    alone = compare_pairs(zero[:100], single, clusters=None, margin=0.01, num_resamples=10_000, seed=0)
    assert (ours.low, ours.high) == pytest.approx((alone.low, alone.high))
