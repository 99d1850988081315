"""What must hold for any probabilities."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rankseg_rma import RMADecoder, expected_score
from rankseg_rma.decoder.reference import best_mask_by_sort
from rankseg_rma.decoder.solver import BACKENDS

settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("default")

metrics, backends = st.sampled_from(["dice", "iou"]), st.sampled_from([*BACKENDS])
PROBABILITY = st.floats(0, 1, width=32)


@st.composite
def probabilities(draw, least_classes=2):
    """(class, *spatial) float32 whose sum over classes is at most 1; zeros and ties are common."""
    shape = draw(st.tuples(st.integers(least_classes, 4), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)))
    raw = draw(arrays(np.float32, shape, elements=PROBABILITY))
    return raw / np.maximum(raw.sum(axis=0), 1)


@given(probabilities(), metrics, backends, st.randoms())
def test_voxel_order_does_not_matter(probs, metric, backend, random):
    order = list(range(probs[0].size))
    random.shuffle(order)
    flat = probs.reshape(len(probs), -1)
    decoder = RMADecoder(metric=metric, pruning_prob=0.1, multilabel=True, backend=backend)
    np.testing.assert_array_equal(decoder(flat[:, order]).labels, decoder(flat).labels[:, order])


@given(probabilities(), metrics, st.randoms())
def test_relabelling_classes_relabels_the_masks(probs, metric, random):
    order = list(range(len(probs)))
    random.shuffle(order)
    decoder = RMADecoder(metric=metric, pruning_prob=0.1, multilabel=True)
    np.testing.assert_array_equal(decoder(probs[order]).labels, decoder(probs).labels[order])


@given(probabilities(least_classes=1), metrics, st.sampled_from([0.0, 0.5]))
def test_backends_are_equal(probs, metric, pruning_prob):
    first, *others = [RMADecoder(metric=metric, pruning_prob=pruning_prob, backend=name)(probs) for name in BACKENDS]
    for other in others:
        np.testing.assert_array_equal(first.labels, other.labels)
        np.testing.assert_array_equal(first.num_selected, other.num_selected)
        np.testing.assert_allclose(first.value, other.value, rtol=1e-12)


@given(probabilities(), metrics)
def test_value_is_never_below_that_of_argmax(probs, metric):
    decoding = RMADecoder(metric=metric, pruning_prob=0.0)(probs)
    argmax = expected_score(probs, probs.argmax(axis=0), metric)
    assert (decoding.value >= argmax - 1e-12).all()


@given(probabilities(), metrics)
def test_own_masks_score_their_value(probs, metric):
    decoding = RMADecoder(metric=metric, pruning_prob=0.0, multilabel=True)(probs)
    np.testing.assert_allclose(expected_score(probs, decoding.labels, metric), decoding.value, rtol=1e-12, atol=1e-15)


@given(probabilities(least_classes=1), metrics, backends, st.floats(1e-3, 1e4))
def test_smoothed_value_is_that_of_the_sort(probs, metric, backend, smooth):
    decoding = RMADecoder(metric=metric, pruning_prob=0.0, smooth=smooth, backend=backend)(probs)
    for c in np.flatnonzero(np.isfinite(decoding.cutoff)):
        np.testing.assert_allclose(decoding.value[c], best_mask_by_sort(probs[c], metric, smooth)[1], rtol=1e-12)


@given(probabilities(), metrics, st.integers(0, 2))
def test_slices_are_volumes_of_one_slice(probs, metric, axis):
    sliced = RMADecoder(metric=metric, unit="slice", slice_axis=axis)(probs)
    for index in range(probs.shape[axis + 1]):
        alone = RMADecoder(metric=metric)(probs.take([index], axis=axis + 1))
        np.testing.assert_array_equal(sliced.labels.take([index], axis=axis), alone.labels)
