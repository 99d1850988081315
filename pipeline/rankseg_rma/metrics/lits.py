"""The scores of the LiTS challenge as its official script computes them, and a corrected column beside each oddity.

What is odd about the script is kept in the official columns on purpose: they compare with published numbers.

Source:
    The public script, PatrickChrist/lits-challenge-scoring; Bilic et al. 2023, "The Liver Tumor Segmentation Benchmark
    (LiTS)".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import isnan, nan, sqrt
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from rankseg_rma.checks import wrong
from rankseg_rma.metrics.masks import as_label_map, union_box
from rankseg_rma.metrics.overlap import Overlap, dice_of
from rankseg_rma.metrics.spacing import place_points, require_spacing

DETECTION_IOU = (0.0, 0.5)
# The script's stand-in for what is not defined.
PENALTY = 9001.0
MISSING_OBJECT = {"dice": 0.0, "jaccard": 0.0, "voe": 1.0} | dict.fromkeys(("rvd", "assd", "rmsd", "msd"), PENALTY)


@dataclass(frozen=True)
class LitsObject:
    """A predicted object against its reference: lesions that belong together, or the liver.

    Attributes:
        counts: voxels of agreement.
        assd_mm, rmsd_mm, msd_mm: mean, root mean square and maximum of the surface distances of both directions
            pooled; NaN when a side is empty.
    """

    counts: Overlap
    assd_mm: float
    rmsd_mm: float
    msd_mm: float

    def official_scores(self) -> dict[str, float]:
        """Scores by the script's names; its volume difference is signed and relative to the prediction."""
        if not self.counts.num_prediction:
            return MISSING_OBJECT
        difference = self.counts.num_reference - self.counts.num_prediction
        return self.corrected_scores() | {"rvd": difference / self.counts.num_prediction}

    def corrected_scores(self) -> dict[str, float]:
        """As `official_scores`, with the volume difference relative to the reference and NaN for no distance."""
        dice = dice_of(self.counts)
        # Not from the counts: published figures carry the last bits of the script's own order.
        jaccard = dice / (2 - dice)
        rvd = (self.counts.num_prediction - self.counts.num_reference) / self.counts.num_reference
        scores = (dice, jaccard, 1 - jaccard, rvd, self.assd_mm, self.rmsd_mm, self.msd_mm)
        return dict(zip(MISSING_OBJECT, scores, strict=True))


@dataclass(frozen=True)
class LitsCase:
    """What the scores of a data set need to know of one case; pairs of counts are for IoU > 0 and IoU > 0.5.

    Attributes:
        num_references, num_predictions: 6-connected lesions of each side.
        true_positives: the script's counts; they can be negative.
        found_references, found_predictions: lesions of each side that are linked with enough IoU.
        lesions: objects that the script takes for detected at IoU > 0.5 and averages.
        lesions_corrected: objects whose IoU is above 0.5.
        tumour: the tumour mask as a whole.
        liver: the liver, tumours included.
        has_liver_label: whether the prediction has a voxel of the liver's own label.
    """

    num_references: int
    num_predictions: int
    true_positives: tuple[int, int]
    found_references: tuple[int, int]
    found_predictions: tuple[int, int]
    lesions: tuple[LitsObject, ...]
    lesions_corrected: tuple[LitsObject, ...]
    tumour: Overlap
    liver: LitsObject
    has_liver_label: bool


@dataclass(frozen=True)
class _Link:
    """Predicted lesions that go to one (merged) reference lesion, by their numbers and sizes in voxels."""

    predictions: tuple[int, ...]
    references: tuple[int, ...]
    num_prediction: int
    num_reference: int


