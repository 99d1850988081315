"""CPU engine: compiled passes at memory speed over numpy arrays and CPU tensors.

A pass is cut into tasks that depend on the data alone, so the same input gives the same sums with any number of
threads; as many threads work as torch uses.
"""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from rankseg_rma.decoder.geometry import TOLERANCE, plan_walk, refuse_faults, round_down
from rankseg_rma.decoder.numba_kernels import (
    assign_task,
    exclusive_task,
    mask_task,
    masked_task,
    select_task,
    transpose,
)
from rankseg_rma.decoder.objective import Counts, Floats
from rankseg_rma.decoder.solver import Assignment, Sums

Array = npt.NDArray[Any]
# Tasks are cut by the data alone, never by the number of threads: the order of summation, and with it the last bits of
# the sums, would depend on the machine.
_TASK_VOXELS = 1 << 18
_MAX_TASKS = 64
_SLAB_BYTES = 4 << 20
_SAMPLE_FROM_VOXELS, _SAMPLE_PERIOD, _SAMPLE_RUN = 1 << 18, 4096, 64
_MIN_RUN = 16


@dataclass(frozen=True)
class _Slab:
    """A part of the array as the kernels want it.

    Attributes:
        data: (class, n) contiguous float32 or float64.
        first: position in the walk of data[:, 0]; ``start`` to ``stop`` are the positions to visit.
        inner: voxels side by side in one unit.
        where: index of this part in an array of the walk's spatial shape (copied slabs), or None (in place).
    """

    data: Array
    first: int
    start: int
    stop: int
    inner: int
    where: tuple[slice, ...] | None

    @property
    def position(self) -> tuple[int, int, int, int]:
        """What every kernel takes after the data."""
        return self.first, self.start, self.stop, self.inner


