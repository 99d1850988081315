"""Calibration of probabilities against a reference: calibration errors, Brier score, log-likelihood, reliability.

A case becomes a small table of counts per bin of probability; the tables of several cases add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.compiling import kernel
from rankseg_rma.metrics.masks import as_label_map

# -log of a probability stops here, so that one impossible voxel does not make a cohort infinite.
SMALLEST_PROB = 1e-12
# Voxels copied and counted at a time.
BLOCK = 1 << 17
# Classes may miss a sum of 1 by this in one voxel of a hundred: files hold resampled and rounded probabilities.
SUM_TOLERANCE = 0.05


@dataclass(frozen=True)
class ReliabilityRow:
    """One bin of a reliability diagram.

    Attributes:
        bin: position from 0.
        low, high: the bin holds probabilities in (low, high]; the first one also 0.
        count: voxels in the bin.
        confidence: their mean probability; frequency: the fraction of them that is so. NaN in an empty bin.
    """

    bin: int
    low: float
    high: float
    count: int
    confidence: float
    frequency: float


@dataclass(frozen=True)
class BinTable:
    """Voxels per bin of probability.

    Attributes:
        count: number of voxels.
        confidence: sum of their probabilities.
        correct: number of voxels where the event of that probability happened.
    """

    count: tuple[int, ...]
    confidence: tuple[float, ...]
    correct: tuple[int, ...]

    def __add__(self, other: "BinTable") -> "BinTable":
        return BinTable(
            _add(self.count, other.count), _add(self.confidence, other.confidence), _add(self.correct, other.correct)
        )

    def error(self) -> float:
        """Mean over voxels of the bins' |frequency - mean probability|; NaN without a voxel.

        Example:
            >>> BinTable(count=(2, 2), confidence=(0.5, 2.0), correct=(1, 1)).error()
            0.375
        """
        gaps = [abs(hits - total) for hits, total in zip(self.correct, self.confidence, strict=True)]
        return sum(gaps) / sum(self.count) if sum(self.count) else nan

    def rows(self) -> list[ReliabilityRow]:
        """The bins, empty ones too, in increasing probability."""
        edges, rows = _edges(len(self.count)), []
        for k, (count, total, hits) in enumerate(zip(self.count, self.confidence, self.correct, strict=True)):
            confidence, frequency = (total / count, hits / count) if count else (nan, nan)
            rows.append(ReliabilityRow(k, float(edges[k]), float(edges[k + 1]), count, confidence, frequency))
        return rows


@dataclass(frozen=True)
class CalibrationCounts:
    """What calibration is computed from; ``a + b`` pools cases, every voxel weighing the same.

    Measures are NaN without a voxel.

    Attributes:
        top: every voxel by the probability of its most probable class; correct where that class is the reference's.
        foreground: the part of ``top`` whose most probable class is not the background, class 0.
        classes: for each class, every voxel by the probability of that class; correct where it is the reference's.
        num_voxels: voxels counted.
        num_left_out: voxels with the label to ignore, or without any mass (padding).
        sum_brier: sum over voxels and classes of (probability - 1 where it is the reference's class, else 0) squared.
        sum_nll: sum over voxels of -log(probability of the reference's class), in nats.
    """

    top: BinTable
    foreground: BinTable
    classes: tuple[BinTable, ...]
    num_voxels: int
    num_left_out: int
    sum_brier: float
    sum_nll: float

    def __add__(self, other: "CalibrationCounts") -> "CalibrationCounts":
        shapes = [(len(counts.classes), len(counts.top.count)) for counts in (self, other)]
        if shapes[0] != shapes[1]:
            expected = f"of as many classes and bins, {shapes[0]}"
            raise ValueError(wrong("CalibrationCounts", "the counts to add", expected, shapes[1]))
        return CalibrationCounts(
            top=self.top + other.top,
            foreground=self.foreground + other.foreground,
            classes=tuple(mine + its for mine, its in zip(self.classes, other.classes, strict=True)),
            num_voxels=self.num_voxels + other.num_voxels,
            num_left_out=self.num_left_out + other.num_left_out,
            sum_brier=self.sum_brier + other.sum_brier,
            sum_nll=self.sum_nll + other.sum_nll,
        )

    def ece(self) -> float:
        """Expected calibration error of the most probable class (Guo et al. 2017).

        In an organ's volume nearly all voxels are certain background, which makes it small whatever the rest does.
        """
        return self.top.error()

    def foreground_ece(self) -> float:
        """The same over the voxels that argmax marks as foreground: is the network right as often as it claims?

        Voxels are chosen by the prediction alone. Choosing those where the prediction *or the reference* is foreground
        would choose by the outcome: of predicted background only the wrong voxels would remain, and a perfectly
        calibrated network would get an error above 0. A temperature does not change the choice, so two can be compared.
        Foreground that the network misses is not seen here but in `class_ece`. NaN where nothing is predicted.
        """
        return self.foreground.error()

    def class_ece(self) -> float:
        """Class-wise calibration error: mean of `class_eces` over all classes, background included (Kull et al. 2019).

        A voxel counts as correct where ``label == c``. The code released with the RankSEG-RMA paper takes
        ``(label == c) & (argmax == label)``, which is no calibration error: where every voxel has the probabilities
        (0.6, 0.3, 0.1) and labels follow them exactly, it is (0 + 0.3 + 0.1) / 3 instead of 0.
        """
        errors = self.class_eces()
        return sum(errors) / len(errors)

    def class_eces(self) -> tuple[float, ...]:
        """Calibration error of each class, over all voxels."""
        return tuple(table.error() for table in self.classes)

    def brier(self) -> float:
        """Brier score: sum over classes of the squared error, mean over voxels; 0 to 2 (Brier 1950)."""
        return self.sum_brier / self.num_voxels if self.num_voxels else nan

    def nll(self) -> float:
        """Negative log-likelihood in nats per voxel; probabilities count as 1e-12 at least."""
        return self.sum_nll / self.num_voxels if self.num_voxels else nan

    def reliability(self, label: int) -> list[ReliabilityRow]:
        """Reliability diagram of one class over all voxels.

        Args:
            label: class, 0 being the background; of a single foreground probability the classes are 0 and 1.
        Raises:
            ValueError: there is no such class.
        """
        if label not in range(len(self.classes)):
            raise ValueError(wrong("reliability", "label", f"a class from 0 to {len(self.classes) - 1}", repr(label)))
        return self.classes[label].rows()


def count_calibration(
    probs: Any, reference: Any, *, num_bins: int = 15, ignore_label: int | None = None, case_id: str | None = None
) -> CalibrationCounts:
    """Count a case's voxels by probability and by whether the reference agrees.

    Bins are equally wide and hold (low, high]; a probability of 0 goes to the first. Among equally probable classes the
    first one is the most probable, as with argmax. Sums are float64, always in the same order.

    Args:
        probs: (class, *spatial) floating point in [0, 1], summing to 1 over classes; a single class is that of the
            foreground and counts as two, 1 - p and p. A voxel that is 0 in all of several classes is padding and left
            out. Not modified; any memory layout.
        reference: (*spatial) whole numbers below the number of classes.
        num_bins: number of bins.
        ignore_label: label of the reference whose voxels are left out; None: there is no such label.
        case_id: named in errors.
    Raises:
        ValueError: shapes or dtype differ, a probability is not in [0, 1], more than one voxel of a hundred misses a
            sum of 1 by more than 0.05, or the reference has a label of no class.
    Example:
        >>> counts = count_calibration(np.array([[0.9, 0.2, 0.4, 0.8]]), np.array([1, 0, 0, 1]))
        >>> round(counts.ece(), 3), round(counts.brier(), 3), round(counts.nll(), 3)
        (0.225, 0.125, 0.266)
    """
    probs, reference = np.asarray(probs), as_label_map("reference", reference)
    _require_case(probs, reference, num_bins, case_id)
    num_classes = max(len(probs), 2)
    # Rows: the classes, then the most probable class where it is background, then where it is foreground.
    counts = np.zeros((num_classes + 2, 2, num_bins), np.int64)
    totals, scores = np.zeros((num_classes + 2, num_bins)), np.zeros(2)
    found = np.zeros(5, np.int64)
    ignored, edges = -1 if ignore_label is None else ignore_label, _edges(num_bins)
    for some_probs, some_labels in _blocks(probs, reference):
        _count_block(some_probs, some_labels, ignored, edges, counts, totals, scores, found)
        _require_values(found, num_classes, ignore_label, case_id)
    num_voxels, num_left_out, num_off = (int(number) for number in found[:3])
    if num_off > num_voxels / 100:
        got = f"{num_off} of {num_voxels} voxels that do not"
        raise ValueError(wrong("count_calibration", "probs", "adding up to 1 over the classes", got, case_id=case_id))
    tables = [_table(counts[k], totals[k]) for k in range(num_classes + 2)]
    return CalibrationCounts(
        top=tables[-2] + tables[-1],
        foreground=tables[-1],
        classes=tuple(tables[:num_classes]),
        num_voxels=num_voxels,
        num_left_out=num_left_out,
        sum_brier=float(scores[0]),
        sum_nll=float(scores[1]),
    )


def _require_case(probs: Any, reference: Any, num_bins: int, case_id: str | None) -> None:
    if probs.dtype.kind != "f" or probs.ndim < 2 or not len(probs):
        expected, got = "(class, *spatial) floating point", f"{probs.dtype} of shape {probs.shape}"
        raise ValueError(wrong("count_calibration", "probs", expected, got, case_id=case_id))
    if reference.shape != probs.shape[1:]:
        expected = f"of the probabilities' shape {probs.shape[1:]}"
        raise ValueError(wrong("count_calibration", "reference", expected, reference.shape, case_id=case_id))
    if num_bins < 1:
        raise ValueError(wrong("count_calibration", "num_bins", "a positive whole number", repr(num_bins)))


def _require_values(found: Any, num_classes: int, ignore_label: int | None, case_id: str | None) -> None:
    """Refuse what the kernel met that is no probability or no label."""
    if found[3]:
        got = f"{found[3]} voxels with other values"
        raise ValueError(wrong("count_calibration", "probs", "in [0, 1], not NaN", got, case_id=case_id))
    if found[4]:
        expected = f"labels from 0 to {num_classes - 1}" + ("" if ignore_label is None else f" or {ignore_label}")
        got, advice = f"{found[4]} voxels with another label", "Set ignore_label for voxels that are not annotated."
        raise ValueError(wrong("count_calibration", "reference", expected, got, case_id=case_id, advice=advice))


def _blocks(probs: Any, reference: Any) -> Any:
    """Pieces of both arrays as (class, voxel) float32 or float64 and (voxel,) int32, in the order of memory.

    Files are read with their axes reversed in memory; flattening such an array whole would copy it.
    """
    shape, strides = reference.shape, probs.strides[1:]
    order = sorted(range(reference.ndim), key=lambda axis: (shape[axis] == 1, -abs(strides[axis])))
    probs, reference = probs.transpose(0, *(axis + 1 for axis in order)), reference.transpose(order)
    # A single probability is paired with 1 - p, which in single precision loses the digits of a small p.
    dtype = np.float64 if probs.dtype.itemsize > 4 or len(probs) == 1 else np.float32
    step = max(1, BLOCK // max(1, reference[:1].size))
    for start in range(0, len(reference), step):
        piece = np.asarray(probs[:, start : start + step], dtype).reshape(len(probs), -1)
        labels = np.ascontiguousarray(reference[start : start + step], np.int32).reshape(-1)
        yield np.concatenate([1 - piece, piece]) if len(piece) == 1 else piece, labels


@kernel()
def _count_block(probs, labels, ignored, edges, counts, totals, scores, found):  # type: ignore[no-untyped-def]
    """Add a block to the tables. ``found``: voxels counted, left out, off a sum of 1, of wrong value, wrong label."""
    num_classes, num_bins = probs.shape[0], edges.size - 1
    for i in range(labels.size):
        label = labels[i]
        if label == ignored:
            found[1] += 1
            continue
        top, mass, fine = 0, 0.0, True
        for c in range(num_classes):
            p = probs[c, i]
            fine &= (p >= 0) & (p <= 1)
            mass += np.float64(p)
            top = c if p > probs[top, i] else top
        if not fine:
            found[3] += 1
        elif mass == 0:
            found[1] += 1
        elif label >= num_classes:
            found[4] += 1
        else:
            found[0] += 1
            found[2] += abs(mass - 1) > SUM_TOLERANCE
            for c in range(num_classes):
                p, hit = np.float64(probs[c, i]), c == label
                scores[0] += (p - hit) ** 2
                k = max(int(np.ceil(p * num_bins)) - 1, 0)
                # The product may round across an edge.
                k -= k > 0 and p <= edges[k]
                k += p > edges[k + 1]
                counts[c, 0, k] += 1
                counts[c, 1, k] += hit
                totals[c, k] += p
                if c == top:
                    row = num_classes + (top > 0)
                    counts[row, 0, k] += 1
                    counts[row, 1, k] += hit
                    totals[row, k] += p
            # A probability of 0 that came true would make the mean infinite whatever all other voxels do.
            scores[1] -= np.log(max(np.float64(probs[label, i]), SMALLEST_PROB))


def _edges(num_bins: int) -> Any:
    return np.arange(num_bins + 1) / num_bins


def _table(counts: Any, totals: Any) -> BinTable:
    return BinTable(tuple(counts[0].tolist()), tuple(totals.tolist()), tuple(counts[1].tolist()))


def _add(first: Sequence[Any], second: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))