def score_lits_case(
    prediction_label_map: Any, reference_label_map: Any, spacing_mm: Any, *, liver: int = 1, tumour: int = 2
) -> LitsCase:
    """Count and measure one case for `summarise_lits`.

    Lesions are linked in the script's way: reference lesions that the same predicted lesion overlaps most are merged;
    then each predicted lesion goes to the one (merged) reference lesion that it overlaps most.

    Args:
        prediction_label_map: 3D integers in the array order of the file. Flipping an axis can change the official
            counts, because ties and one oddity of the script hang on the order of the lesions. (Beyond 255 reference
            lesions in a case the script also mixes up their numbers, which are 8 bits wide; this does not.)
        reference_label_map: same shape, integers.
        spacing_mm: (axis,) voxel spacing in array-axis order, or (axis, axis) steps in mm of a sheared grid, one per
            column; see `require_spacing`.
        liver: label of the liver; every label from it on counts as liver.
        tumour: label of the tumours, above that of the liver.
    Raises:
        ValueError: the arrays are no 3D label maps of one shape, or the reference has no liver: the tumour burden is
            not defined then, and the script stops.
    """
    prediction = as_label_map("prediction_label_map", prediction_label_map)
    reference = as_label_map("reference_label_map", reference_label_map)
    if prediction.shape != reference.shape or prediction.ndim != 3:
        expected, got = "3D label maps of one shape", f"{prediction.shape} and {reference.shape}"
        raise ValueError(wrong("score_lits_case", "prediction and reference", expected, got))
    if not 0 < liver < tumour:
        raise ValueError(wrong("score_lits_case", "labels", "0 < liver < tumour", f"{liver} and {tumour}"))
    organs = [label_map >= liver for label_map in (prediction, reference)]
    if not organs[1].any():
        raise ValueError(
            wrong("score_lits_case", "reference_label_map", f"with liver (label {liver} and above)", "none")
        )
    box, spacing = union_box(*organs), require_spacing("score_lits_case", spacing_mm, 3)
    # Labelled as in the script, because the numbers matter; a box around everything keeps them.
    tumours = [label_map[box] == tumour for label_map in (prediction, reference)]
    return LitsCase(
        **_score_lesions(tumours, spacing),
        tumour=_count(*tumours),
        liver=_compare(organs[0][box], organs[1][box], spacing),
        has_liver_label=bool((prediction[box] == liver).any()),
    )


def summarise_lits(cases: Sequence[LitsCase]) -> dict[str, float]:
    """Scores of a data set: the script's names, and ``<name>_corrected`` where its definition is odd.

    Official, on purpose:

    - ``lesion_precision`` and ``lesion_recall`` (IoU > 0.5; ``_greater_zero``: IoU > 0) pool TP over the cases. A
      merged reference lesion adds one TP when found, but takes one away per member when not. The IoU divides by the
      reference united with the predictions of *another* lesion, or none, unless numbers agree by chance.
    - ``lesion_dice`` to ``lesion_msd`` are means over the lesions found at IoU > 0.5, merged ones counting once; a
      case whose TP is not positive is left out. Without any found lesion they are 0, 1 (VOE) or 9001.
    - ``rvd`` is signed and relative to the prediction: 500 voxels predicted as 800 give -0.375.
    - A prediction without the liver's own label has liver Dice 0, distances 9001 and a tumour burden of 9001.
    - ``MAXERROR_Tumorburden`` is the largest signed difference, reference minus prediction.

    Corrected: precision is the share of predicted, recall of reference lesions that are linked with a true IoU above
    the threshold, all members of a merged one included; means are over the lesions of that IoU; ``rvd`` is relative
    to the reference; the liver is every label from the liver's on; the burden's error is absolute. What is not
    defined is NaN, and left out of means: distances of, and burden without, a predicted liver (counted in
    ``num_cases_without_liver``).

    Args:
        cases: from `score_lits_case`, one per case.
    Raises:
        ValueError: no case.
    Source:
        Distances are between voxels of the 18-neighbourhood border, outside the volume being background.
    """
    if not cases:
        raise ValueError(wrong("summarise_lits", "cases", "at least one case", 0))
    scores = {**_detection(cases), **_lesion_scores(cases), **_liver_scores(cases), **_burden(cases)}
    without = sum(not case.liver.counts.num_prediction for case in cases)
    return scores | {"num_cases": float(len(cases)), "num_cases_without_liver": float(without)}


def _detection(cases: Sequence[LitsCase]) -> dict[str, float]:
    scores: dict[str, float] = {}
    num_references, num_predictions = sum(c.num_references for c in cases), sum(c.num_predictions for c in cases)
    for k, ending in ((1, ""), (0, "_greater_zero")):
        tp = sum(case.true_positives[k] for case in cases)
        found_predictions = sum(case.found_predictions[k] for case in cases)
        found_references = sum(case.found_references[k] for case in cases)
        scores |= {
            f"lesion_precision{ending}": tp / num_predictions if num_predictions else 0.0,
            f"lesion_precision{ending}_corrected": found_predictions / num_predictions if num_predictions else nan,
            f"lesion_recall{ending}": tp / num_references if num_references else 0.0,
            f"lesion_recall{ending}_corrected": found_references / num_references if num_references else nan,
        }
    return scores