def num_threads() -> int:
    """As many threads as torch uses, or one for each core when torch is not loaded."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else os.cpu_count() or 1


def open_passes(probs: Any, slice_axis: int | None) -> "NumbaPasses":
    """Open a numpy array or CPU tensor (class, *spatial); see the Backend protocol."""
    if isinstance(probs, np.ndarray):
        return NumbaPasses(probs, slice_axis, wrap=lambda labels: labels)
    import torch

    tensor = probs.detach().as_subclass(torch.Tensor)
    # numpy has no bfloat16: its 16 bits are the upper half of a float32, see _load.
    array = tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
    return NumbaPasses(array, slice_axis, wrap=torch.from_numpy)


def _load(part: Array) -> Array:
    """Contiguous float32 or float64 copy of a part, from any floating dtype (uint16 holds bfloat16)."""
    if part.dtype == np.uint16:
        return (np.ascontiguousarray(part).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.ascontiguousarray(part, np.float64 if part.dtype.itemsize >= 8 else np.float32)


class NumbaPasses:
    """The three passes over one array in memory.

    Float32 and float64 arrays whose spatial axes are dense in any order are read in place. Others (half precision,
    crops, a slice axis that lies innermost) are copied slab by slab, a few megabytes at a time.
    """

    def __init__(self, array: Array, slice_axis: int | None, wrap: Callable[[Array], Any]) -> None:
        self._walk = plan_walk(array.shape[1:], array.strides[1:], slice_axis)
        self._array = array.transpose(self._walk.class_first)
        self._wrap = wrap
        self._dtype = np.dtype(np.float64 if array.dtype.itemsize >= 8 else np.float32)
        self._checked = self._clamp = False
        # Units that alternate every few voxels make runs too short for vector instructions: copied, each is one run.
        scattered = self._walk.num_units > 1 and self._walk.inner < _MIN_RUN
        in_place = array.dtype == self._dtype and self._array.flags.c_contiguous and not scattered
        self._interleaved = self._walk.unit_place == len(self._walk.shape) - 1 and self._walk.num_units > 1
        self._flat = self._array.reshape(array.shape[0], -1) if in_place else None
        self.shape = (self._walk.num_units, array.shape[0])
        self._num_voxels = prod(self._walk.shape)
        # All classes of a tile in a quarter of a megabyte: they are read twice, the second time from the cache.
        self._tile = int(np.clip((1 << 18) // (array.shape[0] * self._dtype.itemsize), 512, 8192))

    def sample(self) -> "NumbaPasses | None":
        """Short runs of voxels spread over a large volume, made harmless where they are no probabilities."""
        if self._flat is None or self.shape[0] > 1 or self._num_voxels < _SAMPLE_FROM_VOXELS:
            return None
        # Runs rather than single voxels: a cache line that is read for one voxel is read for all of its sixteen.
        whole = self._num_voxels // _SAMPLE_PERIOD * _SAMPLE_PERIOD
        runs = self._flat[:, :whole].reshape(self.shape[1], -1, _SAMPLE_PERIOD)[:, :, :_SAMPLE_RUN]
        clean = np.clip(np.nan_to_num(runs), 0, 1).reshape(self.shape[1], -1)
        return NumbaPasses(clean, None, self._wrap)

    def select_sums(self, cutoff: Floats) -> Sums:
        one = np.ones(1, self._dtype).view(f"u{self._dtype.itemsize}")
        thresholds = round_down(cutoff, self._dtype)

        def visit(slab: _Slab) -> tuple[Array, ...]:
            count, total, mass = self._zeros(np.int64), self._zeros(np.float64), self._zeros(np.float64)
            peak = self._zeros(one.dtype)
            bits = slab.data.view(one.dtype)
            select_task(slab.data, bits, *slab.position, thresholds, count, total, mass, peak)
            return count, total, mass, peak

        count, total, mass, peak = (np.stack(part) for part in zip(*self._run(visit), strict=True))
        if not self._checked:
            self._checked = True
            # Bits above those of 1 are all that is no probability: the check rides on the first pass.
            if (peak > one).any():
                self._refuse_faults()
                self._clamp, self._flat = True, None
                return self.select_sums(cutoff)
        largest = peak.max(axis=0).view(self._dtype).astype(np.float64)
        return Sums(count.sum(axis=0), total.sum(axis=0), mass.sum(axis=0), largest)

    def exclusive_sums(self, cutoff: Floats) -> tuple[Counts, Floats]:
        thresholds = round_down(cutoff, self._dtype)

        def visit(slab: _Slab) -> tuple[Array, ...]:
            count, total = self._zeros(np.int64), self._zeros(np.float64)
            exclusive_task(slab.data, *slab.position, self._tile, thresholds, count, total)
            return count, total

        return self._add_up(visit)

    def assign_labels(self, assignment: Assignment) -> Any:
        thresholds, gain = round_down(assignment.cutoff, self._dtype), assignment.gain
        labels = np.empty(self._walk.shape, assignment.dtype)
        flat = labels.reshape(-1)

        def visit(slab: _Slab) -> None:
            target = flat if slab.where is None else np.empty(slab.data.shape[1], assignment.dtype)
            assign_task(
                slab.data, *slab.position, self._tile, thresholds,
                gain.slope, gain.offset, gain.base, gain.shrink, assignment.eligible,
                assignment.dtype.type(assignment.fallback), target,
            )  # fmt: skip
            self._put(labels, slab, target)

        self._run(visit)
        return self._wrap(labels.transpose(self._walk.back))

    def select_masks(self, cutoff: Floats) -> Any:
        thresholds = round_down(cutoff, self._dtype)
        masks = np.empty((self.shape[1], *self._walk.shape), np.bool_)
        flat = masks.reshape(self.shape[1], -1)

        def visit(slab: _Slab) -> None:
            target = flat if slab.where is None else np.empty(slab.data.shape, np.bool_)
            mask_task(slab.data, *slab.position, thresholds, target)
            for c in range(self.shape[1]):
                self._put(masks[c], slab, target[c])

        self._run(visit)
        return self._wrap(masks.transpose(0, *(place + 1 for place in self._walk.back)))

    def mask_sums(self, labels: Any) -> tuple[Counts, Floats]:
        array = labels if isinstance(labels, np.ndarray) else np.asarray(labels.detach().cpu())
        is_masks = array.ndim == self._array.ndim
        array = array.transpose(self._walk.class_first if is_masks else self._walk.axes)
        if not is_masks:
            array = array[None]
        classes = np.arange(self.shape[1]) + (self.shape[1] == 1)

        def visit(slab: _Slab) -> tuple[Array, ...]:
            part = self._take(array, slab)
            masks = part if is_masks else part == classes[:, None]
            count, total = self._zeros(np.int64), self._zeros(np.float64)
            masked_task(slab.data, *slab.position, masks, count, total)
            return count, total

        return self._add_up(visit)

    def _add_up(self, visit: Callable[[_Slab], tuple[Array, ...]]) -> tuple[Counts, Floats]:
        """Counts and totals of all slabs together."""
        count, total = (np.stack(part) for part in zip(*self._run(visit), strict=True))
        return count.sum(axis=0), total.sum(axis=0)

    def _zeros(self, dtype: npt.DTypeLike) -> Array:
        return np.zeros(self.shape, dtype)

    def _run(self, visit: Callable[[_Slab], Any]) -> list[Any]:
        """Visit every slab, in threads when there is more than one, and return the results in order."""
        jobs = list(self._jobs())
        threads = min(num_threads(), len(jobs))
        if threads <= 1:
            return [visit(job()) for job in jobs]
        with ThreadPoolExecutor(threads) as pool:
            # Results in the order of the jobs, whichever ends first: sums must not hang on the threads.
            return list(pool.map(lambda job: visit(job()), jobs))

    def _jobs(self) -> Iterator[Callable[[], _Slab]]:
        if self._flat is not None:
            flat, inner = self._flat, max(self._walk.inner, 1)
            num_tasks = int(np.clip(self._num_voxels // _TASK_VOXELS, 1, _MAX_TASKS))
            edges = [self._num_voxels * task // num_tasks for task in range(num_tasks + 1)]
            for start, stop in itertools.pairwise(edges):
                yield partial(_Slab, flat, 0, start, stop, inner, None)
            return
        yield from self._copy_jobs()

    def _copy_jobs(self) -> Iterator[Callable[[], _Slab]]:
        """Slabs along the longest-stride axis that is not the slice axis; the slice axis goes first within each."""
        walk = self._walk
        free = [place for place in range(len(walk.shape)) if place != walk.unit_place and walk.shape[place] > 1]
        cut = free[0] if free else 0
        whole = max(self._num_voxels // max(walk.shape[cut], 1), 1)
        fitting = max(_SLAB_BYTES // (whole * self.shape[1] * self._dtype.itemsize), 1)
        rows = fitting if free else max(walk.shape[cut], 1)
        for start in range(0, max(walk.shape[cut], 1), rows):
            where = [slice(None)] * len(walk.shape)
            where[cut] = slice(start, start + rows)
            yield partial(self._copy, tuple(where))

    def _copy(self, where: tuple[slice, ...]) -> _Slab:
        part = self._array[(slice(None), *where)]
        if self._interleaved and part.dtype == self._dtype and part[0].flags.c_contiguous:
            rows = part.reshape(self.shape[1], -1, part.shape[-1])
            data = np.empty((rows.shape[0], rows.shape[2], rows.shape[1]), self._dtype)
            transpose(rows, data)
            data = data.reshape(self.shape[1], -1)
        else:
            data = _load(self._units_first(part)).reshape(self.shape[1], -1)
        if self._clamp:
            np.clip(data, 0, 1, out=data)
            data += 0  # a negative zero becomes zero: its bits would count as the largest
        size = data.shape[1]
        return _Slab(data, 0, 0, size, max(size // max(self._walk.num_units, 1), 1), where)

    def _units_first(self, part: Array) -> Array:
        """Move the slice axis of a (class, *walk) part in front of the other spatial axes."""
        return part if self._walk.unit_place is None else np.moveaxis(part, self._walk.unit_place + 1, 1)

    def _take(self, array: Array, slab: _Slab) -> Array:
        """The voxels of a slab from a second array (k, *walk shape), as (k, n), in the slab's order."""
        if slab.where is not None:
            return np.ascontiguousarray(self._units_first(array[(slice(None), *slab.where)])).reshape(len(array), -1)
        if array.flags.c_contiguous:
            return array.reshape(len(array), -1)[:, slab.start : slab.stop]
        return _ravel_part(array, slab.start, slab.stop)

    def _put(self, target: Array, slab: _Slab, values: Array) -> None:
        """Write a copied slab's voxels back to their places; in-place slabs are there already."""
        if slab.where is None:
            return
        place = target[slab.where]
        if self._interleaved and place.flags.c_contiguous:
            transpose(values.reshape(1, place.shape[-1], -1), place.reshape(1, -1, place.shape[-1]))
        else:
            view = self._units_first(place[None])[0]
            view[...] = values.reshape(view.shape)

    def _refuse_faults(self) -> None:
        """Raise when values are no probabilities; return when they only need clamping."""
        counts = np.zeros((3, self.shape[1]), np.int64)
        # Row by row: masks of a whole volume would take several times its memory, in a run that fails anyway.
        for c, values in enumerate(self._array):
            for row in np.atleast_2d(values):
                p = _load(row)
                nan, infinite = np.isnan(p), np.isinf(p)
                far = (p < -TOLERANCE) | (p > 1 + TOLERANCE)
                counts[:, c] += np.count_nonzero(nan), np.count_nonzero(infinite), np.count_nonzero(far & ~infinite)
        refuse_faults(*counts)


def _ravel_part(array: Array, start: int, stop: int) -> Array:
    """Positions start to stop of each raveled array[k], copying only the rows of the first axis that hold them."""
    row = max(prod(array.shape[2:]), 1)
    low, high = start // row, -(-stop // row)
    return array[:, low:high].reshape(len(array), -1)[:, start - low * row : stop - low * row]
