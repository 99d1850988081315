"""The decoder's contract: inputs, outputs, edge cases, on every backend."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import random_probs
from rankseg_rma import RMADecoder, expected_score, rankseg_rma
from rankseg_rma.decoder import numba_backend, torch_backend
from rankseg_rma.decoder.objective import Objective
from rankseg_rma.decoder.reference import best_mask_by_sort, decode_by_sort, ranked_dice_values

METRICS = ["dice", "iou"]


def agree(labels, oracle, tolerated=0):
    return np.count_nonzero(np.asarray(labels) != oracle) <= tolerated


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("smooth", [0.0, 0.5, 30.0])
def test_reference_is_best_of_all_masks(rng, metric, smooth):
    objective = Objective(metric, smooth)
    for _ in range(20):
        probs = rng.random(8) ** 2
        masks = (np.arange(256)[:, None] >> np.arange(8)) & 1
        values = objective.value(masks.sum(1), masks @ probs, np.full(256, probs.sum()))
        mask, value = best_mask_by_sort(probs, metric, smooth)
        assert value == pytest.approx(values.max(), abs=1e-12)
        assert objective.value(mask.sum(), probs[mask].sum(), probs.sum()) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("smooth", [0.0, 0.7])
@pytest.mark.parametrize("pruning_prob", [0.0, 0.4, 0.5])
@pytest.mark.parametrize("unassigned", ["max_score", "background", "void"])
@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_matches_reference(rng, backend, metric, smooth, pruning_prob, unassigned, num_classes):
    options = {"metric": metric, "smooth": smooth, "pruning_prob": pruning_prob, "backend": backend}
    for spatial_shape in [(7, 9), (4, 5, 6)]:
        probs = random_probs(rng, num_classes + 1, spatial_shape, dtype=np.float64)[:num_classes]
        probs[:, 0, 0] = 0
        labels, masks = decode_by_sort(probs, metric, smooth, pruning_prob, unassigned, 255)
        decoding = RMADecoder(unassigned=unassigned, **options)(probs)
        np.testing.assert_array_equal(decoding.labels, labels)
        assert decoding.labels.dtype == np.uint8
        np.testing.assert_array_equal(RMADecoder(multilabel=True, **options)(probs).labels, masks)
        np.testing.assert_array_equal(decoding.num_selected, masks.reshape(num_classes, -1).sum(axis=1))
        np.testing.assert_allclose(decoding.mass, probs.reshape(num_classes, -1).sum(axis=1), rtol=1e-12)
        for c in np.flatnonzero(np.isfinite(decoding.cutoff)):
            np.testing.assert_array_equal(probs[c] > decoding.cutoff[c], masks[c])
            assert decoding.value[c] == pytest.approx(best_mask_by_sort(probs[c], metric, smooth)[1], abs=1e-12)


def test_pruned_class_is_empty(backend):
    probs = np.stack([np.full((4, 4), 0.7), np.full((4, 4), 0.3)])
    decoding = RMADecoder(backend=backend)(probs)
    assert decoding.cutoff[1] == np.inf
    assert (decoding.num_selected[1], decoding.value[1]) == (0, 0)
    assert decoding.mass[1] == pytest.approx(4.8)
    assert not decoding.labels.any()


def test_every_class_with_mass_selects_a_voxel_without_pruning(backend):
    probs = np.stack([np.full((3, 3), 1.0), np.full((3, 3), 1e-12)])
    probs[1, 1, 1] = 2e-12
    decoding = RMADecoder(pruning_prob=0, backend=backend)(probs)
    assert (decoding.num_selected >= 1).all()
    assert (decoding.value > 0).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [1e-9, 1e-17, float(np.finfo(np.float32).smallest_subnormal)])
def test_smallest_mass_is_selected(backend, metric, size):
    tiny = np.zeros((1, 5), np.float32)
    tiny[0, 2] = size
    for probs in (tiny, tiny.astype(np.float64)):
        decoding = RMADecoder(metric, pruning_prob=0, backend=backend)(probs)
        assert decoding.num_selected.tolist() == [1]
        assert decoding.labels.tolist() == [0, 0, 1, 0, 0]


@pytest.fixture
def tiny_pieces(monkeypatch):
    """Every engine works in many small pieces, as it does on arrays too large for a test."""
    monkeypatch.setattr(numba_backend, "_TASK_VOXELS", 16)
    monkeypatch.setattr(numba_backend, "_SLAB_BYTES", 64)
    monkeypatch.setattr(numba_backend, "_SAMPLE_FROM_VOXELS", 64)
    monkeypatch.setattr(numba_backend, "_SAMPLE_PERIOD", 16)
    monkeypatch.setattr(numba_backend, "_SAMPLE_RUN", 4)
    monkeypatch.setattr(torch_backend, "_CHUNK_VALUES", {"cpu": 20})


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 40, 1), (2, 1, 30)])
def test_pieces_add_up_to_the_whole(rng, backend, metric, axis, shape, request):
    options = {"metric": metric, "backend": backend, "pruning_prob": 0.2}
    if axis is not None:
        options |= {"unit": "slice", "slice_axis": axis}
    probs = random_probs(rng, 3, shape)
    inputs = [other for _, other in variants(probs)]
    whole = [(RMADecoder(**options)(p), RMADecoder(multilabel=True, **options)(p)) for p in inputs]
    score = expected_score(probs, whole[0][0].labels, metric)
    request.getfixturevalue("tiny_pieces")
    for p, (labels, masks) in zip(inputs, whole, strict=True):
        again = RMADecoder(**options)(p)
        np.testing.assert_array_equal(np.asarray(again.labels), np.asarray(labels.labels))
        np.testing.assert_array_equal(again.num_selected, labels.num_selected)
        np.testing.assert_allclose(again.mass, labels.mass, rtol=1e-12)
        np.testing.assert_array_equal(
            np.asarray(RMADecoder(multilabel=True, **options)(p).labels), np.asarray(masks.labels)
        )
        np.testing.assert_allclose(expected_score(p, np.asarray(labels.labels), metric, backend=backend), score)


def test_smoothing_lets_the_empty_mask_win(backend):
    probs = np.full((1, 2, 2), 0.45)
    assert RMADecoder(smooth=0.0, pruning_prob=0, backend=backend)(probs).num_selected[0] == 4
    decoding = RMADecoder(smooth=1000.0, pruning_prob=0, backend=backend)(probs)
    assert decoding.num_selected[0] == 0
    assert decoding.value[0] == pytest.approx(1000 / (1.8 + 1 + 1000))
    decoding = RMADecoder("iou", smooth=1000.0, pruning_prob=0, backend=backend)(probs)
    assert decoding.value[0] == pytest.approx(1000 / (1.8 + 1000))


def test_argmax_under_segments_an_uncertain_blob_and_rma_does_not(backend):
    probs = np.zeros((2, 20, 20), np.float32)
    probs[1, 5:9, 5:9], probs[1, 6:8, 6:8] = 0.45, 0.9
    probs[0] = 1 - probs[1]
    decoding = RMADecoder(backend=backend)(probs)
    assert probs.argmax(axis=0).sum() == 4
    assert (decoding.labels == 1).sum() == 16
    ours, argmax = (expected_score(probs, labels, backend=backend)[1] for labels in (decoding.labels, probs.argmax(0)))
    assert ours > argmax


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("transposed", [False, True])
def test_slices_are_decoded_alone(rng, backend, axis, metric, transposed):
    probs = random_probs(rng, 3, (5, 17, 18))
    if transposed:
        probs = np.asfortranarray(probs)
    options = {"metric": metric, "pruning_prob": 0.3, "backend": backend}
    decoding = RMADecoder(unit="slice", slice_axis=axis, **options)(probs)
    masks = RMADecoder(unit="slice", slice_axis=axis, multilabel=True, **options)(probs).labels
    size = probs.shape[1:][axis]
    assert decoding.cutoff.shape == decoding.num_selected.shape == (size, 3)
    scores = expected_score(probs, decoding.labels, metric, unit="slice", slice_axis=axis, backend=backend)
    for index in range(size):
        piece = np.take(probs, index, axis=axis if axis < 0 else axis + 1)
        alone = RMADecoder(**options)(piece)
        np.testing.assert_array_equal(np.take(decoding.labels, index, axis=axis), alone.labels)
        np.testing.assert_array_equal(
            np.take(masks, index, axis=axis if axis < 0 else axis + 1),
            RMADecoder(multilabel=True, **options)(piece).labels,
        )
        np.testing.assert_allclose(decoding.value[index], alone.value, rtol=1e-12)
        np.testing.assert_allclose(scores[index], expected_score(piece, alone.labels, metric), rtol=1e-12)


@pytest.mark.parametrize("num_voxels", [3 << 17, (1 << 20) + 17])
def test_large_volumes_use_many_tasks_and_a_sample(rng, num_voxels):
    foreground = rng.beta(0.2, 3, size=num_voxels)
    probs = np.stack([1 - foreground, foreground])
    for metric in METRICS:
        decoding = RMADecoder(metric=metric)(probs)
        for c in range(2):
            mask, value = best_mask_by_sort(probs[c], metric, 0.0)
            assert decoding.num_selected[c] == mask.sum()
            assert decoding.value[c] == pytest.approx(value, rel=1e-12)


def test_result_does_not_depend_on_threads(rng, monkeypatch):
    probs = rng.random((3, 1 << 20), dtype=np.float32)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(numba_backend, "num_threads", lambda threads=threads: threads)
        decoding = RMADecoder()(probs)
        results.append((decoding.mass.tobytes(), decoding.cutoff.tobytes(), decoding.labels.tobytes()))
    assert results[0] == results[1] == results[2]


def variants(probs):
    """The same probabilities in other containers, layouts and flags."""
    yield "fortran", np.asfortranarray(probs)
    yield "class last", np.ascontiguousarray(np.moveaxis(probs, 0, -1)).transpose(3, 0, 1, 2)
    padded = np.zeros((probs.shape[0], *(n + 2 for n in probs.shape[1:])), probs.dtype)
    padded[:, 1:-1, 1:-1, 1:-1] = probs
    yield "crop", padded[:, 1:-1, 1:-1, 1:-1]
    yield "flipped view", probs[:, ::-1].copy()[:, ::-1]
    frozen = probs.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "big endian", probs.astype(probs.dtype.newbyteorder(">"))
    yield "tensor", torch.from_numpy(probs.copy())
    yield "permuted tensor", torch.from_numpy(probs.copy()).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    yield "tensor with gradient", torch.from_numpy(probs.copy()).requires_grad_()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("unit", ["volume", "slice"])
def test_layout_and_container_do_not_matter(rng, backend, dtype, unit):
    probs = random_probs(rng, 3, (9, 8, 7), dtype=dtype)
    before = probs.copy()
    decoder = RMADecoder(unit=unit, slice_axis=1, pruning_prob=0.2, backend=backend)
    plain = decoder(probs)
    for name, other in variants(probs):
        decoding = decoder(other)
        assert isinstance(decoding.labels, torch.Tensor if "tensor" in name else np.ndarray), name
        np.testing.assert_array_equal(np.asarray(decoding.labels), plain.labels, err_msg=name)
        np.testing.assert_allclose(decoding.value, plain.value, rtol=1e-12, err_msg=name)
    np.testing.assert_array_equal(probs, before)


@pytest.mark.parametrize("kind", [np.float16, torch.float16, torch.bfloat16])
def test_half_precision(rng, backend, kind):
    probs = torch.from_numpy(random_probs(rng, 3, (9, 8, 7)))
    half = probs.numpy().astype(kind) if kind is np.float16 else probs.to(kind)
    exact = np.asarray(torch.as_tensor(half).double())
    np.testing.assert_array_equal(
        np.asarray(RMADecoder(backend=backend)(half).labels), RMADecoder(backend=backend)(exact).labels
    )


def test_values_near_the_range_are_clamped(rng, backend):
    probs = random_probs(rng, 3, (9, 8, 7), sharpness=20)
    stretched = probs * np.float32(1.0001) - np.float32(0.00005)
    assert stretched.min() < 0
    assert stretched.max() > 1
    decoding, clamped = (RMADecoder(backend=backend)(p) for p in (stretched, np.clip(stretched, 0, 1)))
    np.testing.assert_array_equal(decoding.labels, clamped.labels)
    np.testing.assert_allclose(decoding.mass, clamped.mass, rtol=1e-12)
    np.testing.assert_allclose(
        expected_score(stretched, decoding.labels, backend=backend),
        expected_score(np.clip(stretched, 0, 1), decoding.labels),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_negative_zero_is_zero(rng, backend, dtype):
    probs = random_probs(rng, 3, (9, 8, 7)).astype(dtype)
    probs[:, 3] = 0
    negative = np.where(probs == 0, dtype(-0.0), probs)
    assert np.signbit(negative).any()
    decoding, plain = (RMADecoder(backend=backend)(p) for p in (negative, probs))
    np.testing.assert_array_equal(decoding.labels, plain.labels)
    np.testing.assert_array_equal(decoding.num_selected, plain.num_selected)
    assert plain.num_selected.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.01, 1.01])
def test_faults_are_counted_by_class(rng, backend, bad):
    probs = random_probs(rng, 3, (9, 8, 7))
    probs[1, 0, :2, 0] = bad
    with pytest.raises(ValueError, match=r"class 1: 2 (NaN|infinite|outside \[0, 1\]). Apply softmax"):
        RMADecoder(backend=backend)(probs)
    probs[2, 4, 4, 4] = -5
    with pytest.raises(ValueError, match=r"class 1: 2 .*; class 2: 1 "):
        RMADecoder(backend=backend)(torch.from_numpy(probs))


def test_voxels_without_mass_are_background(rng, backend):
    probs = np.zeros((3, 6, 6, 6))
    probs[1, 2:4, 2:4, 2:4], probs[2, 2:4, 2:4, 2:4] = 0.6, 0.4
    for unassigned in ("max_score", "background", "void"):
        labels = RMADecoder(unassigned=unassigned, backend=backend)(probs).labels
        assert labels.sum() == 8
        assert not labels[:2].any()
    assert not RMADecoder(multilabel=True, pruning_prob=0, backend=backend)(probs).labels[:, :2].any()


def test_extremes_of_size(backend):
    one = RMADecoder(backend=backend)(np.array([[[0.2]], [[0.8]]]))
    assert one.labels.tolist() == [[1]]
    empty = RMADecoder(backend=backend)(np.zeros((3, 0, 4), np.float32))
    assert empty.labels.shape == (0, 4)
    assert empty.num_selected.tolist() == [0, 0, 0]
    nothing = RMADecoder(backend=backend)(np.zeros((3, 2, 4), np.float32))
    assert not nothing.labels.any()
    assert np.isinf(nothing.cutoff).all()
    assert expected_score(np.zeros((2, 3)), np.zeros(3, int), "iou", backend=backend).tolist() == [0, 0]


def test_many_classes_need_a_wider_label(backend):
    probs = np.full((300, 300), 1e-4, np.float32)
    np.fill_diagonal(probs, 0.9)
    labels = RMADecoder(backend=backend)(probs).labels
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(labels, np.arange(300))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "dise"}, "metric must be one of 'dice', 'iou'; got 'dise'"),
        ({"unit": "slices"}, "unit must be one of"),
        ({"unassigned": "bg"}, "unassigned must be one of"),
        ({"backend": "cupy"}, "backend must be one of"),
        ({"pruning_prob": 1.5}, r"pruning_prob must be a number in \[0, 1\]; got 1.5"),
        ({"smooth": float("nan")}, "smooth must be"),
        ({"void_index": -1}, "void_index must be"),
        ({"void_index": 1, "unassigned": "void"}, "void_index must be outside the labels 0 to 1"),
        ({"unit": "slice", "slice_axis": 3}, "slice_axis must be an axis of the spatial shape"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        RMADecoder(**options)(np.full((2, 3, 3), 0.5))


def test_wrong_inputs():
    for bad in ([0.1, 0.9], np.ones((2, 3), int), torch.ones((2, 3), dtype=torch.bool)):
        with pytest.raises(TypeError, match="probs must be"):
            RMADecoder()(bad)
    for shape in ((3,), (0, 4)):
        with pytest.raises(ValueError, match="shape"):
            RMADecoder()(np.zeros(shape))
    with pytest.raises(TypeError, match="slice_axis must be an integer"):
        RMADecoder(slice_axis="axial")
    with pytest.raises(ValueError, match="labels must be a label map of shape"):
        expected_score(np.zeros((2, 3, 3)), np.zeros((3, 2), int))


@pytest.mark.parametrize("spatial_shape", [(12, 11), (6, 7, 8)])
@pytest.mark.parametrize("in_torch", [False, True])
def test_drop_in_for_argmax(rng, spatial_shape, in_torch):
    batch = np.stack([random_probs(rng, 4, spatial_shape) for _ in range(3)])
    prob = torch.from_numpy(batch) if in_torch else batch
    argmax = prob.argmax(1)
    labels, tau = rankseg_rma(prob, opt_metric="IoU", return_tau=True)
    assert (labels.shape, labels.dtype, type(labels)) == (argmax.shape, argmax.dtype, type(argmax))
    assert (tuple(tau.shape), type(tau)) == ((3, 4), type(argmax))
    masks = rankseg_rma(prob, allow_overlap=True)
    assert (masks.shape, str(masks.dtype).removeprefix("torch.")) == (prob.shape, "bool")
    single = rankseg_rma(prob[0], opt_metric="iou", in_batch=False)
    assert single.shape == spatial_shape
    np.testing.assert_array_equal(np.asarray(single), np.asarray(labels[0]))
    assert rankseg_rma(prob[:0]).shape == (0, *spatial_shape)
    with pytest.raises(ValueError, match="in_batch=False"):
        rankseg_rma(prob[0, 0, 0])


@pytest.mark.parametrize("labels", [np.array([1, 0], ">i2"), np.array([1, 0], np.uint16), np.array([1.0, 0.0])])
def test_expected_score_of_odd_label_types(backend, labels):
    assert expected_score(np.array([[0.2, 0.9], [0.8, 0.1]]), labels, backend=backend)[1] == pytest.approx(1.6 / 2.9)
    with pytest.raises(TypeError, match="labels must be a numpy array"):
        expected_score(np.ones((1, 2)), [1, 0])


def test_expected_score_of_masks_and_labels_agree(rng, backend):
    probs = random_probs(rng, 3, (5, 6, 7), dtype=np.float64)
    labels = probs.argmax(axis=0)
    masks = labels == np.arange(3)[:, None, None, None]
    for metric in METRICS:
        objective = Objective(metric, 0.0)
        by_hand = [objective.value(m.sum(), p[m].sum(), p.sum()) for m, p in zip(masks, probs, strict=True)]
        for given in (labels, labels[None].astype(np.uint8), masks, torch.from_numpy(labels), np.asfortranarray(masks)):
            np.testing.assert_allclose(expected_score(probs, given, metric, backend=backend), by_hand, rtol=1e-12)
    assert expected_score(probs, np.full(labels.shape, 255), backend=backend).tolist() == [0, 0, 0]


def test_float32_sums_where_float64_is_missing(rng, monkeypatch):
    """What a device without float64 does, tried on the CPU: sums of a chunk in float32, chunks added in float64."""
    probs = random_probs(rng, 3, (9, 8, 7))
    plain = RMADecoder(backend="torch")(probs)
    monkeypatch.setattr(torch_backend, "_SUM_DTYPE", {"cpu": torch.float32})
    single = RMADecoder(backend="torch")(probs)
    np.testing.assert_array_equal(single.labels, plain.labels)
    np.testing.assert_allclose(single.mass, plain.mass, rtol=1e-6)


def test_ba_and_rma_agree_on_many_voxels(rng):
    """RMA's value approaches the blind approximation as the mass grows."""
    probs = rng.random(400) ** 3
    ba = ranked_dice_values(probs)
    total = np.cumsum(np.sort(probs)[::-1])
    rma = Objective("dice", 0.0).value(np.arange(1, 401), total, np.full(400, probs.sum()))
    assert abs(int(ba.argmax()) - int(rma.argmax())) <= 1
    assert np.abs(ba - rma).max() < 0.01


def test_decoder_and_package_do_not_import_monai():
    code = "import sys, rankseg_rma; rankseg_rma.rankseg_rma; assert 'monai' not in sys.modules, 'monai is imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(rng):
    probs = torch.from_numpy(random_probs(rng, 4, (16, 40, 40)))
    for metric in METRICS:
        cpu, gpu = RMADecoder(metric=metric)(probs), RMADecoder(metric=metric)(probs.cuda())
        assert gpu.labels.device.type == "cuda"
        np.testing.assert_array_equal(gpu.labels.cpu().numpy(), cpu.labels.numpy())
        np.testing.assert_allclose(gpu.value, cpu.value, rtol=1e-12)
