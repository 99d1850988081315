"""Calibration against plain NumPy, torch, and data that is calibrated by construction."""

import tracemalloc
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch

from conftest import random_probs
from rankseg_rma.metrics.calibration import BinTable, count_calibration

# Probabilities of three classes and labels, four voxels.
FOUR = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]).T.reshape(3, 2, 2)
FOUR_LABELS = np.array([[0, 1], [1, 0]])


def plain_ece(probability, event, num_bins=15):
    """Calibration error of a (voxel,) probability, bin by bin."""
    edges, error = np.linspace(0, 1, num_bins + 1), 0.0
    probability = np.asarray(probability, np.float64)
    for k in range(num_bins):
        inside = (probability > edges[k]) & (probability <= edges[k + 1])
        inside |= (probability == 0) if k == 0 else False
        if inside.any():
            error += inside.mean() * abs(event[inside].mean() - probability[inside].mean())
    return error


def draw_labels(rng, probs):
    return (rng.random(probs.shape[1:]) > np.cumsum(probs, axis=0)[:-1]).sum(axis=0)


def calibrated(rows):
    """Probabilities and labels of (probabilities, voxels) rows, each label exactly as frequent as claimed."""
    probs, labels = [], []
    for claimed, num_voxels in rows:
        probs += [claimed] * num_voxels
        labels += [c for c, p in enumerate(claimed) for _ in range(round(p * num_voxels))]
    assert len(probs) == len(labels)
    return np.array(probs).T, np.array(labels)


def measures(counts):
    return [counts.ece(), counts.foreground_ece(), counts.class_ece(), counts.brier(), counts.nll()]


def test_four_voxels_by_hand():
    counts = count_calibration(FOUR, FOUR_LABELS, num_bins=5)
    # Most probable class: 0.7 right, 0.5 wrong, 0.8 right, 0.6 wrong; bins (0.4, 0.6] and (0.6, 0.8].
    assert (counts.top.count, counts.top.correct) == ((0, 0, 2, 2, 0), (0, 0, 0, 2, 0))
    assert counts.ece() == pytest.approx((abs(0 - 1.1) + abs(2 - 1.5)) / 4)
    # Of these, 0.8 and 0.6 are foreground.
    assert (counts.foreground.count, counts.foreground.correct) == ((0, 0, 1, 1, 0), (0, 0, 0, 1, 0))
    assert counts.foreground_ece() == pytest.approx((0.6 + 0.2) / 2)
    # Class 0: 0.7 right; 0.5 wrong; 0.1 wrong and 0.2 right share a bin. Class 1: twice 0.2 wrong; 0.4, 0.8 right.
    # Class 2: all wrong, 0.1 three times in one bin.
    by_hand = [(0.3 + 0.5 + 0.7) / 4, (0.4 + 0.6 + 0.2) / 4, (0.3 + 0.6) / 4]
    assert counts.class_eces() == pytest.approx(by_hand)
    assert counts.class_ece() == pytest.approx(0.3)
    assert counts.brier() == pytest.approx((0.14 + 0.62 + 0.06 + 1.04) / 4)
    assert counts.nll() == pytest.approx(-np.log([0.7, 0.4, 0.8, 0.2]).mean())
    rows = counts.reliability(1)
    assert [(row.bin, row.low, row.high, row.count) for row in rows] == [
        (0, 0.0, 0.2, 2),
        (1, 0.2, 0.4, 1),
        (2, 0.4, 0.6, 0),
        (3, 0.6, 0.8, 1),
        (4, 0.8, 1.0, 0),
    ]
    assert [row.confidence for row in rows] == pytest.approx([0.2, 0.4, np.nan, 0.8, np.nan], nan_ok=True)
    assert [row.frequency for row in rows] == pytest.approx([0, 1, np.nan, 1, np.nan], nan_ok=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("shape", [(31, 17), (9, 10, 11)])
def test_against_plain_numpy_and_torch(rng, shape, num_classes, dtype):
    probs = random_probs(rng, num_classes, shape, dtype=dtype)
    labels = draw_labels(rng, probs**1.5 / (probs**1.5).sum(axis=0))
    counts = count_calibration(probs, labels)
    flat, truth = probs.reshape(num_classes, -1), labels.ravel()
    right = flat.argmax(axis=0) == truth
    confidence, foreground = flat.max(axis=0), flat.argmax(axis=0) > 0
    assert counts.ece() == pytest.approx(plain_ece(confidence, right), abs=1e-12)
    assert counts.foreground_ece() == pytest.approx(plain_ece(confidence[foreground], right[foreground]), abs=1e-12)
    assert counts.class_eces() == pytest.approx([plain_ece(flat[c], truth == c) for c in range(num_classes)], abs=1e-12)
    assert counts.class_ece() == pytest.approx(np.mean(counts.class_eces()))
    wide = torch.from_numpy(flat.astype(np.float64)).T
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(truth), num_classes)
    assert counts.brier() == pytest.approx(float(((wide - one_hot) ** 2).sum(dim=1).mean()))
    assert counts.nll() == pytest.approx(float(torch.nn.functional.nll_loss(wide.log(), torch.from_numpy(truth))))
    assert (counts.num_voxels, counts.num_left_out) == (labels.size, 0)


