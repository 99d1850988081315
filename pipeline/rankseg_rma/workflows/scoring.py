"""Scoring of one case: files in, tidy rows out. Runs in worker processes, so everything here can be pickled."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.evaluation import (
    IOU_THRESHOLDS,
    LesionMatch,
    Measured,
    Overlap,
    as_label_map,
    count_pairs,
    list_metrics,
    match_lesions,
    measure_distances,
    recist_sum_mm,
    surface_dice,
)
from rankseg_rma.evaluation.calibration import CalibrationCounts, count_calibration
from rankseg_rma.evaluation.lits import LitsCase, score_lits_case
from rankseg_rma.volumes import find_slice_axis, read_volume, same_grid, spacing_of, voxel_volume_ml
from rankseg_rma.workflows.outcome import describe_failure

_NO_LESIONS = LesionMatch((), (), ((),) * len(IOU_THRESHOLDS))


@dataclass(frozen=True)
class Structure:
    """A label, or a region of several labels, that is scored as one mask.

    Attributes:
        key: "2", or "1+2+3" for a region; the column ``label``.
        name: the column ``label_name``.
        members: labels that make it up.
        is_lesion: its connected components are lesions.
        tolerances_mm: tolerances of surface Dice.
    """

    key: str
    name: str
    members: tuple[int, ...]
    is_lesion: bool
    tolerances_mm: tuple[float, ...]


@dataclass(frozen=True)
class ScorePlan:
    """What is scored of every case.

    Attributes:
        structures: labels and regions; None scores every label that occurs, under its number.
        known: labels that a file may hold; None allows all.
        tolerances_mm: tolerances of surface Dice where ``structures`` is None.
        groups: metric groups, see `Metric.group`.
        empty_policy: key of `EMPTY_POLICIES`.
        slice_axis: plane or array axis of the slices; slices are scored when "slice" is among the groups.
        edge_is_inside: a mask has no surface where it touches the volume's edge.
        connectivity: 26 or 6, of lesions.
        organ: labels of the organ that the lesions lie in, for the tumour burden; may be empty.
        areas_mm2: surface area of each of the 256 neighbourhood codes, by spacing in mm; see `surface_dice`.
        lits: also score as the LiTS challenge does.
    """

    structures: tuple[Structure, ...] | None
    known: frozenset[int] | None
    tolerances_mm: tuple[float, ...]
    groups: tuple[str, ...]
    empty_policy: str
    slice_axis: str | int
    edge_is_inside: bool
    connectivity: int
    organ: tuple[int, ...]
    areas_mm2: Mapping[tuple[float, ...], Any] = field(repr=False)
    lits: bool


@dataclass(frozen=True)
class CaseFiles:
    """Files of a case: the reference, a prediction per decoder, and its probabilities where they are judged too."""

    case_id: str
    reference: Path
    predictions: Mapping[str, Path]
    probabilities: Path | None
    temperature: float | None


@dataclass
class CaseScores:
    """Everything that one case adds to the tables; ``failed`` gives the reason per decoder."""

    case_id: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    slices: list[dict[str, Any]] = field(default_factory=list)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    matches: dict[tuple[str, str], LesionMatch] = field(default_factory=dict)
    empty_references: list[dict[str, Any]] = field(default_factory=list)
    burden: list[dict[str, Any]] = field(default_factory=list)
    lits: dict[str, LitsCase] = field(default_factory=dict)
    calibration: dict[str, CalibrationCounts] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    geometry: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelMap:
    """Labels (*spatial) of one file, with its affine and path."""

    array: Any
    affine: Any
    path: Path


def score_case(files: CaseFiles, plan: ScorePlan) -> CaseScores:
    """Score every decoder's mask of a case against the reference, read once. Faults are returned, not raised."""
    scores = CaseScores(files.case_id)
    try:
        reference = _read_labels(files.reference, "reference")
        scores.sha256["reference"] = _sha256(files.reference)
    except Exception as error:
        reason = describe_failure(error, files.reference)
        scores.failed = dict.fromkeys(files.predictions, reason)
        return scores
    for decoder, path in files.predictions.items():
        try:
            prediction = _read_labels(path, "prediction")
            _require_same_grid(prediction, reference)
            score_decoder(scores, decoder, prediction, reference, plan)
            scores.sha256[decoder] = _sha256(path)
        except Exception as error:  # one bad file must not cost the cohort
            scores.failed[decoder] = describe_failure(error, path)
    if files.probabilities is not None:
        try:
            _judge_probabilities(scores, files, reference)
        except Exception as error:
            scores.failed["probabilities"] = describe_failure(error, files.probabilities)
    return scores


