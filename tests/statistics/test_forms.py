"""Mean IoU and Dice in three forms: against torchmetrics, scikit-learn, plain loops, and numbers worked out by hand."""

from functools import partial

import numpy as np
import pytest
from sklearn import metrics

from rankseg_rma.metrics.calibration import count_calibration
from rankseg_rma.metrics.semantic import class_values, count_images, image_means, stack_counts
from rankseg_rma.statistics import resampling
from rankseg_rma.statistics.calibration import score_calibration, stack_calibration, sum_calibration
from rankseg_rma.statistics.forms import gather_cases, left_out, score_cases, worst_means
from rankseg_rma.statistics.resampling import bootstrap, draw_clusters, resample

VOID = 255
NAN = float("nan")


def count(*images, num_classes):
    """Counts of (prediction, reference) pairs, one image each, whatever their sizes."""
    return stack_counts([count_images([p], [r], num_classes, void=VOID) for p, r in images])


def tables_of(counts, rule, owner=None):
    owner = np.arange(len(counts.num_void)) if owner is None else np.asarray(owner)
    return [gather_cases(counts, owner, metric, rule) for metric in ("iou", "dice")]


def scores_of(counts, rule, owner=None):
    tables = tables_of(counts, rule, owner)
    found = score_cases(tables, np.ones((1, len(tables[0].mean)), np.int64))
    return {name: float(row[0]) for name, row in found.items()}


def scene(rng, num_images=7, num_classes=5, shape=(12, 9), void=0.1):
    """Blobs-free noise: predictions right in two pixels of three; the last class is rare, classes differ per image."""
    reference = rng.integers(num_classes - 1, size=(num_images, *shape))
    for k in range(num_images):
        reference[k][reference[k] == k % (num_classes - 1)] = (k + 1) % (num_classes - 1)
    reference[-1, :2] = num_classes - 1
    prediction = np.where(rng.random(reference.shape) < 0.67, reference, rng.integers(num_classes, size=(1, *shape)))
    reference = np.where(rng.random(reference.shape) < void, VOID, reference)
    return prediction, reference


# --- worked out by hand


def test_three_forms_by_hand():
    counts = count(
        # Class 0: tp 2, fp 1, fn 0: IoU 2/3, Dice 4/5. Class 1: tp 1, fp 0, fn 1: 1/2, 2/3. Class 2: in neither.
        ([0, 0, 0, 1], [0, 0, 1, 1]),
        # Class 0: tp 1, fn 1: 1/2, 2/3. Class 2 is predicted but absent: fp 1. Class 1: in neither.
        ([0, 2, 0], [0, 0, VOID]),
        # Void only.
        ([0, 1], [VOID, VOID]),
        num_classes=3,
    )
    values = class_values(counts, "iou", "present")
    np.testing.assert_allclose(values, [[2 / 3, 1 / 2, NAN], [1 / 2, NAN, NAN], [NAN, NAN, NAN]])
    found = scores_of(counts, "present")
    # I: ((2/3 + 1/2) / 2 + 1/2) / 2; C: ((2/3 + 1/2) / 2 + 1/2) / 2; the third image and class 2 are in no mean.
    assert found["miou_i"] == pytest.approx((7 / 12 + 1 / 2) / 2) and found["miou_c"] == pytest.approx(13 / 24)
    # D: class 0 tp 3, fp 1, fn 1: 3/5; class 1: 1/2; class 2: 0 / 1.
    assert found["miou_d"] == pytest.approx((3 / 5 + 1 / 2 + 0) / 3)
    assert found["mdice_i"] == pytest.approx(((4 / 5 + 2 / 3) / 2 + 2 / 3) / 2)
    assert found["mdice_d"] == pytest.approx((6 / 8 + 2 / 3 + 0) / 3)
    assert found["pixel_accuracy"] == pytest.approx(4 / 6)
    assert found["miou_worst5"] == pytest.approx(1 / 2)
    left = left_out(counts, np.arange(3), "present")
    assert (left.num_images, left.images, left.num_void_only) == (2, 1, 1)
    assert (left.num_classes_c, left.classes_c, left.num_classes_d, left.classes_d) == (2, 1, 3, 0)
    assert counts.num_void.tolist() == [0, 1, 2]
    np.testing.assert_allclose(counts.pixel_accuracy(), [3 / 4, 1 / 2, NAN])


