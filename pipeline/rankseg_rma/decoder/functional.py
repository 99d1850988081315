"""Functions over the decoder: the one-line replacement of argmax, and the score that a given mask can expect."""

from typing import Any

import numpy as np

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.decoder.objective import METRICS, Floats, Objective
from rankseg_rma.decoder.solver import BACKENDS, UNITS, RMADecoder, open_backend
from rankseg_rma.decoder.sums import require_sums
from rankseg_rma.decoder.untraced import untraced


@untraced
def expected_score(
    probs: Any, labels: Any, metric: str = "dice", *, unit: str = "volume", slice_axis: int = -1, backend: str = "auto"
) -> Floats:
    """RMA value of any label map or masks: the score that they are expected to reach under ``probs``.

    Args:
        probs: (class, *spatial) probabilities in [0, 1], numpy array or torch tensor.
        labels: (*spatial) or (1, *spatial) integer label map, or (class, *spatial) bool masks. With a single class,
            label 1 is the class; labels that are no class (void) count for none.
        metric: "dice" or "iou".
        unit: "volume" ("image") or "slice".
        slice_axis: axis of the spatial shape along which slices lie; only used with unit="slice".
        backend: "auto", "numba" or "torch".
    Returns:
        (class,) float64, or (unit, class) with unit="slice". Never NaN: an empty mask has the value 0.
    Raises:
        ValueError, TypeError: shapes differ, or an argument is not as for `RMADecoder`.
    Source:
        Wang and Dai 2025, the RMA objective.
    Example:
        >>> expected_score(np.array([[0.5, 0.5, 0.0]]), np.array([1, 1, 0]))
        array([0.5])
    """
    function = "expected_score"
    require_one_of(function, "metric", metric, METRICS)
    require_one_of(function, "unit", unit, UNITS)
    require_one_of(function, "backend", backend, ("auto", *BACKENDS))
    if not (hasattr(labels, "shape") and hasattr(labels, "dtype")):
        raise TypeError(wrong(function, "labels", "a numpy array or torch tensor", type(labels).__name__))
    passes = open_backend(function, probs, slice_axis if unit == "slice" else None, backend)
    shape, spatial_shape = tuple(labels.shape), tuple(probs.shape[1:])
    is_masks = "bool" in str(labels.dtype) and shape == tuple(probs.shape)
    if not is_masks and shape == (1, *spatial_shape):
        labels, shape = labels[0], spatial_shape
    if not is_masks and shape != spatial_shape:
        expected = f"a label map of shape {spatial_shape} or bool masks of shape {tuple(probs.shape)}"
        raise ValueError(wrong(function, "labels", expected, f"{shape} {labels.dtype}"))
    sums = passes.select_sums(np.zeros(passes.shape))
    count, total = passes.mask_sums(labels)
    value = Objective(metric, 0.0).value(count, total, sums.mass)
    return value if unit == "slice" else value[0]


@untraced
def rankseg_rma(
    prob: Any,
    opt_metric: str = "dice",
    allow_overlap: bool = False,
    in_batch: bool = True,
    return_tau: bool = False,
) -> Any:
    """Replace ``prob.argmax(dim=1)``: the labels with the largest expected Dice or IoU, per item of the batch.

    Args:
        prob: (batch, class, *spatial) probabilities, or (class, *spatial) with in_batch=False; torch tensor or numpy
            array, 2D or 3D.
        opt_metric: "dice" or "iou".
        allow_overlap: one bool mask per class instead of one label per voxel; classes need not add up to 1 then.
        in_batch: the first axis is the batch.
        return_tau: return also the number of voxels that each class selected.
    Returns:
        int64 labels (batch, *spatial), or bool masks (batch, class, *spatial) with allow_overlap; the same kind of
        container as ``prob``. With return_tau a pair (labels, tau), tau int64 of shape (batch, class). No batch axis
        with in_batch=False.
    Raises:
        ValueError, TypeError: as `RMADecoder`; also classes that do not add up to 1 where they exclude each other.
    Source:
        Wang and Dai 2025.
    Example:
        >>> rankseg_rma(np.array([[[0.95, 0.6, 0.55], [0.05, 0.4, 0.45]]]), opt_metric="iou")
        array([[0, 0, 0]])
    """
    function = "rankseg_rma"
    metric = opt_metric.lower() if isinstance(opt_metric, str) else opt_metric
    require_one_of(function, "opt_metric", metric, METRICS)
    axes = ("batch", "class") if in_batch else ("class",)
    if not hasattr(prob, "shape") or len(prob.shape) <= len(axes):
        advice = "Pass in_batch=False for one case without a batch axis." if in_batch else ""
        got = tuple(prob.shape) if hasattr(prob, "shape") else type(prob).__name__
        raise ValueError(wrong(function, "prob", f"of shape ({', '.join(axes)}, *spatial)", got, advice=advice))
    decoder = RMADecoder(metric=metric, multilabel=allow_overlap)
    cases = prob if in_batch else prob[None]
    shape = tuple(cases.shape)
    labels = _empty_like(
        cases, shape if allow_overlap else (shape[0], *shape[2:]), "bool" if allow_overlap else "int64"
    )
    tau = _empty_like(cases, shape[:2], "int64")
    # Case by case: each has its own cutoffs, and only one needs its temporaries at a time.
    for index in range(shape[0]):
        decoding = decoder(cases[index])
        if not allow_overlap:
            require_sums(function, "prob", cases[index], overlap="allow_overlap=True")
        labels[index] = decoding.labels
        for label, num_selected in enumerate(decoding.num_selected.tolist()):
            tau[index, label] = num_selected
    if not in_batch:
        labels, tau = labels[0], tau[0]
    return (labels, tau) if return_tau else labels


def _empty_like(prob: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Uninitialised numpy array or tensor, as ``prob`` is, on its device."""
    if isinstance(prob, np.ndarray):
        return np.empty(shape, dtype)
    import torch

    return torch.empty(shape, dtype=getattr(torch, dtype), device=prob.device)
