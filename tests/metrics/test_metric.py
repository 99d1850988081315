"""The metric table and the counts under it against independent judges; the threshold that RMA must beat."""

import numpy as np
import pytest
import SimpleITK
import torch
from monai.metrics import DiceMetric, compute_dice, compute_iou

from rankseg_rma.decoder.threshold import apply_thresholds, count_thresholds, tune_thresholds
from rankseg_rma.metrics import (
    EMPTY_POLICIES,
    METRIC_TABLE,
    Measured,
    Overlap,
    count_overlap,
    count_pairs,
    find_metric,
    list_metrics,
    match_lesions,
    measure_distances,
)


def value(counts, name, policy="kits", **measured):
    return METRIC_TABLE[name].value(Measured(counts, voxel_ml=0.5, **measured), policy)


def one_hot(array, num_classes):
    return torch.from_numpy(np.stack([[array == c for c in range(num_classes)]]))


@pytest.mark.parametrize("shape", [(20, 30), (9, 10, 11)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_overlap_against_monai_and_simpleitk(rng, shape, order):
    prediction, reference = (np.asarray(rng.integers(0, 4, shape), order=order) for _ in range(2))
    dice, iou = (judge(one_hot(prediction, 4), one_hot(reference, 4))[0] for judge in (compute_dice, compute_iou))
    judge = SimpleITK.LabelOverlapMeasuresImageFilter()
    judge.Execute(*(SimpleITK.GetImageFromArray(array.astype(np.uint8)) for array in (reference, prediction)))
    for label, counts in zip((1, 2, 3), count_overlap(prediction, reference, [1, 2, 3]), strict=True):
        assert value(counts, "dice") == pytest.approx(float(dice[label]))
        assert value(counts, "iou") == pytest.approx(float(iou[label]))
        assert value(counts, "voe") == pytest.approx(1 - float(iou[label]))
        assert value(counts, "dice") == pytest.approx(judge.GetDiceCoefficient(label))
        assert value(counts, "iou") == pytest.approx(judge.GetJaccardCoefficient(label))
        assert value(counts, "rvd") == pytest.approx(
            ((prediction == label).sum() - (reference == label).sum()) / (reference == label).sum()
        )
        assert value(counts, "avd_ml") == abs((prediction == label).sum() - (reference == label).sum()) * 0.5


def test_counts_by_hand():
    reference, prediction = np.array([[1, 1, 0, 2]]), np.array([[1, 0, 1, 0]])
    first, second, third = count_overlap(prediction, reference, [1, 2, 3])
    assert first == Overlap(tp=1, fp=1, fn=1)
    assert (second, second.status) == (Overlap(0, 0, 1), "prediction_empty")
    assert (third, third.status) == (Overlap(0, 0, 0), "both_empty")
    assert Overlap(0, 2, 0).status == "reference_empty"
    assert first + second == Overlap(1, 1, 2)


def test_regions_are_unions(rng):
    prediction, reference = rng.integers(0, 4, (6, 7, 8)), rng.integers(0, 4, (6, 7, 8))
    (counts,) = count_pairs(prediction, reference).overlaps([1, 3])
    (judge,) = count_overlap(np.isin(prediction, [1, 3]), np.isin(reference, [1, 3]), [1])
    assert counts == judge
    pairs = count_pairs(np.array([0, 5, 70_00]), np.array([0, 0, 3]))
    assert pairs.present == (3, 5, 7000)
    assert pairs.overlaps([7000, 3]) == [Overlap(1, 0, 0)]
    assert pairs.overlaps([999]) == [Overlap(0, 0, 0)]
    with pytest.raises(ValueError, match="at most 1024 labels"):
        count_pairs(np.arange(2000), np.zeros(2000, int))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_are_counted_alone(rng, axis, order):
    prediction, reference = (np.asarray(rng.integers(0, 3, (4, 5, 6)), order=order) for _ in range(2))
    slices = count_pairs(prediction, reference, axis).overlaps([2])
    by_hand = [
        count_overlap(np.take(prediction, k, axis), np.take(reference, k, axis), [2])[0] for k in range(4 + axis)
    ]
    assert slices == by_hand


def test_slice_scores_by_hand():
    # Dice 2/3, false positives only, both empty, missed.
    slices = [Overlap(1, 1, 0), Overlap(0, 4, 0), Overlap(0, 0, 0), Overlap(0, 0, 2)]
    whole = sum(slices, start=Overlap(0, 0, 0))
    assert value(whole, "slice_dice", slices=slices) == pytest.approx((2 / 3 + 0) / 2)
    assert value(whole, "slice_iou", slices=slices) == pytest.approx((1 / 2 + 0) / 2)
    assert value(whole, "slice_dice_all", slices=slices) == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert np.isnan(value(Overlap(0, 1, 0), "slice_dice", slices=[Overlap(0, 1, 0)]))


EMPTIES = {"both_empty": Overlap(0, 0, 0), "reference_empty": Overlap(0, 2, 0), "prediction_empty": Overlap(0, 0, 2)}


@pytest.mark.parametrize("status", [*EMPTIES])
@pytest.mark.parametrize("ignore_empty", [True, False])
def test_empty_policies_against_monai(status, ignore_empty):
    """The monai policy is what MONAI's DiceMetric does by itself; kits is its ignore_empty=False."""
    prediction, reference = np.zeros((1, 4), int), np.zeros((1, 4), int)
    prediction[0, : EMPTIES[status].fp], reference[0, : EMPTIES[status].fn] = 1, 1
    judge = DiceMetric(include_background=False, reduction="none", ignore_empty=ignore_empty)
    theirs = float(judge(one_hot(prediction, 2), one_hot(reference, 2))[0, 0])
    ours = value(EMPTIES[status], "dice", "monai" if ignore_empty else "kits")
    assert ours == pytest.approx(theirs, nan_ok=True)


def test_every_metric_with_empty_masks():
    empty = np.zeros((3, 3, 3), bool)
    for policy, table in EMPTY_POLICIES.items():
        for status, counts in EMPTIES.items():
            match = match_lesions(empty, empty, (1, 1, 1), connectivity=26, slice_axis=2)
            measured = Measured(counts, 1.0, [counts], None, {}, match, (0.0, 0.0))
            for metric in list_metrics(("overlap", "volume", "slice", "surface", "lesion", "size"), (1.0,)):
                found = metric.value(measured, policy)
                if metric.empty == "score":
                    assert found == pytest.approx(table[status], nan_ok=True), metric.name
                elif metric.empty == "loss":
                    assert found == pytest.approx(1 - table[status], nan_ok=True), metric.name
                elif metric.unit == "mm" and metric.group == "surface":
                    assert np.isnan(found), metric.name


def test_measured_parts_reach_their_metrics():
    reference, prediction = np.zeros((2, 6, 6, 4), bool)
    reference[1:4, 1:4, 1], prediction[2:5, 1:4, 1] = True, True
    spacing = (1.0, 2.0, 3.0)
    measured = Measured(
        count_overlap(prediction, reference, [1])[0], 0.006,
        surface=measure_distances(prediction, reference, spacing, outside_is_foreground=False),
        surface_dice={1.0: 0.25, 2.5: 0.5},
        lesions=match_lesions(prediction, reference, spacing, connectivity=26, slice_axis=2),
        recist_mm=(10.0, 7.0),
    )  # fmt: skip
    expected = {"mssd_mm": 1.0, "hd95_mm": 1.0, "nsd_1mm": 0.25, "nsd_2.5mm": 0.5, "lesion_f1": 1.0,
                "lesion_recall": 1.0, "lesion_precision": 1.0, "lesion_false_positives": 0.0, "recist_error_mm": 3.0,
                "lesion_dice": 12 / 18, "dice": 12 / 18, "iou": 0.5}  # fmt: skip
    for name, number in expected.items():
        assert find_metric(name).value(measured, "kits") == pytest.approx(number), name
    # IoU of exactly one half is no match at 0.5.
    assert find_metric("lesion_pq").value(measured, "kits") == 0.0


@pytest.mark.parametrize("name", ["dise", "nsd_xmm", "nsd_-1mm"])
def test_unknown_metric(name):
    with pytest.raises(ValueError, match="metric must be"):
        find_metric(name)


@pytest.mark.parametrize(
    "bad", [np.full((2, 2), 0.5), np.full((2, 2), np.nan), np.full((2, 2), -1), np.zeros((2, 3), int)]
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_wrong_label_maps(bad):
    with pytest.raises(ValueError, match="prediction must be"):
        count_overlap(bad, np.zeros((2, 2), int), [1])


def test_thresholds_against_brute_force(rng):
    cases = []
    for _ in range(3):
        probs = rng.dirichlet(np.ones(3), (5, 6, 4)).transpose(3, 0, 1, 2).astype(np.float32)
        cases.append((probs, rng.integers(0, 3, (5, 6, 4))))
    counts = [count_thresholds(*case) for case in cases]
    candidates = np.arange(1, 100) / 100
    for label in (1, 2):
        mean = np.zeros(len(candidates))
        for probs, reference in cases:
            for k, threshold in enumerate(candidates):
                (found,) = count_overlap(probs[label] > np.float32(threshold), reference == label, [1])
                mean[k] += value(found, "dice") / len(cases)
        assert np.mean([case.scores("dice")[label - 1] for case in counts], axis=0) == pytest.approx(mean)
        assert mean[candidates == tune_thresholds(counts, "dice")[label - 1]] == pytest.approx(mean.max())


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_thresholds_of_slices_against_brute_force(rng, metric):
    probs = rng.dirichlet(np.ones(2), (5, 4, 6)).transpose(3, 0, 1, 2)
    reference = rng.integers(0, 2, (5, 4, 6))
    reference[:, 1] = 0  # a slice without the label does not count
    counts = count_thresholds(probs, reference, axis=1)
    for k in (9, 49, 79):
        pairs = count_pairs((probs[1] > (k + 1) / 100).astype(np.uint8), reference, 1)
        measured = Measured(Overlap(0, 0, 1), 1.0, pairs.overlaps([1]))
        judge = find_metric(f"slice_{metric}").value(measured, "kits")
        assert counts.scores(metric)[0, k] == pytest.approx(judge)


def test_thresholds_count_ties_as_they_are_applied():
    """Votes of five models are exact fifths, which float32 rounds up or down."""
    votes = np.arange(6, dtype=np.float32) / np.float32(5)
    for dtype in (np.float32, np.float64):
        probs = np.stack([1 - votes, votes]).astype(dtype)
        counts = count_thresholds(probs, np.ones(6, int))
        for k in range(99):
            applied = apply_thresholds(probs, [(k + 1) / 100])
            assert counts.predicted[0, 0, k] == applied.sum(), (dtype, k)


def test_thresholds_by_hand():
    probs = np.array([[0.5, 0.2, 0.6], [0.3, 0.45, 0.3], [0.2, 0.35, 0.1]], np.float32)
    # Voxel 0: 0.3 - 0.25 = 0.05 over none; voxel 1: 0.20 of label 1 against 0.25 of label 2.
    assert apply_thresholds(probs, (0.25, 0.1)).tolist() == [2, 2, 1]
    assert apply_thresholds(probs, (0.9, 0.9)).tolist() == [0, 0, 0]
    empty = count_thresholds(np.zeros((1, 4), np.float32), np.zeros(4, int))
    assert tune_thresholds([empty], "dice") == (0.5,)
    with pytest.raises(ValueError, match="at least one"):
        tune_thresholds([], "dice")
    with pytest.raises(ValueError, match="one number of labels"):
        tune_thresholds([empty, count_thresholds(np.zeros((3, 4), np.float32), np.zeros(4, int))], "dice")


def test_references_named_as_in_lits(tmp_path):
    from rankseg_rma.evaluation.inputs import list_references

    for name in ("Batch 1/volume-3.nii", "Batch 1/segmentation-3.nii", "Batch 2/segmentation-028.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [*list_references(tmp_path)] == ["volume-3", "volume-28"]
    flat = tmp_path / "Batch 1"
    assert list_references(flat) == {"volume-3": flat / "segmentation-3.nii"}
    (flat / "volume-3.nii").unlink()
    assert [*list_references(flat, {"segmentation-3"})] == ["segmentation-3"]
    (flat / "patient_a.nii.gz").touch()
    assert {*list_references(flat)} == {"segmentation-3", "patient_a"}
