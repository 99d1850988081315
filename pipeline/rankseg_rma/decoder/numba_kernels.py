"""Compiled kernels of the CPU engine.

They walk runs of voxels that are contiguous in memory, a few thousand at a time so that LLVM vectorises them and the
classes of a tile stay in cache, and run without the interpreter's lock. A task visits the positions ``start`` to
``stop`` of the walk; ``data[:, 0]`` is position ``first``; rows of ``inner`` positions belong to one unit, and rows
cycle through the units. Cutoffs and accumulators are (unit, class).
"""

import numpy as np

from rankseg_rma.compiling import kernel

# Sums may be reordered (vectorised); NaN keeps its meaning.
_FASTMATH = {"reassoc", "nsz"}


@kernel(fastmath=_FASTMATH)
def _sum_run(run, bits, cutoff):  # type: ignore[no-untyped-def]
    """Count and total above the cutoff, mass, and the largest bit pattern: the order of floats in [0, 1].

    As an unsigned integer, everything that is not in [0, 1] (negative, NaN, infinite, above 1) lies above one's bits.
    """
    count, total, mass, peak = 0, 0.0, 0.0, bits[0]
    for i in range(run.size):
        p = run[i]
        q = np.float64(p)
        mass += q
        peak = max(peak, bits[i])
        above = p > cutoff
        count += above
        total += q if above else 0.0
    return count, total, mass, peak


@kernel()
def select_task(data, bits, first, start, stop, inner, cutoff, count, total, mass, peak):  # type: ignore[no-untyped-def]
    for c in range(data.shape[0]):
        position = start
        while position < stop:
            row = position // inner
            # Run by run, as in pairwise summation: rounding grows with the number of runs, not with that of voxels.
            end = min((row + 1) * inner, stop, position + 8192)
            unit = row % cutoff.shape[0]
            piece = slice(position - first, end - first)
            n, t, m, b = _sum_run(data[c, piece], bits[c, piece], cutoff[unit, c])
            count[unit, c] += n
            total[unit, c] += t
            mass[unit, c] += m
            peak[unit, c] = max(peak[unit, c], b)
            position = end


@kernel(fastmath=_FASTMATH)
def _count_above(run, cutoff, seen):  # type: ignore[no-untyped-def]
    """Number of classes above their cutoff at each voxel, one class more; two means several."""
    for i in range(run.size):
        seen[i] = min(seen[i] + np.uint8(run[i] > cutoff), 2)


@kernel(fastmath=_FASTMATH)
def _sum_exclusive(run, cutoff, seen):  # type: ignore[no-untyped-def]
    count, total = 0, 0.0
    for i in range(run.size):
        alone = (run[i] > cutoff) & (seen[i] == 1)
        count += alone
        total += np.float64(run[i]) if alone else 0.0
    return count, total


@kernel()
def exclusive_task(data, first, start, stop, inner, tile, cutoff, count, total):  # type: ignore[no-untyped-def]
    seen = np.empty(tile, np.uint8)
    position = start
    while position < stop:
        row = position // inner
        end = min((row + 1) * inner, stop, position + tile)
        unit = row % cutoff.shape[0]
        here = seen[: end - position]
        here[:] = 0
        for c in range(data.shape[0]):
            _count_above(data[c, position - first : end - first], cutoff[unit, c], here)
        for c in range(data.shape[0]):
            n, t = _sum_exclusive(data[c, position - first : end - first], cutoff[unit, c], here)
            count[unit, c] += n
            total[unit, c] += t
        position = end


@kernel(fastmath=_FASTMATH)
def _mark_nonzero(run, some):  # type: ignore[no-untyped-def]
    for i in range(run.size):
        some[i] |= run[i] > 0


@kernel(fastmath=_FASTMATH, error_model="numpy")
def _take_constant(run, cutoff, slope, offset, base, eligible, label, seen, best, labels):  # type: ignore[no-untyped-def]
    """Offer one class to every voxel, the gain's denominator being constant (Dice)."""
    # A division per class instead of one per voxel.
    slope, offset = slope / base, offset / base
    for i in range(run.size):
        gain = slope * run[i] - offset
        candidate = (run[i] > cutoff) | (eligible & (seen[i] == 0))
        # Strictly: of equal gains the first class wins, as with argmax.
        better = candidate & (gain > best[i])
        best[i] = gain if better else best[i]
        labels[i] = label if better else labels[i]