def test_calibrated_data_has_no_error():
    three = [((0.6, 0.3, 0.1), 10), ((0.1, 0.8, 0.1), 20), ((0.25, 0.25, 0.5), 8), ((1.0, 0.0, 0.0), 30)]
    probs, labels = calibrated(three)
    counts = count_calibration(probs, labels)
    assert measures(counts)[:3] == pytest.approx([0, 0, 0])
    # Brier of calibrated probabilities is their Gini impurity, the log-likelihood their entropy.
    impurity = [1 - sum(p * p for p in claimed) for claimed, _ in three]
    entropy = [-sum(p * np.log(p) for p in claimed if p) for claimed, _ in three]
    weights = [num_voxels for _, num_voxels in three]
    assert counts.brier() == pytest.approx(np.average(impurity, weights=weights))
    assert counts.nll() == pytest.approx(np.average(entropy, weights=weights))


def test_what_is_no_calibration_error():
    """Two quantities that are not 0 although the data is calibrated, and that we do not compute."""
    probs, labels = calibrated([((0.6, 0.3, 0.1), 10)])
    right = probs.argmax(axis=0) == labels
    released = np.mean([plain_ece(probs[c], (labels == c) & right) for c in range(3)])
    assert released == pytest.approx((0 + 0.3 + 0.1) / 3)
    assert count_calibration(probs, labels).class_ece() == pytest.approx(0)

    probs, labels = calibrated([((0.2, 0.8), 10), ((0.8, 0.2), 10), ((1.0, 0.0), 100)])
    some = (probs.argmax(axis=0) > 0) | (labels > 0)  # chosen by the outcome: 2 misses join with confidence 0.8
    biased = plain_ece(probs.max(axis=0)[some], (probs.argmax(axis=0) == labels)[some])
    assert biased == pytest.approx((12 * 0.8 - 8) / 12)
    assert count_calibration(probs, labels).foreground_ece() == pytest.approx(0)


def test_overconfidence_by_construction():
    # Claims 0.9 and 0.1, truth 0.7 and 0.3: off by 0.2 everywhere. Foreground claims are among them.
    probs = np.repeat([[0.1, 0.9], [0.9, 0.1]], 10, axis=1)
    labels = np.array([1] * 7 + [0] * 3 + [1] * 3 + [0] * 7)
    counts = count_calibration(probs, labels)
    assert measures(counts)[:3] == pytest.approx([0.2, 0.2, 0.2])
    certain = np.stack([np.ones(100), np.zeros(100)])
    diluted = counts + count_calibration(certain, np.zeros(100, int))
    assert diluted.ece() == pytest.approx(0.2 * 20 / 120)  # easy background hides the error
    assert diluted.foreground_ece() == pytest.approx(0.2)


def test_pooled_is_the_whole_and_not_the_mean_of_cases(rng):
    probs = random_probs(rng, 3, (12, 11, 10), dtype=np.float64)
    labels = draw_labels(rng, probs)
    parts = [slice(0, 2), slice(2, 5), slice(5, 12)]
    cases = [count_calibration(probs[:, part], labels[part]) for part in parts]
    pooled, whole = reduce(add, cases), count_calibration(probs, labels)
    assert measures(pooled) == pytest.approx(measures(whole))
    assert (pooled.top.count, pooled.top.correct) == (whole.top.count, whole.top.correct)
    assert [table.count for table in pooled.classes] == [table.count for table in whole.classes]
    assert pooled.num_voxels == labels.size
    assert np.mean([case.ece() for case in cases]) > pooled.ece() + 0.005
    with pytest.raises(ValueError, match="as many classes and bins"):
        whole + count_calibration(probs, labels, num_bins=10)