def _lesion_scores(cases: Sequence[LitsCase]) -> dict[str, float]:
    official = [lesion.official_scores() for case in cases if case.true_positives[1] > 0 for lesion in case.lesions]
    corrected = [lesion.corrected_scores() for case in cases for lesion in case.lesions_corrected]
    return {
        **_side_by_side("lesion", official or [MISSING_OBJECT], corrected or [dict.fromkeys(MISSING_OBJECT, nan)]),
        "lesion_dice_per_case": _mean(_dice(case.tumour, both_empty=1.0) for case in cases),
        "lesion_dice_global": _dice(_pool([case.tumour for case in cases]), both_empty=nan),
    }


def _liver_scores(cases: Sequence[LitsCase]) -> dict[str, float]:
    official = [case.liver.official_scores() if case.has_liver_label else MISSING_OBJECT for case in cases]
    corrected = [case.liver.corrected_scores() for case in cases]
    counts = [case.liver.counts for case in cases]
    seen = [
        part if case.has_liver_label else Overlap(0, 0, part.num_reference)
        for part, case in zip(counts, cases, strict=True)
    ]
    return {
        **_side_by_side("liver", official, corrected),
        "liver_dice_per_case": _mean(score["dice"] for score in official),
        "liver_dice_per_case_corrected": _mean(score["dice"] for score in corrected),
        "liver_dice_global": _dice(_pool(seen), both_empty=nan),
        "liver_dice_global_corrected": _dice(_pool(counts), both_empty=nan),
    }


def _burden(cases: Sequence[LitsCase]) -> dict[str, float]:
    official, corrected = [], []
    for case in cases:
        reference = case.tumour.num_reference / case.liver.counts.num_reference
        num_liver = case.liver.counts.num_prediction
        prediction = case.tumour.num_prediction / num_liver if num_liver else nan
        official.append(reference - (prediction if case.has_liver_label else PENALTY))
        corrected.append(reference - prediction)
    return {
        "RMSE_Tumorburden": sqrt(_mean(error**2 for error in official)),
        "RMSE_Tumorburden_corrected": sqrt(_mean(error**2 for error in corrected)),
        "MAXERROR_Tumorburden": max(official),
        "MAXERROR_Tumorburden_corrected": max((abs(error) for error in corrected if not isnan(error)), default=nan),
    }


def _side_by_side(
    prefix: str, official: Sequence[dict[str, float]], corrected: Sequence[dict[str, float]]
) -> dict[str, float]:
    means: dict[str, float] = {}
    for name in MISSING_OBJECT:
        means[f"{prefix}_{name}"] = _mean(scores[name] for scores in official)
        means[f"{prefix}_{name}_corrected"] = _mean(scores[name] for scores in corrected)
    return means


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not isnan(value)]
    return sum(defined) / len(defined) if defined else nan


def _pool(parts: Sequence[Overlap]) -> Overlap:
    return Overlap(*(sum(getattr(part, name) for part in parts) for name in ("tp", "fp", "fn")))


def _dice(counts: Overlap, both_empty: float) -> float:
    return both_empty if counts.status == "both_empty" else dice_of(counts)


def _score_lesions(tumours: Sequence[Any], spacing: Any) -> dict[str, Any]:
    """The fields of `LitsCase` that are about lesions."""
    (prediction, num_predictions), (reference, num_references) = (ndimage.label(mask) for mask in tumours)
    links, shared = _link_lesions(prediction, reference)
    sizes = np.array([[link.num_prediction, link.num_reference] for link in links]).reshape(-1, 2)
    iou = shared.diagonal() / (sizes.sum(axis=1) - shared.diagonal())
    found = [np.flatnonzero(iou > threshold) for threshold in DETECTION_IOU]
    official = [_detect_by_script(links, shared, threshold) for threshold in DETECTION_IOU]
    wanted = sorted({*official[1][1], *found[1].tolist()})
    measured = _compare_links(prediction, reference, links, wanted, spacing)
    return {
        "num_references": num_references,
        "num_predictions": num_predictions,
        "true_positives": (official[0][0], official[1][0]),
        "found_references": tuple(sum(len(links[k].references) for k in part) for part in found),
        "found_predictions": tuple(sum(len(links[k].predictions) for k in part) for part in found),
        "lesions": tuple(measured[k] for k in official[1][1]),
        "lesions_corrected": tuple(measured[k] for k in found[1].tolist()),
    }