def absent_rows(scores: CaseScores, decoder: str, structures: Sequence[Structure], plan: ScorePlan) -> None:
    """Add the rows of labels that neither mask of a case holds, which nothing needs to be read for."""
    empty = Overlap(0, 0, 0)
    for structure in structures:
        slices = [empty] * scores.geometry["num_slices"] if "slice" in plan.groups else []
        lesions = _NO_LESIONS if structure.is_lesion and "lesion" in plan.groups else None
        recist = (0.0, 0.0) if lesions else None
        measured = Measured(empty, scores.geometry["voxel_ml"], slices, None, {}, lesions, recist)
        _add_rows(scores, decoder, structure, measured, plan)


def _read_labels(path: Path, argument: str) -> LabelMap:
    """Read a label map; a single trailing channel is dropped."""
    volume = read_volume(path)
    array = as_label_map(f"{argument} {path}", volume.array)
    array = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
    if array.ndim != 3:
        raise ValueError(wrong("evaluate", argument, "a label map of 3 axes", array.shape, path=path))
    return LabelMap(array, volume.affine, path)


def _require_same_grid(prediction: LabelMap, reference: LabelMap) -> None:
    difference = same_grid(prediction.array.shape, prediction.affine, reference.array.shape, reference.affine)
    if difference:
        advice = "Resample neither: write masks on the image's own grid."
        expected, got = "on the reference's grid", f"a difference in {difference}"
        raise ValueError(wrong("evaluate", "prediction", expected, got, path=prediction.path, advice=advice))


def _require_known(pairs: Any, known: frozenset[int] | None, prediction: LabelMap, reference: LabelMap) -> None:
    if known is None:
        return
    total = pairs.tables.sum(axis=0)
    for argument, counts, path in (
        ("reference", total.sum(axis=1), reference.path),
        ("prediction", total.sum(axis=0), prediction.path),
    ):
        strange = [value for value, count in zip(pairs.values, counts, strict=True) if count and value not in known]
        strange = [value for value in strange if value]
        if strange:
            expected, got = f"of labels 0, {', '.join(map(str, sorted(known)))}", ", ".join(map(str, strange))
            advice = "Name the data set with --dataset, or leave it out to score every label."
            raise ValueError(wrong("evaluate", argument, expected, got, path=path, advice=advice))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def score_decoder(scores: CaseScores, decoder: str, prediction: LabelMap, reference: LabelMap, plan: ScorePlan) -> None:
    """Add the rows of one mask to those of its case; both maps lie on one grid."""
    axis = find_slice_axis(reference.affine, plan.slice_axis)
    spacing_mm, voxel_ml = spacing_of(reference.affine), voxel_volume_ml(reference.affine)
    scores.geometry = {
        "spacing_mm": spacing_mm, "voxel_ml": voxel_ml, "num_slices": reference.array.shape[axis],
        "num_voxels": reference.array.size,
    }  # fmt: skip
    pairs = count_pairs(prediction.array, reference.array, axis if "slice" in plan.groups else None)
    _require_known(pairs, plan.known, prediction, reference)
    structures = plan.structures
    if structures is None:
        structures = tuple(Structure(str(v), str(v), (v,), True, plan.tolerances_mm) for v in pairs.present)
    box = _foreground_box(prediction.array, reference.array)
    arrays = prediction.array[box], reference.array[box]
    if plan.lits:  # first, since it refuses a reference without liver
        scores.lits[decoder] = score_lits_case(*arrays, spacing_mm)
    for structure in structures:
        units = pairs.overlaps(structure.members)
        overlap = sum(units, start=Overlap(0, 0, 0))
        measured = Measured(overlap, voxel_ml, units if "slice" in plan.groups else ())
        if overlap.status != "both_empty":
            measured = _measure(measured, structure, arrays, box, reference.affine, axis, plan, scores, decoder)
        elif structure.is_lesion and "lesion" in plan.groups:
            measured = replace(measured, lesions=_NO_LESIONS, recist_mm=(0.0, 0.0))
        _add_rows(scores, decoder, structure, measured, plan)
        if structure.is_lesion and plan.organ:
            _add_burden(scores, decoder, structure, overlap, pairs, plan.organ)