@kernel(fastmath=_FASTMATH, error_model="numpy")
def _take_ratio(run, cutoff, slope, offset, base, eligible, label, seen, best, labels):  # type: ignore[no-untyped-def]
    """Offer one class to every voxel, the gain's denominator falling with the probability (IoU)."""
    for i in range(run.size):
        gain = (slope * run[i] - offset) / (base - run[i])
        candidate = (run[i] > cutoff) | (eligible & (seen[i] == 0))
        better = candidate & (gain > best[i])
        best[i] = gain if better else best[i]
        labels[i] = label if better else labels[i]


@kernel()
def assign_task(  # type: ignore[no-untyped-def]
    data, first, start, stop, inner, tile, cutoff, slope, offset, base, shrink, eligible, fallback, labels
):
    """Labels of the voxels start to stop; written to ``labels[position - first]``."""
    seen, some, best = np.empty(tile, np.uint8), np.empty(tile, np.bool_), np.empty(tile, np.float64)
    shift = labels.dtype.type(1 if data.shape[0] == 1 else 0)
    position = start
    while position < stop:
        row = position // inner
        end = min((row + 1) * inner, stop, position + tile)
        unit = row % cutoff.shape[0]
        size = end - position
        here, seen_here, best_here = labels[position - first : end - first], seen[:size], best[:size]
        seen_here[:] = 0
        best_here[:] = -np.inf
        here[:] = fallback
        for c in range(data.shape[0]):
            _count_above(data[c, position - first : end - first], cutoff[unit, c], seen_here)
        for c in range(data.shape[0]):
            run, label = data[c, position - first : end - first], labels.dtype.type(c) + shift
            a, b, d, can = slope[unit, c], offset[unit, c], base[unit, c], eligible[unit, c]
            if shrink[unit, c] == 0:
                _take_constant(run, cutoff[unit, c], a, b, d, can, label, seen_here, best_here, here)
            else:
                _take_ratio(run, cutoff[unit, c], a, b, d, can, label, seen_here, best_here, here)
        # Only what no class selects can be padding, 0 in every class, which the gain or the fallback would label.
        if (seen_here == 0).any():
            some_here = some[:size]
            some_here[:] = False
            for c in range(data.shape[0]):
                _mark_nonzero(data[c, position - first : end - first], some_here)
            for i in range(size):
                if not some_here[i]:
                    here[i] = 0
        position = end


@kernel(fastmath=_FASTMATH)
def _compare_run(run, cutoff, mask):  # type: ignore[no-untyped-def]
    for i in range(run.size):
        mask[i] = run[i] > cutoff


@kernel()
def mask_task(data, first, start, stop, inner, cutoff, masks):  # type: ignore[no-untyped-def]
    for c in range(data.shape[0]):
        position = start
        while position < stop:
            row = position // inner
            end = min((row + 1) * inner, stop)
            piece = slice(position - first, end - first)
            _compare_run(data[c, piece], cutoff[row % cutoff.shape[0], c], masks[c, piece])
            position = end


@kernel(fastmath=_FASTMATH)
def _sum_masked(run, mask):  # type: ignore[no-untyped-def]
    count, total = 0, 0.0
    for i in range(run.size):
        count += mask[i]
        total += np.float64(run[i]) if mask[i] else 0.0
    return count, total


@kernel()
def masked_task(data, first, start, stop, inner, masks, count, total):  # type: ignore[no-untyped-def]
    """As `select_task`, the voxels being chosen by ``masks[c, position - start]``."""
    for c in range(data.shape[0]):
        position = start
        while position < stop:
            row = position // inner
            end = min((row + 1) * inner, stop, position + 8192)
            unit = row % count.shape[0]
            run = data[c, position - first : end - first]
            n, t = _sum_masked(run, masks[c, position - start : end - start])
            count[unit, c] += n
            total[unit, c] += t
            position = end


@kernel()
def transpose(source, target):  # type: ignore[no-untyped-def]
    """target[c, j, i] = source[c, i, j], tile by tile so that both sides stay in cache."""
    for c in range(source.shape[0]):
        for low in range(0, source.shape[1], 32):
            for left in range(0, source.shape[2], 32):
                for j in range(left, min(left + 32, source.shape[2])):
                    for i in range(low, min(low + 32, source.shape[1])):
                        target[c, j, i] = source[c, i, j]
