"""Lesion by lesion: connected components of prediction and reference, and which belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import cc3d
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rankseg_rma.checks import wrong
from rankseg_rma.metrics.masks import Box, bounding_box, require_mask, union_box
from rankseg_rma.metrics.overlap import Overlap, dice_of
from rankseg_rma.metrics.size import longest_diameters_mm
from rankseg_rma.metrics.spacing import cell_size, require_spacing

# A pair of lesions matches above a threshold, not at it.
IOU_THRESHOLDS = (0.0, 0.1, 0.25, 0.5)
VOLUME_BINS_ML = (0.5, 2.0, 10.0)
VOLUME_BIN_NAMES = ("<0.5 mL", "0.5-2 mL", "2-10 mL", ">=10 mL")
# Names by their 3D neighbourhood; in 2D the same names mean 8 and 4 neighbours.
CONNECTIVITIES = {26: 8, 6: 4}


@dataclass(frozen=True)
class Lesion:
    """One connected component of a mask.

    Attributes:
        number: label of the component, from 1; see `label_components`.
        voxels: size; volume_ml: the same in mL.
        diameter_mm: longest axial diameter, see `longest_diameter_mm`.
        centroid_index: mean array index, in the whole volume.
        best_iou: largest IoU with any lesion of the other side, 0 when none overlaps.
        partner: number of that lesion (the smaller on a tie), 0 when none overlaps.
        matched: for each of `IOU_THRESHOLDS`, whether the lesion has a match.
    """

    number: int
    voxels: int
    volume_ml: float
    diameter_mm: float
    centroid_index: tuple[float, ...]
    best_iou: float
    partner: int
    matched: tuple[bool, ...]


@dataclass(frozen=True)
class LesionMatch:
    """Lesions of one case and label on both sides; ``k`` is the position of a threshold in `IOU_THRESHOLDS`.

    Attributes:
        references: lesions of the reference.
        predictions: lesions of the prediction.
        matched_ious: for each threshold, the IoU of every matched pair, in the order of the references.
    """

    references: tuple[Lesion, ...]
    predictions: tuple[Lesion, ...]
    matched_ious: tuple[tuple[float, ...], ...]

    def true_positives(self, k: int) -> int:
        return len(self.matched_ious[k])

    def false_positives(self, k: int) -> int:
        return len(self.predictions) - self.true_positives(k)

    def false_negatives(self, k: int) -> int:
        return len(self.references) - self.true_positives(k)

    def precision(self, k: int) -> float:
        """Share of the predictions that match; NaN without predictions."""
        return _ratio(self.true_positives(k), len(self.predictions))

    def recall(self, k: int) -> float:
        """Share of the references that are found; NaN without references."""
        return _ratio(self.true_positives(k), len(self.references))

    def f1(self, k: int) -> float:
        """2 TP / (2 TP + FP + FN); NaN when both sides are empty."""
        return dice_of(Overlap(self.true_positives(k), self.false_positives(k), self.false_negatives(k)))

    @property
    def lesion_dice(self) -> float:
        """Dice of the matched pairs, summed, over references plus false positives; NaN when both sides are empty.

        The lesion-wise Dice of BraTS 2023 for one-to-one matches at IoU above 0: a missed or an invented lesion
        counts 0. BraTS also dilates the reference before it labels components and drops tiny ones; this does not.
        """
        total = sum(2 * iou / (1 + iou) for iou in self.matched_ious[0])
        return _ratio(total, len(self.references) + self.false_positives(0))

    @property
    def panoptic_quality(self) -> float:
        """IoU of the pairs above 0.5, summed, over TP + FP / 2 + FN / 2; NaN when both sides are empty.

        Source:
            Kirillov et al. 2019, "Panoptic segmentation".
        """
        k = IOU_THRESHOLDS.index(0.5)
        return _ratio(sum(self.matched_ious[k]), (len(self.predictions) + len(self.references)) / 2)


@dataclass(frozen=True)
class Detection:
    """Lesions counted over cases; ratios are NaN where their denominator is 0."""

    num_cases: int
    n_reference: int
    n_prediction: int
    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float
    false_positives_per_case: float


@dataclass(frozen=True)
class VolumeRecall:
    """Found references of one bin of volumes; recall is NaN without references."""

    volume_bin: str
    n_reference: int
    tp: int
    recall: float


def label_components(mask: Any, connectivity: int) -> tuple[Any, int]:
    """Label the connected components of a mask.

    Args:
        mask: (*spatial) bool, 2D or 3D; not modified.
        connectivity: 26 (faces, edges and corners) or 6 (faces); in 2D these mean 8 and 4 neighbours.
    Returns:
        labels (*spatial) int32, 0 is background, and the number of components.
    Raises:
        ValueError: the mask is not bool or not 2D or 3D, or another connectivity.
    Example:
        >>> [label_components(np.eye(3, dtype=bool), connectivity)[1] for connectivity in (26, 6)]
        [1, 3]
    """
    mask = require_mask("label_components", "mask", mask)
    if connectivity not in CONNECTIVITIES:
        raise ValueError(wrong("label_components", "connectivity", "26 or 6", connectivity))
    labels, box = np.zeros(mask.shape, np.int32), bounding_box(mask)
    if box is None:
        return labels, 0
    neighbours: Any = connectivity if mask.ndim == 3 else CONNECTIVITIES[connectivity]
    # A copy, because cc3d refuses read-only arrays; in C order, so that the numbers do not depend on the layout.
    part = np.array(mask[box], order="C")
    found, count = cc3d.connected_components(part, connectivity=neighbours, return_N=True)
    labels[box] = found
    return labels, int(count)


def match_lesions(
    prediction: Any, reference: Any, spacing_mm: Any, *, connectivity: int, slice_axis: int
) -> LesionMatch:
    """Find the lesions of two masks and match them one to one.

    At each threshold the match has as many pairs with an IoU above it as possible, and among those the largest sum of
    IoU. Above 0.5 no lesion can have two candidates.

    One to one means that several reference lesions which one prediction covers count as one found and the others
    missed; likewise a reference lesion that is predicted in pieces leaves all pieces but one as false positives.
    With 26 neighbours, lesions that touch at a corner are one lesion.

    Args:
        prediction: (*spatial) bool, 2D or 3D; not modified.
        reference: same shape, bool; not modified.
        spacing_mm: (axis,) voxel spacing in array-axis order, or (axis, axis) steps in mm of a sheared grid, one per
            column; see `require_spacing`.
        connectivity: 26 or 6, see `label_components`.
        slice_axis: array axis across the slices, for the axial diameter; not used in 2D. In 2D a voxel is a pixel
            of 1 mm thickness.
    Returns:
        The lesions of both sides; a side is empty when its mask is.
    Raises:
        ValueError: masks are not bool, shapes differ, or spacing, axis or connectivity do not fit.
    """
    prediction = require_mask("match_lesions", "prediction", prediction)
    reference = require_mask("match_lesions", "reference", reference)
    if prediction.shape != reference.shape:
        expected = f"of the reference's shape {reference.shape}"
        raise ValueError(wrong("match_lesions", "prediction", expected, prediction.shape))
    spacing = require_spacing("match_lesions", spacing_mm, prediction.ndim)
    box = union_box(prediction, reference)
    sides = [label_components(mask[box], connectivity) for mask in (prediction, reference)]
    tables = [_measure(labels, count, box, spacing, slice_axis) for labels, count in sides]
    pairs = _overlapping_pairs(sides, [table[0] for table in tables])
    chosen = [pairs[:, _match_above(pairs, threshold)] for threshold in IOU_THRESHOLDS]
    predictions, references = (_lesions(table, pairs, chosen, side) for side, table in enumerate(tables))
    return LesionMatch(references, predictions, tuple(tuple(match[2].tolist()) for match in chosen))


def count_detection(matches: Sequence[LesionMatch], k: int) -> Detection:
    """Pool the matches of several cases at one threshold.

    Args:
        matches: one per case, cases without a lesion included.
        k: position of the threshold in `IOU_THRESHOLDS`.
    """
    n_reference = sum(len(match.references) for match in matches)
    n_prediction = sum(len(match.predictions) for match in matches)
    tp = sum(match.true_positives(k) for match in matches)
    return Detection(
        num_cases=len(matches),
        n_reference=n_reference,
        n_prediction=n_prediction,
        tp=tp,
        fp=n_prediction - tp,
        fn=n_reference - tp,
        precision=_ratio(tp, n_prediction),
        recall=_ratio(tp, n_reference),
        f1=dice_of(Overlap(tp, n_prediction - tp, n_reference - tp)),
        false_positives_per_case=_ratio(n_prediction - tp, len(matches)),
    )


def recall_by_volume(matches: Sequence[LesionMatch], k: int) -> list[VolumeRecall]:
    """Pool the found references of several cases by their volume; a lesion of exactly 0.5 mL is in "0.5-2 mL"."""
    lesions = [lesion for match in matches for lesion in match.references]
    # Spacings on disk are often in single precision: 500 voxels of 1 mm3 may fall short of 0.5 mL by 1e-8.
    volumes_ml = np.array([lesion.volume_ml for lesion in lesions]) * (1 + 1e-6)
    bins = np.digitize(volumes_ml, VOLUME_BINS_ML)
    found = np.array([lesion.matched[k] for lesion in lesions], dtype=bool)
    counts = [(int((bins == b).sum()), int(found[bins == b].sum())) for b in range(len(VOLUME_BIN_NAMES))]
    return [VolumeRecall(name, n, tp, _ratio(tp, n)) for name, (n, tp) in zip(VOLUME_BIN_NAMES, counts, strict=True)]


def _measure(labels: Any, count: int, box: Box, spacing: Any, slice_axis: int) -> tuple[Any, Any, Any, Any]:
    """Voxels, volume in mL, diameter in mm and centroid of every label, in arrays with one row per label."""
    diameter_mm = longest_diameters_mm(labels, count, spacing, slice_axis)
    if not count:
        return np.zeros(0, np.int64), np.zeros(0), diameter_mm, np.zeros((0, len(box)))
    found = cc3d.statistics(labels, no_slice_conversion=True)
    voxels = found["voxel_counts"][1:].astype(np.int64)
    centroid = found["centroids"][1:] + [side.start for side in box]
    return voxels, voxels * (cell_size(spacing) / 1000), diameter_mm, centroid


def _overlapping_pairs(sides: Sequence[tuple[Any, int]], voxels: Sequence[Any]) -> Any:
    """Pairs of lesions that share voxels: (3, pair) float64 prediction number, reference number, IoU."""
    (prediction, num_predictions), (reference, num_references) = sides
    both = np.flatnonzero((prediction != 0) & (reference != 0))
    width = num_references + 1
    # One whole number per pair, in int64: the product of two numbers of lesions may exceed 32 bits.
    key = prediction.ravel()[both].astype(np.int64) * width + reference.ravel()[both]
    # A full table only where it is no larger than the voxels it counts.
    if (num_predictions + 1) * width <= max(key.size, 1024):
        table = np.bincount(key)
        pair = np.flatnonzero(table)
        shared = table[pair]
    else:
        pair, shared = np.unique(key, return_counts=True)
    p, r = np.divmod(pair, width)
    return np.stack([p, r, shared / (voxels[0][p - 1] + voxels[1][r - 1] - shared)])


def _match_above(pairs: Any, threshold: float) -> Any:
    """Positions of the pairs of the best one-to-one match above a threshold, in the order of the references."""
    # Strictly above: at IoU > 0 lesions must share a voxel, and above 0.5 no lesion has two candidates.
    above = np.flatnonzero(pairs[2] > threshold)
    above = above[_contenders(pairs[:, above])]
    if not above.size:
        return above
    p, r = (np.unique(pairs[side, above], return_inverse=True)[1] for side in (0, 1))
    size = len(above)
    graph = coo_array((np.ones(size), (p, size + r)), shape=(2 * size, 2 * size))
    # The assignment takes the cube of its size; groups that share no lesion are solved by themselves, most of one pair.
    group = connected_components(graph, directed=False)[1][p]
    order = np.argsort(group, kind="stable")
    chosen = []
    for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        chosen.append(part if len(part) == 1 else part[_assign(p[part], r[part], pairs[2, above[part]])])
    match = above[np.concatenate(chosen)]
    # Sums of IoU are taken in this order, whatever order the groups were solved in.
    return match[np.argsort(pairs[1, match], kind="stable")]


def _contenders(pairs: Any) -> Any:
    """Pairs that a best match may need: of the lesions that overlap only one and the same lesion, the best.

    Thousands of specks in one organ would otherwise make the table of the assignment large.
    """
    keep = np.ones(pairs.shape[1], dtype=bool)
    for mine, other in ((0, 1), (1, 0)):
        _, place, degree = np.unique(pairs[mine], return_inverse=True, return_counts=True)
        single = np.flatnonzero(degree[place] == 1)
        # Ties by the number of the lesion, so that the choice does not hang on the order of the pairs.
        ranked = single[np.lexsort((pairs[mine, single], -pairs[2, single], pairs[other, single]))]
        best = ranked[np.unique(pairs[other, ranked], return_index=True)[1]]
        keep[np.setdiff1d(single, best)] = False
    return np.flatnonzero(keep)


def _assign(p: Any, r: Any, iou: Any) -> Any:
    """Positions of the pairs that match as many lesions as possible, then with the largest sum of IoU."""
    rows, columns = (np.unique(side, return_inverse=True)[1] for side in (p, r))
    # One pair more always outweighs every gain in IoU.
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    table[rows, columns] = min(table.shape) + 1 + iou
    picked = np.zeros(table.shape, dtype=bool)
    picked[linear_sum_assignment(table, maximize=True)] = True
    return np.flatnonzero(picked[rows, columns])


def _lesions(table: tuple[Any, Any, Any, Any], pairs: Any, chosen: Sequence[Any], side: int) -> tuple[Lesion, ...]:
    voxels, volume_ml, diameter_mm, centroid = table
    best, partner = np.zeros(len(voxels)), np.zeros(len(voxels), np.int64)
    mine, other = pairs[side].astype(np.int64) - 1, pairs[1 - side].astype(np.int64)
    # The last to write wins: the largest IoU, and of equals the smallest number.
    order = np.lexsort((-other, pairs[2]))
    best[mine[order]], partner[mine[order]] = pairs[2, order], other[order]
    matched = np.zeros((len(voxels), len(IOU_THRESHOLDS)), dtype=bool)
    for k, match in enumerate(chosen):
        matched[match[side].astype(np.int64) - 1, k] = True
    columns = (voxels, volume_ml, diameter_mm, centroid, best, partner, matched)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(
        Lesion(number, size, volume, diameter, tuple(centre), iou, other_number, tuple(found))
        for number, (size, volume, diameter, centre, iou, other_number, found) in enumerate(rows, start=1)
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else nan