def _link_lesions(prediction: Any, reference: Any) -> tuple[list[_Link], Any]:
    """Link numbered lesions; see `score_lits_case`.

    Returns:
        The links, by their first prediction; and (link, link) int64 voxels that the predictions of the first share
        with the references of the second.
    """
    both = (prediction > 0) & (reference > 0)
    p_numbers, p = np.unique(prediction[both], return_inverse=True)
    r_numbers, r = np.unique(reference[both], return_inverse=True)
    if not p.size:
        return [], np.zeros((0, 0), np.int64)
    width = len(r_numbers)
    table = np.bincount(p * width + r, minlength=len(p_numbers) * width).reshape(-1, width)
    # References that one prediction overlaps most are merged, which keeps it their largest overlap.
    members = _positions_by_value(table.argmax(axis=0))
    table = np.stack([table[:, columns].sum(axis=1) for columns in members], axis=1)
    # Of equal overlaps the first, as in the script: its counts hang on it.
    best = table.argmax(axis=1)
    followers = _positions_by_value(best)
    columns = [int(best[rows[0]]) for rows in followers]
    p_voxels, r_voxels = np.bincount(prediction.ravel()), np.bincount(reference.ravel())
    links = []
    for rows, column in zip(followers, columns, strict=True):
        predictions, references = p_numbers[rows], r_numbers[members[column]]
        sizes = int(p_voxels[predictions].sum()), int(r_voxels[references].sum())
        links.append(_Link(tuple(predictions.tolist()), tuple(references.tolist()), *sizes))
    return links, np.stack([table[rows].sum(axis=0)[columns] for rows in followers])


def _positions_by_value(values: Any) -> list[list[int]]:
    """Positions of equal values, in the order in which the values come up."""
    positions: dict[int, list[int]] = {}
    for position, value in enumerate(values.tolist()):
        positions.setdefault(value, []).append(position)
    return list(positions.values())


def _detect_by_script(links: Sequence[_Link], shared: Any, threshold: float) -> tuple[int, list[int]]:
    """The script's number of detected lesions at a threshold, and the links that it keeps.

    Predictions carry the number of their reference by then, but are looked up by their own number: the union is with
    the predictions of the reference lesion of that number, if it is still there.
    """
    kept = {link.references[0]: k for k, link in enumerate(links)}
    num_detected = len(links)
    for k, link in enumerate(links):
        other = kept.get(link.predictions[0])
        union = link.num_reference
        if other is not None:
            union += links[other].num_prediction - int(shared[other, k])
        if shared[k, k] / union <= threshold:
            del kept[link.references[0]]
            num_detected -= len(link.references)
    return num_detected, list(kept.values())


def _compare_links(
    prediction: Any, reference: Any, links: Sequence[_Link], wanted: Sequence[int], spacing: Any
) -> dict[int, LitsObject]:
    """Measure the wanted links, each in its own box."""
    numbered = []
    for labels, side in ((prediction, "predictions"), (reference, "references")):
        number = np.zeros(labels.max(initial=0) + 1, np.int32)
        for k in wanted:
            number[list(getattr(links[k], side))] = k + 1
        numbered.append(number[labels])
    # A box per link: none needs masks of the whole volume.
    boxes = [ndimage.find_objects(labels) for labels in numbered]
    measured = {}
    for k in wanted:
        sides = zip(boxes[0][k], boxes[1][k], strict=True)
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in sides)
        measured[k] = _compare(numbered[0][box] == k + 1, numbered[1][box] == k + 1, spacing)
    return measured


def _compare(prediction: Any, reference: Any, spacing: Any) -> LitsObject:
    """Counts and surface distances of two bool masks, outside of which is background."""
    counts = _count(prediction, reference)
    if not (counts.num_prediction and counts.num_reference):
        return LitsObject(counts, nan, nan, nan)
    surfaces = [place_points(np.argwhere(_border(mask)), spacing) for mask in (prediction, reference)]
    pooled = np.concatenate(
        [cKDTree(surfaces[k], balanced_tree=False).query(surfaces[1 - k], workers=1)[0] for k in (0, 1)]
    )
    return LitsObject(counts, float(pooled.mean()), sqrt(float((pooled**2).mean())), float(pooled.max()))


def _border(mask: Any) -> Any:
    """Voxels of a 3D mask with a background voxel among the 18 neighbours that share a face or an edge."""
    padded, inner = np.pad(mask, 1), mask.copy()
    for steps in product(range(3), repeat=3):
        if 0 < sum(step != 1 for step in steps) < 3:
            inner &= padded[tuple(slice(k, k + size) for k, size in zip(steps, mask.shape, strict=True))]
    return mask & ~inner


def _count(prediction: Any, reference: Any) -> Overlap:
    tp, num_prediction, num_reference = (
        int(np.count_nonzero(mask)) for mask in (prediction & reference, prediction, reference)
    )
    return Overlap(tp=tp, fp=num_prediction - tp, fn=num_reference - tp)
