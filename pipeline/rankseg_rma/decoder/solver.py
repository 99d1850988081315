"""The exact RMA search without a sort: one solver over three kinds of pass, and the public decoder.

The best value v* of a ratio of sums selects exactly the voxels above a cutoff that v* implies. Dinkelbach's iteration
finds it: measure the voxels above the cutoff, take the value of that mask, derive the next cutoff, until the value
stops growing. Every step is one sum over the data, so a backend supplies the passes and knows nothing of the method.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rankseg_rma.checks import require_number, require_one_of, wrong
from rankseg_rma.decoder.objective import METRICS, Counts, Floats, Gain, Objective
from rankseg_rma.decoder.untraced import untraced

BACKENDS = {
    "numba": "rankseg_rma.decoder.numba_backend",
    "torch": "rankseg_rma.decoder.torch_backend",
}
UNITS = ("volume", "image", "slice")
UNASSIGNED = ("max_score", "background", "void")
MOST_SPATIAL_AXES = 3
# Only the number of passes hangs on where the search starts, not what it finds.
_START_CUTOFF = 0.25


@dataclass(frozen=True)
class Sums:
    """Per unit and class, (unit, class): voxels above the cutoff, their total, the mass and the largest probability."""

    count: Counts
    total: Floats
    mass: Floats
    peak: Floats


@dataclass(frozen=True)
class Assignment:
    """All that a voxel needs to know to find its label; arrays are (unit, class)."""

    cutoff: Floats
    gain: Gain
    eligible: npt.NDArray[np.bool_]
    fallback: int
    dtype: np.dtype[Any]


class Backend(Protocol):
    """The passes that an engine supplies over one probability array; cutoffs are (unit, class) and strict.

    ``select_sums`` also checks the values when it first sees them. ``sample`` gives a small backend over a part of
    the voxels, from which the search takes its first guess, or None where that does not pay.
    """

    shape: tuple[int, int]

    def select_sums(self, cutoff: Floats) -> Sums: ...
    def exclusive_sums(self, cutoff: Floats) -> tuple[Counts, Floats]: ...
    def assign_labels(self, assignment: Assignment) -> Any: ...
    def select_masks(self, cutoff: Floats) -> Any: ...
    def mask_sums(self, labels: Any) -> tuple[Counts, Floats]: ...
    def sample(self) -> "Backend | None": ...


@dataclass(frozen=True)
class Decoding:
    """What the decoder found.

    Attributes:
        labels: (*spatial) label map in the smallest integer dtype that fits, or (class, *spatial) bool masks when
            decoded as multilabel; numpy for numpy input, else a tensor on the input's device.
        cutoff: (class,) or, with unit="slice", (unit, class) float64: probability that a voxel had to exceed;
            +inf for a pruned class.
        num_selected: same shape, int64: size of the class's own best mask, the paper's tau.
        mass: same shape, float64: sum of the probabilities, that is the expected number of voxels.
        value: same shape, float64: RMA value of the class's own best mask, before conflicts between classes.
    """

    labels: Any
    cutoff: Floats
    num_selected: Counts
    mass: Floats
    value: Floats


@dataclass(frozen=True)
class Search:
    """The best mask of every unit and class: fields as in `Decoding`, always (unit, class), and which were pruned."""

    cutoff: Floats
    num_selected: Counts
    mass: Floats
    value: Floats
    active: npt.NDArray[np.bool_]


def search(backend: Backend, objective: Objective, pruning_prob: float) -> Search:
    """Find every class's best mask by Dinkelbach's iteration, all units and classes in the same passes.

    Source:
        method: Dinkelbach 1967, on the objective of Wang and Dai 2025. The iteration grows strictly, so it ends at the
        exact optimum; the strict comparison gives the smallest optimal mask.
    """
    sample = backend.sample()
    if sample is None:
        cutoff = np.full(backend.shape, _START_CUTOFF)
    else:
        # Not pruned: a class whose peak the sample missed would give no guess. A bad guess costs passes, no exactness.
        guess = search(sample, objective, 0.0).cutoff
        cutoff = np.where(np.isfinite(guess), guess, _START_CUTOFF)
    sums = backend.select_sums(cutoff)
    active = sums.peak > pruning_prob
    # The most probable voxel alone is a mask too: never start below its value.
    single = objective.value(np.ones_like(sums.count), sums.peak, sums.mass)
    best = np.maximum(objective.value(sums.count, sums.total, sums.mass), single)
    # Where values are tiny, rounding can bring the cutoff up to the peak: without smoothing the peak is always taken.
    ceiling = np.nextafter(sums.peak, 0.0) if objective.smooth == 0 else np.full(backend.shape, np.inf)
    # The value grows strictly over finitely many masks, so that no tolerance and no limit on the passes is needed.
    while True:
        cutoff = np.where(active, np.minimum(objective.cutoff(best), ceiling), np.inf)
        sums = backend.select_sums(cutoff)
        value = objective.value(sums.count, sums.total, sums.mass)
        grows = active & (value > best)
        if not grows.any():
            break
        best = np.where(grows, value, best)
    return Search(cutoff, sums.count, sums.mass, np.where(active, value, 0.0), active)


def label_dtype(num_labels: int) -> np.dtype[Any]:
    """Smallest of uint8, int16 and int32 that holds the labels 0 to ``num_labels - 1``."""
    return np.dtype(np.uint8 if num_labels <= 256 else np.int16 if num_labels <= 32768 else np.int32)


def largest_label(num_classes: int, unassigned: str, void_index: int) -> int:
    """Largest label that a label map of ``num_classes`` may hold; a single class has the labels 0 and 1."""
    return max(num_classes - 1, 1, void_index if unassigned == "void" else 0)


def _assignment(backend: Backend, found: Search, objective: Objective, unassigned: str, void_index: int) -> Assignment:
    """Measure the voxels that exactly one class selects, and from them what one more voxel is worth to each class."""
    num_classes = found.active.shape[1]
    void = unassigned == "void"
    fallback = void_index if void else 0
    dtype = label_dtype(largest_label(num_classes, unassigned, void_index) + 1)
    if num_classes == 1:
        # Label 1 above the cutoff: the one class becomes the second of two, and nothing is left to weigh.
        eligible = np.zeros_like(found.active)
        zero = np.zeros_like(found.mass)
        return Assignment(found.cutoff, Gain(zero + 1, zero, zero + 1, zero), eligible, 0, dtype)
    # Voxels that several classes select belong to none yet: counted for all, they would be worth less to each.
    count, total = backend.exclusive_sums(found.cutoff)
    everything_pruned = ~found.active.any(axis=1, keepdims=True)
    eligible = (found.active | everything_pruned) & (unassigned == "max_score")
    return Assignment(found.cutoff, objective.gain(count, total, found.mass), eligible, fallback, dtype)


class RMADecoder:
    """Decode probabilities into the mask with the largest expected Dice or IoU (reciprocal moment approximation).

    Args:
        metric: "dice" or "iou", the score to maximise.
        unit: what one score is computed over: "volume" (the whole array; "image" means the same) or "slice". Take the
            unit of the score that you report.
        slice_axis: axis of the spatial shape along which slices lie; only used with unit="slice".
        multilabel: classes may overlap: one mask per class instead of one label per voxel. Without it the classes
            exclude each other and should add up to 1, which is not looked at here: `rankseg_rma` and the transforms do.
        pruning_prob: a class whose largest probability is not above this selects nothing.
        unassigned: what a voxel above no cutoff becomes: "max_score" (largest gain), "background" (0) or "void".
        void_index: the label that "void" writes; not a class index.
        smooth: smoothing added to numerator and denominator; above 0 the empty mask competes too.
        backend: "auto", "numba" (CPU) or "torch" (any device).

    Raises:
        ValueError, TypeError: an argument is not as described.
    Source:
        Wang and Dai 2025 (objective, gain), rankseg 0.0.8 (pruning and assignment rules).
    Example:
        >>> probs = np.array([[0.55, 0.9, 0.6], [0.45, 0.1, 0.4]])
        >>> decoding = RMADecoder(pruning_prob=0.3)(probs)
        >>> decoding.labels, probs.argmax(axis=0)
        (array([1, 0, 1], dtype=uint8), array([0, 0, 0]))
    """

    def __init__(
        self,
        metric: str = "dice",
        unit: str = "volume",
        slice_axis: int = -1,
        multilabel: bool = False,
        pruning_prob: float = 0.5,
        unassigned: str = "max_score",
        void_index: int = 255,
        smooth: float = 0.0,
        backend: str = "auto",
    ) -> None:
        name = type(self).__name__
        self.metric = require_one_of(name, "metric", metric, METRICS)
        self.unit = require_one_of(name, "unit", unit, UNITS)
        self.unassigned = require_one_of(name, "unassigned", unassigned, UNASSIGNED)
        self.backend = require_one_of(name, "backend", backend, ("auto", *BACKENDS))
        self.pruning_prob = require_number(name, "pruning_prob", pruning_prob, 0, 1)
        self.smooth = require_number(name, "smooth", smooth, 0, sys.float_info.max)
        for argument, number in (("slice_axis", slice_axis), ("void_index", void_index)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise TypeError(wrong(name, argument, "an integer", repr(number)))
        if not 0 <= void_index < 2**31:
            raise ValueError(wrong(name, "void_index", "in [0, 2**31)", void_index))
        self.slice_axis, self.multilabel, self.void_index = int(slice_axis), bool(multilabel), int(void_index)

    def __repr__(self) -> str:
        return f"RMADecoder({', '.join(f'{key}={value!r}' for key, value in vars(self).items())})"

    @untraced
    def __call__(self, probs: Any) -> Decoding:
        """Decode one case.

        Args:
            probs: (class, *spatial) probabilities in [0, 1], numpy array or torch tensor, floating point; not modified.
                A single class is binary: label 1 above its cutoff.
        Returns:
            A `Decoding`. Voxels whose probabilities are all zero are background (label 0, or in no mask).
        Raises:
            TypeError: not a floating-point array or tensor, or a tensor without values (in vmap, or on "meta").
            ValueError: no class axis, no spatial axis or more than three, NaN, infinities, or values outside [0, 1] by
                more than 1e-4.
        """
        slice_axis = self.slice_axis if self.unit == "slice" else None
        passes = open_backend(type(self).__name__, probs, slice_axis, self.backend)
        num_classes = probs.shape[0]
        if self.unassigned == "void" and not self.multilabel and self.void_index < max(num_classes, 2):
            expected = f"outside the labels 0 to {max(num_classes, 2) - 1}"
            raise ValueError(wrong(type(self).__name__, "void_index", expected, self.void_index))
        objective = Objective(self.metric, self.smooth)
        found = search(passes, objective, self.pruning_prob)
        labels = (
            passes.select_masks(found.cutoff)
            if self.multilabel
            else passes.assign_labels(_assignment(passes, found, objective, self.unassigned, self.void_index))
        )
        if self.unit == "slice":
            return Decoding(labels, found.cutoff, found.num_selected, found.mass, found.value)
        return Decoding(labels, found.cutoff[0], found.num_selected[0], found.mass[0], found.value[0])


def open_backend(function: str, probs: Any, slice_axis: int | None, name: str) -> Backend:
    """Check container, dtype and shape of ``probs`` and open them with the named engine ("auto": numba on the CPU)."""
    if not (hasattr(probs, "shape") and hasattr(probs, "dtype") and hasattr(probs, "device")):
        expected = "a numpy array or torch tensor of shape (class, *spatial)"
        raise TypeError(wrong(function, "probs", expected, type(probs).__name__))
    if getattr(probs.dtype, "kind", "") != "f" and "float" not in str(probs.dtype):
        advice = "Pass probabilities (softmax or sigmoid of the network's output), not labels."
        raise TypeError(wrong(function, "probs", "floating point", str(probs.dtype), advice=advice))
    require_values(function, "probs", probs)
    shape = tuple(probs.shape)
    require_case(function, "probs", shape)
    if slice_axis is not None:
        if not -(len(shape) - 1) <= slice_axis < len(shape) - 1:
            raise ValueError(wrong(function, "slice_axis", f"an axis of the spatial shape {shape[1:]}", slice_axis))
        slice_axis %= len(shape) - 1
    on_cpu = getattr(probs.device, "type", probs.device) == "cpu"
    if name == "numba" and not on_cpu:
        advice = "Use backend='torch' or 'auto'."
        raise ValueError(wrong(function, "probs", "on the CPU for the numba backend", str(probs.device), advice=advice))
    chosen = name if name != "auto" else "numba" if on_cpu else "torch"
    backend: Backend = import_module(BACKENDS[chosen]).open_passes(probs, slice_axis)
    return backend


def require_case(function: str, argument: str, shape: tuple[int, ...]) -> None:
    """Refuse what is no single case, (class, *spatial) with one to three spatial axes.

    Raises:
        ValueError: no class, no spatial axis, or so many that it must be a batch.
    """
    if len(shape) < 2 or shape[0] == 0:
        raise ValueError(wrong(function, argument, "of shape (class, *spatial) with at least one class", shape))
    if len(shape) > 1 + MOST_SPATIAL_AXES:
        expected = f"of shape (class, *spatial) with at most {MOST_SPATIAL_AXES} spatial axes"
        advice = "Decollate a batch, or give its cases one by one; rankseg_rma(prob) takes batches."
        raise ValueError(wrong(function, argument, expected, shape, advice=advice))


def require_values(function: str, argument: str, probs: Any) -> None:
    """Refuse tensors that only stand for others: the search looks at the values.

    Raises:
        TypeError: a tensor of vmap, of a gradient transform or of a tracer, a sparse one, or one on "meta".
    """
    try:
        has_values = not hasattr(probs, "data_ptr") or (probs.data_ptr() is not None and probs.device.type != "meta")
    except RuntimeError:  # it has no storage
        has_values = False
    if not has_values:
        advice = "Call it outside of torch.func (vmap, grad) and of tracing; rankseg_rma(prob) takes batches."
        got = f"a tensor without storage of its own, {type(probs).__name__}"
        raise TypeError(wrong(function, argument, "a dense tensor that holds values", got, advice=advice))