def test_form_c_weighs_classes_where_form_i_weighs_images():
    # Class 1 is in one image of three: IoU 1 there, class 0 has 1/2 in it; the others have class 0 alone, IoU 1.
    counts = count(([1, 0, 2], [1, 0, 0]), ([0], [0]), ([0], [0]), num_classes=3)
    found = scores_of(counts, "present")
    assert found["miou_i"] == pytest.approx((3 / 4 + 1 + 1) / 3)
    assert found["miou_c"] == pytest.approx(((1 / 2 + 1 + 1) / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("prediction", "reference", "iou", "dice"),
    [
        ([0, 0, 0], [0, 0, 0], 1.0, 1.0),  # in neither
        ([0, 1, 0], [0, 0, 0], 0.0, 0.0),  # only predicted
        ([0, 0, 0], [0, 1, 0], 0.0, 0.0),  # only in the reference
        ([1, 1, 0], [0, 1, 0], 1 / 2, 2 / 3),
        ([1, 1, 0], [VOID, 1, 0], 1.0, 1.0),
        ([1, 1, 0], [VOID, VOID, VOID], NAN, NAN),  # nothing annotated is no empty image
    ],
)
def test_binary_slices(prediction, reference, iou, dice):
    counts = count((prediction, reference), num_classes=2)
    for metric, expected in (("iou", iou), ("dice", dice)):
        np.testing.assert_allclose(class_values(counts, metric, "binary"), [[NAN, expected]])
    found = scores_of(counts, "binary")
    np.testing.assert_allclose([found[f"miou_{form}"] for form in "icd"], [iou] * 3)
    left = left_out(counts, np.zeros(1, int), "binary")
    assert (left.images, left.cases, left.classes_c, left.classes_d) == (int(np.isnan(iou)),) * 4


def test_foreground_of_several_classes():
    counts = count(([0, 1, 0, 0], [0, 1, 1, 0]), ([2, 0], [0, 0]), ([0, 0], [0, 0]), num_classes=4)
    values = class_values(counts, "iou", "foreground")
    # Background never counts, nor does class 2, which is only predicted: pooled, it costs.
    np.testing.assert_allclose(values, [[NAN, 1 / 2, NAN, NAN], [NAN] * 4, [NAN] * 4])
    found, left = scores_of(counts, "foreground"), left_out(counts, np.arange(3), "foreground")
    assert (found["miou_i"], found["miou_c"], found["miou_d"]) == (1 / 2, 1 / 2, 1 / 4)
    assert (left.num_images, left.images, left.num_void_only) == (1, 2, 0)
    assert (left.num_classes_c, left.classes_c, left.num_classes_d, left.classes_d) == (1, 2, 2, 1)


def test_slices_are_averaged_per_case():
    # Case 0: slices with IoU 1, 0 and 1/2; case 1: one slice with IoU 1. Not the mean over four slices, 5/8.
    slices = ([1, 0], [1, 0]), ([0, 0], [1, 0]), ([1, 1], [1, 0]), ([1, 0], [1, 0])
    counts = count(*slices, num_classes=2)
    found = scores_of(counts, "binary", owner=[0, 0, 0, 1])
    assert found["miou_i"] == found["miou_c"] == pytest.approx((1 / 2 + 1) / 2)
    # D pools all voxels: tp 3, fp 1, fn 1. The worst case has 1/2.
    assert found["miou_d"] == pytest.approx(3 / 5) and found["miou_worst5"] == pytest.approx(1 / 2)
    # The stack as one volume: case 0 has tp 2, fp 1, fn 1.
    assert scores_of(counts.pool(np.array([0, 0, 0, 1])), "binary")["miou_i"] == pytest.approx((2 / 4 + 1) / 2)


def test_worst_cases():
    values = np.array([0.9, 0.1, NAN, 0.5, 0.3])
    whole = np.ones((1, 5), np.int64)
    # Of four values: 5 % and 49 % round down to one or less, 50 % are two, 75 % three.
    for percent, expected in ((5, 0.1), (49, 0.1), (50, 0.2), (75, 0.3), (100, 0.45)):
        assert worst_means(values, whole, percent).tolist() == [pytest.approx(expected)], percent
    # 29 % of a hundred are 29, although 0.29 * 100 is below.
    assert worst_means(np.arange(100.0), np.ones((1, 100), np.int64), 29).tolist() == [14.0]
    # Drawn twice counts twice: 0.1, 0.1, 0.5; two thirds of them. And nothing drawn that has a value.
    rows = np.array([[0, 2, 1, 1, 0], [0, 0, 3, 0, 0]])
    np.testing.assert_allclose(worst_means(values, rows, 67), [0.1, NAN])
    np.testing.assert_allclose(worst_means(values, rows, 100), [0.7 / 3, NAN])
    table = tables_of(count(([0, 1], [0, 0]), ([0], [0]), num_classes=2), "present")
    # 5 % of forty are two.
    forty = tables_of(count(*[([0, 1], [0, 0])], *[([0], [0])] * 39, num_classes=2), "present")
    assert score_cases(forty, np.ones((1, 40), np.int64))["miou_worst5"][0] == (1 / 2 + 1) / 2
    # Two images of 1/2 and 1: 10 to 90 % are the worse one, 100 % both.
    assert score_cases(table, np.ones((1, 2), np.int64))["miou_worst_mean"][0] == pytest.approx((9 * 0.5 + 0.75) / 10)


@pytest.mark.parametrize(
    ("prediction", "reference", "options", "message"),
    [
        ([[0, 3]], [[0, 1]], {}, "prediction must be classes from 0 to 2 or 255; got 3 (case c_7)"),
        ([[0, 1]], [[0, 7]], {}, "reference must be classes from 0 to 2 or 255; got 7"),
        ([[0, 1]], [[0, 255]], {"void": None}, "reference must be classes from 0 to 2; got 255"),
        ([[0, 1, 1]], [[0, 1]], {}, "of the reference's shape (1, 2)"),
        ([0, 1], [0, 1], {}, "(image, *spatial)"),
    ],
)
def test_faults(prediction, reference, options, message):
    with pytest.raises(ValueError) as error:
        count_images(prediction, reference, 3, **{"void": VOID, "case_id": "c_7", **options})
    assert message in str(error.value)


def test_rules_and_metrics_are_checked():
    counts = count(([0, 1], [0, 1]), num_classes=3)
    for metric, rule in (("dise", "present"), ("iou", "all"), ("iou", "binary")):
        with pytest.raises(ValueError, match="class_values: "):
            class_values(counts, metric, rule)
    # What is predicted where nothing is annotated is no fault and counts nowhere.
    assert count(([0, 2], [0, VOID]), num_classes=3).fp.tolist() == [[0, 0, 0]]


# --- against other libraries


@pytest.mark.parametrize("void", [0.0, 0.1])
def test_pooled_scores_against_torchmetrics(rng, void):
    import torch
    import torchmetrics

    prediction, reference = scene(rng, void=void)
    found = scores_of(count_images(prediction, reference, 5, void=VOID), "present")
    options = {"num_classes": 5, "ignore_index": VOID}
    preds, target = torch.as_tensor(prediction), torch.as_tensor(reference)
    judges = {
        "miou_d": torchmetrics.JaccardIndex(task="multiclass", average="macro", **options),
        "mdice_d": torchmetrics.F1Score(task="multiclass", average="macro", **options),
        "pixel_accuracy": torchmetrics.Accuracy(task="multiclass", average="micro", **options),
    }
    for name, judge in judges.items():
        assert found[name] == pytest.approx(float(judge(preds, target)), abs=1e-6), name


def test_image_scores_against_torchmetrics(rng):
    import torch
    from torchmetrics.functional.segmentation import dice_score, mean_iou

    prediction, reference = scene(rng, void=0)
    counts = count_images(prediction, reference, 5)
    preds, target = torch.as_tensor(prediction), torch.as_tensor(reference)
    iou = mean_iou(preds, target, num_classes=5, per_class=True, input_format="index").numpy()
    dice = dice_score(preds, target, num_classes=5, average="none", input_format="index").numpy()
    for metric, theirs in (("iou", iou), ("dice", dice)):
        mine = class_values(counts, metric, "present")
        counted = np.isfinite(mine)
        # Some classes are absent, and some of those are predicted all the same.
        assert (~counted & (prediction.reshape(7, 1, -1) == np.arange(5)[:, None]).any(axis=2)).any()
        np.testing.assert_allclose(mine[counted], theirs[counted], atol=1e-6)


@pytest.mark.parametrize("rule", ["present", "foreground"])
def test_image_scores_against_scikit_learn(rng, rule):
    prediction, reference = scene(rng)
    counts = count_images(prediction, reference, 5, void=VOID)
    judges = {"iou": metrics.jaccard_score, "dice": metrics.f1_score}
    for metric, judge in judges.items():
        means, by_class = [], {}
        for one, other in zip(prediction, reference, strict=True):
            one, other = one[other != VOID], other[other != VOID]
            labels = np.unique(other)[np.unique(other) >= (rule == "foreground")]
            values = judge(other, one, labels=labels, average=None)
            means.append(values.mean())
            for label, value in zip(labels.tolist(), values, strict=True):
                by_class.setdefault(label, []).append(value)
        assert rule == "foreground" or 0 in by_class
        found = scores_of(counts, rule)
        np.testing.assert_allclose(image_means(class_values(counts, metric, rule)), means)
        assert found[f"m{metric}_i"] == pytest.approx(np.mean(means))
        assert found[f"m{metric}_c"] == pytest.approx(np.mean([np.mean(part) for part in by_class.values()]))
        pooled = (reference != VOID).ravel()
        labels = range(rule == "foreground", 5)
        values = judge(reference.ravel()[pooled], prediction.ravel()[pooled], labels=labels, average=None)
        assert found[f"m{metric}_d"] == pytest.approx(values.mean())


# --- bootstrap


def plain_scores(counts, rule, owner, chosen):
    """The forms of the cases in ``chosen``, one resample, by loops over them."""
    cases = [[k for k in range(len(owner)) if owner[k] == case] for case in chosen]
    values = class_values(counts, "iou", rule)

    def mean(numbers):
        numbers = [number for number in numbers if number == number]
        return sum(numbers) / len(numbers) if numbers else NAN

    form_i = mean([mean([mean(values[k]) for k in case]) for case in cases])
    form_c = mean([mean([mean([values[k, c] for k in case]) for case in cases]) for c in range(values.shape[1])])
    tp, fp, fn = (sum(part[k] for case in cases for k in case) for part in (counts.tp, counts.fp, counts.fn))
    form_d = mean([t / (t + p + n) for t, p, n in list(zip(tp, fp, fn, strict=True))[rule != "present" :] if t + p + n])
    return form_i, form_c, form_d


@pytest.mark.parametrize("rule", ["present", "foreground"])
@pytest.mark.parametrize("owner", [[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 2, 2, 3]])
def test_bootstrap_of_a_difference_against_a_loop(rng, monkeypatch, rule, owner):
    monkeypatch.setattr(resampling, "MIN_CLUSTERS", 2)
    prediction, reference = scene(rng)
    reference[3] = VOID  # whose draws must not move a mean
    other = np.where(rng.random(prediction.shape) < 0.8, prediction, 0)
    arms = [count_images(one, reference, 5, void=VOID) for one in (prediction, other)]
    cluster = np.array([0, 0, 1, 2, 3, 3, 4])[: max(owner) + 1]
    num_clusters = int(cluster.max()) + 1
    drawn = [resample(partial(score_cases, tables_of(arm, rule, owner)), cluster, 40, 3) for arm in arms]
    generator = np.random.default_rng(3)
    for k in range(40):
        chosen = [case for draw in generator.integers(num_clusters, size=num_clusters)
                  for case in np.flatnonzero(cluster == draw)]  # fmt: skip
        first, second = (plain_scores(arm, rule, owner, chosen) for arm in arms)
        mine = np.subtract(*[[arm[f"miou_{form}"].distribution[k] for form in "icd"] for arm in drawn[::-1]])
        np.testing.assert_allclose(mine, np.subtract(second, first), atol=1e-12)


def test_draws_are_those_of_paired_means(rng, monkeypatch):
    values, cluster = rng.random(30), np.repeat(np.arange(10), 3)
    (rows,) = draw_clusters(cluster, 300, 7, piece=10**6)
    assert rows.shape == (300, 10) and (rows.sum(axis=1) == 10).all()
    means = bootstrap(values, cluster, 300, 7)[0]
    np.testing.assert_allclose(rows[:, cluster] @ values / 30, means)
    drawn = resample(lambda weights: {"mean": weights @ values / 30}, cluster, 300, 7)["mean"]
    assert drawn.value == pytest.approx(values.mean())
    np.testing.assert_allclose(drawn.distribution, means)
    pieces = list(draw_clusters(cluster, 300, 7, piece=100))
    assert len(pieces) == 100
    np.testing.assert_array_equal(np.concatenate(pieces), rows)
    for name in ("_PIECE", "_SCORE_PIECE"):
        monkeypatch.setattr(resampling, name, 100)
    np.testing.assert_array_equal(bootstrap(values, cluster, 300, 7)[0], means)
    again = resample(lambda weights: {"mean": weights @ values / 30}, cluster, 300, 7)["mean"]
    np.testing.assert_allclose(again.distribution, means)


def test_too_few_patients_have_scores_and_no_interval():
    found = resample(lambda weights: {"cases": weights.sum(axis=1)}, np.arange(5), 20, 0)["cases"]
    assert found.value == 5 and np.isnan(found.distribution).all() and len(found.distribution) == 20
    assert np.isnan(resampling.percentile_interval(found.distribution)).all()
    assert np.isnan(resampling.percentile_interval(np.array([0.1, NAN, 0.3]))).all()


def test_images_with_nothing_never_turn_a_mean_into_nan():
    counts = count(([0], [0]), ([0], [VOID]), ([1], [VOID]), num_classes=2)
    rows = np.array([[1, 1, 1], [1, 0, 5], [0, 2, 1]])
    found = score_cases(tables_of(counts, "present"), rows)
    for name, row in found.items():
        np.testing.assert_array_equal(row, [1, 1, NAN], err_msg=name)


# --- calibration


def test_calibration_of_resamples(rng):
    cases = []
    for size in (40, 60, 50):
        probs = rng.dirichlet([1, 1, 1], size=(2, size)).transpose(0, 2, 1)
        label = np.where(rng.random((2, size)) < 0.2, VOID, rng.integers(3, size=(2, size)))
        cases.append([count_calibration(p, r, ignore_label=VOID) for p, r in zip(probs, label, strict=True)])
    cases[1][0] = count_calibration(np.full((3, 5), 1 / 3), np.full(5, VOID), ignore_label=VOID)
    sums = stack_calibration([sum_calibration(case) for case in cases])
    rows = np.array([[1, 1, 1], [2, 0, 1]])
    found = score_calibration(sums, rows)
    for place, weights in enumerate(rows):
        images = [image for case, weight in zip(cases, weights, strict=True) for image in case * weight]
        pooled = images[0]
        for image in images[1:]:
            pooled = pooled + image
        for name in ("ece", "class_ece", "brier", "nll"):
            assert found[name][place] == pytest.approx(getattr(pooled, name)()), name
    # The slices of a case first; the one that is void only counts in neither.
    eces = [[image.ece() for image in case if image.num_voxels] for case in cases]
    assert [len(case) for case in eces] == [2, 1, 2]
    assert found["ece_image"][0] == pytest.approx(np.mean([np.mean(case) for case in eces]))
    assert found["ece_image"][1] == pytest.approx((2 * np.mean(eces[0]) + np.mean(eces[2])) / 3)
    nothing = score_calibration(stack_calibration([sum_calibration([cases[1][0]])]), np.ones((1, 1)))
    assert all(np.isnan(row[0]) for row in nothing.values())