def test_memory_layout_and_permutation_do_not_matter(rng):
    probs = random_probs(rng, 3, (7, 8, 9), dtype=np.float64)
    labels = draw_labels(rng, probs).astype(np.uint8)
    expected = count_calibration(probs, labels)
    fortran = np.moveaxis(np.asfortranarray(np.moveaxis(probs, 0, -1)), -1, 0)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(probs, 0, -1)), -1, 0)
    flipped = (probs[:, ::-1, :, ::-1], labels[::-1, :, ::-1])
    swapped = (probs.transpose(0, 2, 3, 1), labels.transpose(1, 2, 0))
    frozen = probs.copy()
    frozen.flags.writeable = False
    every_other = (np.repeat(probs, 2, axis=3)[..., ::2], np.repeat(labels, 2, axis=2)[..., ::2])
    for pair in [(fortran, labels), (last, np.asfortranarray(labels)), flipped, swapped, (frozen, labels), every_other]:
        found = count_calibration(*pair)
        assert found.top.count == expected.top.count
        assert [table.correct for table in found.classes] == [table.correct for table in expected.classes]
        assert measures(found) == pytest.approx(measures(expected), rel=1e-12)
    assert count_calibration(probs, labels) == expected
    assert count_calibration(probs[:, None], labels[None].astype(float)) == expected
    assert count_calibration(probs.astype(">f8"), labels) == expected


def test_memory_is_that_of_a_block(rng):
    probs = random_probs(rng, 3, (32, 128, 128), dtype=np.float64)  # 12.6 MB; labels of a block are 0.5 MB
    labels = rng.integers(0, 3, (32, 128, 128), np.uint8)
    fortran = np.moveaxis(np.asfortranarray(np.moveaxis(probs, 0, -1)), -1, 0)
    flat = (probs.reshape(3, 1, -1), labels.reshape(1, -1))  # an image of one row
    for pair in [(probs, labels), (fortran, labels), flat]:
        count_calibration(*pair)
        tracemalloc.start()
        count_calibration(*pair)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < probs.nbytes / 8


def test_blocks_are_put_together(rng, monkeypatch):
    probs = random_probs(rng, 3, (13, 6, 5), dtype=np.float64)
    labels = draw_labels(rng, probs)
    whole = count_calibration(probs, labels)
    monkeypatch.setattr("rankseg_rma.evaluation.calibration.BLOCK", 70)  # two slices of 30 voxels
    pieces = count_calibration(probs, labels)
    assert pieces == whole


def test_a_single_class_is_the_foreground(rng):
    foreground = rng.random((1, 6, 7))
    labels = foreground[0] > rng.random((6, 7))
    one = count_calibration(foreground, labels)
    two = count_calibration(np.concatenate([1 - foreground, foreground]), labels)
    assert one == two
    low = foreground.astype(np.float32)
    assert count_calibration(low, labels) == count_calibration(low.astype(np.float64), labels)
    tie = count_calibration([[0.5, 0.5]], [0, 1])
    assert tie.foreground.count == (0,) * 15  # a tie goes to the background, as with argmax


def test_low_precision(rng):
    probs = random_probs(rng, 3, (6, 7, 8), dtype=np.float16)
    labels = draw_labels(rng, probs.astype(np.float64))
    assert measures(count_calibration(probs, labels)) == measures(count_calibration(probs.astype(np.float32), labels))


@pytest.mark.parametrize("num_bins", [1, 7, 10, 15, 100])
def test_edges_belong_to_the_bin_below(num_bins):
    edges = np.arange(num_bins + 1) / num_bins
    above = np.nextafter(edges[:-1], 1)
    counts = count_calibration(edges[None], np.ones(num_bins + 1, int), num_bins=num_bins).classes[1].count
    assert counts == (2,) + (1,) * (num_bins - 1)  # 0 joins the first bin
    assert count_calibration(above[None], np.ones(num_bins, int), num_bins=num_bins).classes[1].count == (1,) * num_bins