def _add_burden(
    scores: CaseScores, decoder: str, structure: Structure, lesions: Overlap, pairs: Any, organ: tuple[int, ...]
) -> None:
    """Share of the organ, lesions included, that the lesions take up."""
    whole = sum(pairs.overlaps({*organ, *structure.members}), start=Overlap(0, 0, 0))
    reference = lesions.num_reference / whole.num_reference if whole.num_reference else nan
    prediction = lesions.num_prediction / whole.num_prediction if whole.num_prediction else nan
    scores.burden.append({
        "case_id": scores.case_id, "label": structure.key, "label_name": structure.name, "decoder": decoder,
        "organ_reference_voxels": whole.num_reference, "organ_prediction_voxels": whole.num_prediction,
        "burden_reference": reference, "burden_prediction": prediction, "burden_difference": prediction - reference,
    })  # fmt: skip


def _foreground_box(prediction: Any, reference: Any) -> tuple[slice, ...]:
    """A box around every voxel above 0 of both maps, with a margin of a voxel where the volume has one.

    So a mask touches the box's edge only where it touches the volume's.
    """
    box = []
    for axis in range(prediction.ndim):
        others = tuple(other for other in range(prediction.ndim) if other != axis)
        hit = np.flatnonzero(prediction.max(axis=others) | reference.max(axis=others))
        box.append(slice(max(int(hit[0]) - 1, 0), int(hit[-1]) + 2) if hit.size else slice(0, 1))
    return tuple(box)


def _measure(
    measured: Measured,
    structure: Structure,
    arrays: tuple[Any, Any],
    box: tuple[slice, ...],
    affine: Any,
    axis: int,
    plan: ScorePlan,
    scores: CaseScores,
    decoder: str,
) -> Measured:
    """Add surface and lesions to the counts of a structure that is not empty in both masks."""
    spacing_mm, status = spacing_of(affine), measured.overlap.status
    prediction, reference = (np.isin(array, structure.members) for array in arrays)
    if status == "ok" and "surface" in plan.groups:
        measured = replace(
            measured,
            surface=measure_distances(prediction, reference, spacing_mm, outside_is_foreground=plan.edge_is_inside),
        )
        if structure.tolerances_mm:
            areas = plan.areas_mm2[spacing_mm]
            values = surface_dice(prediction, reference, spacing_mm, structure.tolerances_mm, areas)
            measured = replace(measured, surface_dice=dict(zip(structure.tolerances_mm, values, strict=True)))
    wanted = structure.is_lesion and "lesion" in plan.groups
    if not wanted and status != "reference_empty":
        return measured
    match = match_lesions(prediction, reference, spacing_mm, connectivity=plan.connectivity, slice_axis=axis)
    if status == "reference_empty":
        scores.empty_references.append({
            "case_id": scores.case_id, "label": structure.key, "label_name": structure.name, "decoder": decoder,
            "false_positive_voxels": measured.overlap.fp, "components": len(match.predictions),
            "false_positive_ml": measured.overlap.fp * measured.voxel_ml,
        })  # fmt: skip
    if not wanted:
        return measured
    scores.matches[decoder, structure.key] = match
    _add_lesion_rows(scores, decoder, structure, match, box, affine)
    sums = [
        recist_sum_mm([lesion.diameter_mm for lesion in side], [structure.key] * len(side))
        for side in (match.references, match.predictions)
    ]
    return replace(measured, lesions=match, recist_mm=(sums[0], sums[1]))


