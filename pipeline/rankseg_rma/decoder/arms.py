"""A case decoded every asked way: argmax and RMA under one roof, and what the probabilities expect of each mask."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rankseg_rma.checks import wrong
from rankseg_rma.decoder.functional import expected_score
from rankseg_rma.decoder.solver import Decoding, RMADecoder, label_dtype

DECODERS = ("argmax", "rma")


@dataclass(frozen=True)
class DecodedArm:
    """What one way to decode gave.

    Attributes:
        labels: (*spatial) numpy integers, or (class, *spatial) bool masks of classes that may overlap.
        decoding: of RMA; None for argmax.
        seconds: time it took.
    """

    labels: Any
    decoding: Decoding | None
    seconds: float


@dataclass(frozen=True)
class Expectation:
    """What probabilities expect of masks, before anybody has seen a reference.

    Attributes:
        mass: (class,) float64, sum of the probabilities: the expected number of voxels.
        scores: by arm, (class,) float64 expected score; of slices the mean over those that should have the class.
        counts: by arm, (class,) int64 voxels of the mask.
    """

    mass: Any
    scores: Mapping[str, Any]
    counts: Mapping[str, Any]


def decode_arms(
    probs: Any, scaled: Any, arms: Mapping[str, RMADecoder | None], *, multilabel: bool = False
) -> dict[str, DecodedArm]:
    """Decode a case every asked way.

    Args:
        probs: (class, *spatial) float tensor or array in [0, 1] before temperature, which argmax sees; not modified.
        scaled: the same after it, which RMA sees.
        arms: by name the RMA decoder with its metric, unit and rules; None is argmax.
        multilabel: classes may overlap; every RMA decoder says the same. Argmax is then each class above one half.
    Returns:
        By name, in the order of ``arms``. Label maps are uint8, or wider for more than 256 classes; with a single
        class its label is 1. Overlapping classes have a bool mask each.
    Raises:
        ValueError, TypeError: as `RMADecoder`; a decoder says otherwise than ``multilabel``.
    """
    if any(decoder is not None and decoder.multilabel != multilabel for decoder in arms.values()):
        raise ValueError(wrong("decode_arms", "arms", f"decoders with multilabel={multilabel}", not multilabel))
    found = {}
    for name, decoder in arms.items():
        started = time.perf_counter()
        if decoder is None:
            held = torch.as_tensor(probs)
            labels, decoding = (held > 0.5).numpy() if multilabel else argmax_labels(held), None
        else:
            decoding = decoder(scaled)
            labels = np.asarray(decoding.labels)
        found[name] = DecodedArm(labels, decoding, time.perf_counter() - started)
    return found


def expect(scaled: Any, decoded: Mapping[str, DecodedArm], metric: str, *, unit: str, slice_axis: int) -> Expectation:
    """Mass of every class, and the score and size of every mask under the same probabilities.

    Args:
        scaled: (class, *spatial) probabilities after temperature.
        decoded: masks by name, from `decode_arms`.
        metric: "dice" or "iou".
        unit: "volume" ("image") or "slice".
        slice_axis: axis of the spatial shape along which slices lie; only used with unit="slice".
    """
    solved = next((arm.decoding for arm in decoded.values() if arm.decoding is not None), None)
    # The search has summed every probability already; another pass over the volume is only for argmax alone.
    by_unit = solved.mass if solved is not None else sum_classes(scaled, slice_axis if unit == "slice" else None)
    mass = by_unit.reshape(-1, len(scaled)).sum(axis=0)
    scores, counts = {}, {}
    for name, arm in decoded.items():
        score = expected_score(scaled, arm.labels, metric, unit=unit, slice_axis=slice_axis)
        scores[name] = _mean_over_slices(score, by_unit) if unit == "slice" else score
        counts[name] = count_classes(arm.labels, len(scaled))
    return Expectation(mass, scores, counts)


def argmax_labels(probs: Any) -> Any:
    """Argmax over classes of a tensor, (*spatial) numpy integers; a single class is compared with one half.

    `torch.max` walks the classes plane by plane; `torch.argmax` along the first axis takes twenty times as long.
    """
    labels = (probs[0] > 0.5).numpy() if len(probs) == 1 else torch.max(probs, dim=0).indices.numpy()
    return labels.astype(label_dtype(len(probs)))


def count_classes(labels: Any, num_classes: int) -> Any:
    """Voxels of each class in a label map or in bool masks (class, *spatial); labels that are no class count for none.

    Returns:
        (class,) int64.
    """
    if labels.dtype == np.bool_:
        return np.count_nonzero(labels.reshape(num_classes, -1), axis=1)
    numbers = np.bincount(labels.ravel(), minlength=num_classes + 1)
    return numbers[1:2] if num_classes == 1 else numbers[:num_classes]


def sum_classes(probs: Any, axis: int | None) -> Any:
    """Sum of probabilities (class,), or (slice, class) along an axis of the space, in float64."""
    kept = None if axis is None else 1 + axis % (probs.ndim - 1)
    spatial = tuple(place for place in range(1, probs.ndim) if place != kept)
    return probs.sum(dim=spatial, dtype=torch.float64).numpy().T


def _mean_over_slices(score: Any, mass: Any) -> Any:
    """Mean of (unit, class) scores over the slices whose mass of the class rounds to a voxel: the same for any mask."""
    present = mass >= 0.5
    return np.where(present, score, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