def test_left_out_voxels():
    labels = np.array([[0, 255], [1, 255]])
    counts = count_calibration(FOUR, labels, ignore_label=255)
    kept = count_calibration(FOUR[:, :, 0], labels[:, 0])
    assert (counts.num_voxels, counts.num_left_out) == (2, 2)
    assert measures(counts) == measures(kept)
    padded = np.concatenate([FOUR, np.zeros((3, 2, 1))], axis=2)
    padding = count_calibration(padded, np.pad(FOUR_LABELS, ((0, 0), (0, 1))))
    assert (padding.num_voxels, padding.num_left_out) == (4, 2)
    assert measures(padding) == measures(count_calibration(FOUR, FOUR_LABELS))
    # What is ignored may hold anything.
    broken = FOUR.copy()
    broken[:, :, 1] = np.nan
    assert measures(count_calibration(broken, labels, ignore_label=255)) == measures(kept)


def test_impossible_label_costs_a_bounded_amount():
    counts = count_calibration(np.array([[1.0], [0.0]]), [1])
    assert counts.nll() == pytest.approx(12 * np.log(10))
    assert (counts.brier(), counts.ece()) == (2, 1)


@pytest.mark.parametrize("shape", [(3, 0), (3, 4, 0), (3, 0, 4, 5)])
def test_nothing_is_not_defined(shape):
    counts = count_calibration(np.zeros(shape, np.float32), np.zeros(shape[1:], int))
    assert counts.num_voxels == 0
    assert np.isnan(measures(counts)).all()
    assert np.isnan(BinTable((), (), ()).error())
    assert counts + count_calibration(FOUR, FOUR_LABELS) == count_calibration(FOUR, FOUR_LABELS)


def test_no_predicted_foreground_is_not_defined():
    counts = count_calibration(np.array([[0.9], [0.1]]), [1])
    assert np.isnan(counts.foreground_ece())
    assert counts.ece() == pytest.approx(0.9)


def bad(position, value, array=FOUR):
    array = array.copy()
    array[position] = value
    return array


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (bad((0, 0, 0), np.nan), FOUR_LABELS, "probs must be in .* got 1 voxels with other values .case liver_7."),
        (bad((0, 0, 0), -0.1), FOUR_LABELS, "probs must be in"),
        (bad((0, 0, 0), 1.1), FOUR_LABELS, "probs must be in"),
        (bad((0, 0, 0), np.inf), FOUR_LABELS, "probs must be in"),
        (FOUR / 2, FOUR_LABELS, "probs must be adding up to 1 .* 4 of 4 voxels"),
        (FOUR, bad((0, 0), 3, FOUR_LABELS), "reference must be labels from 0 to 2; got 1 voxels"),
        (FOUR[:1], bad((0, 0), 2, FOUR_LABELS), "reference must be labels from 0 to 1"),
        (FOUR, FOUR_LABELS[:1], "reference must be of the probabilities' shape"),
        (FOUR.astype(int), FOUR_LABELS, "probs must be .* floating point"),
        (FOUR[:0], FOUR_LABELS, "probs must be"),
    ],
)
def test_wrong_cases(probs, labels, message):
    with pytest.raises(ValueError, match=message):
        count_calibration(probs, labels, case_id="liver_7")


def test_few_voxels_may_miss_a_sum_of_one(rng):
    probs = random_probs(rng, 3, (20, 20), dtype=np.float64)
    probs[:, 0, :4] *= 0.9
    assert count_calibration(probs, np.zeros((20, 20), int)).num_voxels == 400  # 4 of 400
    probs[:, 1, 0] *= 0.9
    with pytest.raises(ValueError, match="5 of 400 voxels that do not"):
        count_calibration(probs, np.zeros((20, 20), int))


def test_wrong_options():
    with pytest.raises(ValueError, match="labels from 0 to 2 or 255"):
        count_calibration(FOUR, FOUR_LABELS + 9, ignore_label=255)
    with pytest.raises(ValueError, match="num_bins"):
        count_calibration(FOUR, FOUR_LABELS, num_bins=0)
    with pytest.raises(ValueError, match="a class from 0 to 2"):
        count_calibration(FOUR, FOUR_LABELS).reliability(3)
    with pytest.raises(ValueError, match="label map of whole numbers"):
        count_calibration(FOUR, FOUR_LABELS - 1)
