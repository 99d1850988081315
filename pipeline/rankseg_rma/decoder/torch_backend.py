"""Torch engine: the passes as tensor operations, for any device, a bounded number of voxels at a time."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import torch

from rankseg_rma.decoder.geometry import TOLERANCE, plan_walk, refuse_faults, round_down
from rankseg_rma.decoder.objective import Counts, Floats
from rankseg_rma.decoder.solver import Assignment, Sums

# Values held at once in temporaries: on a CPU as many as stay in the cache, on a device enough to occupy it.
_CHUNK_VALUES = {"cpu": 1 << 20}
_CHUNK_VALUES_DEVICE = 1 << 26
# Devices without float64: sums of one chunk in float32, chunks added up in float64 on the host.
_SUM_DTYPE = {"mps": torch.float32}


def open_passes(probs: Any, slice_axis: int | None) -> "TorchPasses":
    """Open a numpy array or tensor (class, *spatial); see the Backend protocol."""
    return TorchPasses(probs, slice_axis)


class TorchPasses:
    """The three passes over one tensor, viewed as (class, outer, unit, inner) in memory order."""

    def __init__(self, probs: Any, slice_axis: int | None) -> None:
        self._is_numpy = isinstance(probs, np.ndarray)
        tensor = _share(probs) if self._is_numpy else probs.detach().as_subclass(torch.Tensor)
        self._walk = walk = plan_walk(tensor.shape[1:], tensor.stride()[1:], slice_axis)
        self.shape = (walk.num_units, tensor.shape[0])
        tensor = tensor.permute(walk.class_first)
        self._data = tensor.reshape(tensor.shape[0], walk.outer, walk.num_units, walk.inner)
        self._device = tensor.device
        self._dtype = np.dtype(np.float64 if tensor.dtype == torch.float64 else np.float32)
        self._sum_dtype = _SUM_DTYPE.get(tensor.device.type, torch.float64)
        self._checked = self._clamp = False

    def sample(self) -> None:
        """No sample: a pass over the whole costs less than the extra steps on an accelerator."""
        return

    def select_sums(self, cutoff: Floats) -> Sums:
        if not self._checked:
            self._check()
        thresholds = self._thresholds(cutoff)
        count, total, mass, peak = self._zeros(), self._zeros(), self._zeros(), self._zeros()
        for units, chunk in self._chunks():
            above = chunk > thresholds[:, :, units]
            count[units] += self._host(above.sum(dim=(1, 3)))
            total[units] += self._host(self._sum(torch.where(above, chunk, 0)))
            mass[units] += self._host(self._sum(chunk))
            peak[units] = np.maximum(peak[units], self._host(chunk.amax(dim=(1, 3))))
        return Sums(count.astype(np.int64), total, mass, peak)

    def exclusive_sums(self, cutoff: Floats) -> tuple[Counts, Floats]:
        thresholds = self._thresholds(cutoff)
        count, total = self._zeros(), self._zeros()
        for units, chunk in self._chunks():
            above = chunk > thresholds[:, :, units]
            above &= above.sum(dim=0) == 1
            count[units] += self._host(above.sum(dim=(1, 3)))
            total[units] += self._host(self._sum(torch.where(above, chunk, 0)))
        return count.astype(np.int64), total

    def assign_labels(self, assignment: Assignment) -> Any:
        dtype = torch.from_numpy(np.empty(0, assignment.dtype)).dtype
        gain = assignment.gain
        tables = (
            self._thresholds(assignment.cutoff), self._spread(assignment.eligible),
            *(self._spread(part).to(self._sum_dtype) for part in (gain.slope, gain.offset, gain.base, gain.shrink)),
        )  # fmt: skip
        parts = [
            self._assign(chunk, assignment.fallback, *(table[:, :, units] for table in tables)).to(dtype)
            for units, chunk in self._chunks()
        ]
        return self._back(self._join(parts, dtype))

    def select_masks(self, cutoff: Floats) -> Any:
        thresholds = self._thresholds(cutoff)
        parts = [chunk > thresholds[:, :, units] for units, chunk in self._chunks()]
        return self._back(self._join(parts, torch.bool))

    def mask_sums(self, labels: Any) -> tuple[Counts, Floats]:
        if isinstance(labels, np.ndarray):  # torch knows neither uint16 nor foreign byte orders
            labels = torch.from_numpy(labels.astype(bool if labels.dtype == bool else np.int64))
        tensor = labels.detach().as_subclass(torch.Tensor).to(self._device)
        is_masks = tensor.ndim == len(self._walk.axes) + 1
        tensor = tensor.permute(self._walk.class_first if is_masks else self._walk.axes)
        tensor = tensor.reshape(-1, *self._data.shape[1:])
        classes = torch.arange(self.shape[1], device=self._device).view(-1, 1, 1, 1) + int(self.shape[1] == 1)
        count, total = self._zeros(), self._zeros()
        for (units, chunk), (_, part) in zip(self._chunks(), self._chunks(tensor), strict=True):
            mask = part if is_masks else part == classes
            count[units] += self._host(mask.sum(dim=(1, 3)))
            total[units] += self._host(self._sum(torch.where(mask, chunk, 0)))
        return count.astype(np.int64), total

    def _assign(
        self,
        chunk: torch.Tensor,
        fallback: int,
        cutoff: Any,
        eligible: Any,
        slope: Any,
        offset: Any,
        base: Any,
        shrink: Any,
    ) -> torch.Tensor:
        """Labels of one chunk, (outer, unit, inner): classes are offered one by one, so memory stays bounded."""
        above = chunk > cutoff
        unassigned = ~above.any(dim=0)
        shift = int(self.shape[1] == 1)
        labels = torch.full(chunk.shape[1:], fallback, dtype=torch.int32, device=self._device)
        best = torch.full(chunk.shape[1:], -torch.inf, dtype=self._sum_dtype, device=self._device)
        for c, probs in enumerate(chunk):
            p = probs.to(self._sum_dtype)
            value = (slope[c] * p - offset[c]) / (base[c] - shrink[c] * p)
            # Strictly, and in the order of the classes: of equal gains the first wins, as in the CPU engine.
            better = (above[c] | (unassigned & eligible[c])) & (value > best)
            best = torch.where(better, value, best)
            labels = torch.where(better, c + shift, labels)
        return torch.where(chunk.any(dim=0), labels, 0)

    def _chunks(self, data: torch.Tensor | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Pieces (class, outer, units, inner) of the data, cut along the longest axis, and the units they hold."""
        whole = self._data if data is None else data
        sizes = self._data.shape[1:]
        if 0 in sizes:
            return
        # The longest axis cuts finest, so that a chunk stays near its limit whatever the shape.
        axis = sizes.index(max(sizes))
        limit = _CHUNK_VALUES.get(self._device.type, _CHUNK_VALUES_DEVICE)
        step = max(limit * sizes[axis] // max(self._data.numel(), 1), 1)
        for start in range(0, sizes[axis], step):
            chunk = whole.narrow(axis + 1, start, min(step, sizes[axis] - start))
            units = slice(start, start + step) if axis == 1 else slice(None)
            if data is None:
                chunk = chunk.float() if chunk.dtype in (torch.float16, torch.bfloat16) else chunk
                chunk = chunk.clamp(0, 1) if self._clamp else chunk
            yield units, chunk

    def _join(self, parts: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        sizes = self._data.shape[1:]
        lead = (self.shape[1],) if dtype == torch.bool else ()
        if not parts:
            return torch.empty((*lead, *sizes), dtype=dtype, device=self._device)
        return torch.cat(parts, dim=sizes.index(max(sizes)) + len(lead))

    def _back(self, result: torch.Tensor) -> Any:
        """From (…, outer, unit, inner) to the caller's axes and container."""
        lead = result.ndim - 3
        shaped = result.reshape(*result.shape[:lead], *self._walk.shape)
        shaped = shaped.permute(*range(lead), *(place + lead for place in self._walk.back))
        return shaped.numpy() if self._is_numpy else shaped

    def _zeros(self) -> Floats:
        return np.zeros(self.shape)

    def _sum(self, chunk: torch.Tensor) -> torch.Tensor:
        return chunk.sum(dim=(1, 3), dtype=self._sum_dtype)

    def _host(self, per_class_and_unit: torch.Tensor) -> Floats:
        return per_class_and_unit.T.cpu().numpy().astype(np.float64)

    def _spread(self, per_unit_and_class: Any) -> torch.Tensor:
        """(unit, class) host array as a (class, 1, unit, 1) tensor on the device."""
        host = np.ascontiguousarray(per_unit_and_class.T)
        if host.dtype == np.float64 and self._sum_dtype != torch.float64:
            host = host.astype(np.float32)
        return torch.from_numpy(host).to(self._device)[:, None, :, None]

    def _thresholds(self, cutoff: Floats) -> torch.Tensor:
        return self._spread(round_down(cutoff, self._dtype))

    def _check(self) -> None:
        """Refuse what is no probability, and note whether values need clamping."""
        counts = np.zeros((4, self.shape[1]), np.int64)
        for _, chunk in self._chunks():
            nan, infinite = chunk.isnan(), chunk.isinf()
            far = ((chunk < -TOLERANCE) | (chunk > 1 + TOLERANCE)) & ~infinite
            near = (chunk < 0) | (chunk > 1)
            counts += np.stack([part.sum(dim=(1, 2, 3)).cpu().numpy() for part in (nan, infinite, far, near)])
        refuse_faults(*counts[:3])
        self._checked, self._clamp = True, bool(counts[3].any())


def _share(array: Any) -> torch.Tensor:
    """Tensor over a numpy array; read-only, byte-swapped or negatively strided arrays are copied first."""
    native = array.dtype.isnative and array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if native and prod(array.shape) else array.astype(array.dtype.newbyteorder("=")))