def _add_lesion_rows(
    scores: CaseScores, decoder: str, structure: Structure, match: LesionMatch, box: tuple[slice, ...], affine: Any
) -> None:
    corner = np.array([part.start for part in box])
    for side, lesions in (("reference", match.references), ("prediction", match.predictions)):
        for lesion in lesions:
            x, y, z = (affine @ [*(np.array(lesion.centroid_index) + corner), 1.0])[:3]
            row = {
                "case_id": scores.case_id, "label": structure.key, "label_name": structure.name, "decoder": decoder,
                "side": side, "lesion": lesion.number, "voxels": lesion.voxels, "volume_ml": lesion.volume_ml,
                "diameter_mm": lesion.diameter_mm, "x_mm": x, "y_mm": y, "z_mm": z,
                "best_iou": lesion.best_iou, "partner": lesion.partner,
            }  # fmt: skip
            matched = zip(IOU_THRESHOLDS, lesion.matched, strict=True)
            scores.lesions.append(row | {f"matched_{threshold:g}": int(value) for threshold, value in matched})


def _add_rows(scores: CaseScores, decoder: str, structure: Structure, measured: Measured, plan: ScorePlan) -> None:
    overlap, geometry = measured.overlap, scores.geometry
    spacing = {f"spacing_{k + 1}_mm": size for k, size in enumerate(geometry["spacing_mm"])}
    place = {"case_id": scores.case_id, "label": structure.key, "label_name": structure.name, "decoder": decoder}
    counts = {
        "tp": overlap.tp, "fp": overlap.fp, "fn": overlap.fn, "n_reference": overlap.num_reference,
        "n_prediction": overlap.num_prediction, "n_voxels": geometry["num_voxels"],
        "voxel_ml": geometry["voxel_ml"], **spacing,
    }  # fmt: skip
    for metric in list_metrics(plan.groups, structure.tolerances_mm):
        if metric.group in ("lesion", "size") and not structure.is_lesion:
            continue
        scores.rows.append({
            **place, "metric": metric.name, "value": metric.value(measured, plan.empty_policy), "unit": metric.unit,
            "status": overlap.status, "empty_policy": plan.empty_policy, **counts,
        })  # fmt: skip
    for number, part in enumerate(measured.slices if overlap.status != "both_empty" else ()):
        if part.num_reference or part.num_prediction:
            size = 2 * part.tp + part.fp + part.fn
            scores.slices.append({
                **place, "slice": number, "status": part.status, "tp": part.tp, "fp": part.fp, "fn": part.fn,
                "dice": 2 * part.tp / size, "iou": part.tp / (size - part.tp),
            })  # fmt: skip


def _judge_probabilities(scores: CaseScores, files: CaseFiles, reference: LabelMap) -> None:
    """Calibration of the probabilities as they are, and scaled by their temperature."""
    from rankseg_rma.probabilities import read_probabilities
    from rankseg_rma.transforms import ScaleTemperature

    assert files.probabilities is not None
    probabilities = read_probabilities(files.probabilities)
    difference = same_grid(probabilities.probs.shape[1:], probabilities.affine, reference.array.shape, reference.affine)
    if difference:
        expected, got = "on the reference's grid", f"a difference in {difference}"
        raise ValueError(wrong("evaluate", "probabilities", expected, got, path=files.probabilities))
    scores.calibration["none"] = count_calibration(probabilities.probs.numpy(), reference.array)
    if files.temperature is not None:
        scaled = ScaleTemperature(files.temperature)(probabilities.probs)
        scores.calibration["stored"] = count_calibration(np.asarray(scaled), reference.array)
