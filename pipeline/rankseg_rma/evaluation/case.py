"""Scoring of one case: files in, tidy rows out. Runs in worker processes, so everything here can be pickled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.evaluation.structures import CaseFiles, ScorePlan, Structure
from rankseg_rma.files.labels import LabelMap, read_labels
from rankseg_rma.files.writing import sha256_of
from rankseg_rma.grid import find_slice_axis, require_same_grid, shear_degrees, spacing_of, voxel_volume_ml
from rankseg_rma.metrics import (
    IOU_THRESHOLDS,
    LesionMatch,
    Measured,
    Overlap,
    count_pairs,
    list_metrics,
    match_lesions,
    measure_distances,
    recist_sum_mm,
    surface_dice,
)
from rankseg_rma.metrics.calibration import CalibrationCounts, count_calibration
from rankseg_rma.metrics.lits import LitsCase, score_lits_case
from rankseg_rma.metrics.masks import union_box
from rankseg_rma.metrics.overlap import dice_of, iou_of
from rankseg_rma.runs.outcome import describe_failure
from rankseg_rma.statistics.agreement import tumour_burden

_NO_LESIONS = LesionMatch((), (), ((),) * len(IOU_THRESHOLDS))


@dataclass
class ArmScores:
    """What one mask of a case adds to the tables.

    Attributes:
        rows, slices, lesions, empty_references, burden: rows of the CSV files.
        matches: lesions by label.
        lits: counts for the LiTS challenge, when they are wanted.
        organ: voxels of the organ.
        num_slices, num_voxels, spacing_mm, voxel_ml: the grid; shear_degrees: see `rankseg_rma.grid`.
        sha256: of the mask's file.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    slices: list[dict[str, Any]] = field(default_factory=list)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    empty_references: list[dict[str, Any]] = field(default_factory=list)
    burden: list[dict[str, Any]] = field(default_factory=list)
    matches: dict[str, LesionMatch] = field(default_factory=dict)
    lits: LitsCase | None = None
    organ: Overlap = field(default_factory=lambda: Overlap(0, 0, 0))
    num_slices: int = 0
    num_voxels: int = 0
    spacing_mm: tuple[float, ...] = ()
    voxel_ml: float = 0.0
    shear_degrees: float = 0.0
    sha256: str = ""


@dataclass
class CaseScores:
    """What a case adds to the tables: by decoder where all went well, else the reason in ``failed``.

    ``rounded`` are files whose labels were not quite whole numbers.
    """

    case_id: str
    arms: dict[str, ArmScores] = field(default_factory=dict)
    calibration: dict[str, CalibrationCounts] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reference_sha256: str = ""
    probabilities_sha256: str = ""
    rounded: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _View:
    """Both maps of a case around everything above 0, and what is asked of them."""

    prediction: Any
    reference: Any
    corner: Any
    affine: Any
    axis: int
    plan: ScorePlan

    @property
    def steps_mm(self) -> Any:
        """(3, 3) step along each array axis, one per column: distances follow it on sheared grids too."""
        return self.affine[:3, :3]


def score_case(files: CaseFiles, plan: ScorePlan) -> CaseScores:
    """Score every decoder's mask of a case against the reference, read once. Faults are returned, not raised."""
    scores = CaseScores(files.case_id)
    try:
        reference = read_labels(files.reference, "reference")
        scores.rounded += [files.reference] if reference.was_rounded else []
        scores.reference_sha256 = sha256_of(files.reference)
    except Exception as error:
        reason = describe_failure(error, files.reference)
        scores.failed = dict.fromkeys(files.predictions, reason)
        return scores
    for decoder, path in files.predictions.items():
        try:
            prediction = read_labels(path, "prediction")
            scores.rounded += [path] if prediction.was_rounded else []
            advice = "Resample neither: write masks on the image's own grid."
            array, affine = prediction.array, prediction.affine
            require_same_grid("evaluate", "prediction", array.shape, affine, reference, path, advice)
            arm = score_mask(prediction, reference, plan)
            arm.sha256 = sha256_of(path)
            scores.arms[decoder] = arm
        except Exception as error:  # one bad file must not cost the cohort
            scores.failed[decoder] = describe_failure(error, path)
    if files.probabilities is not None:
        try:
            scores.calibration = _judge_probabilities(files, reference)
            scores.probabilities_sha256 = sha256_of(files.probabilities)
        except Exception as error:
            scores.failed["probabilities"] = describe_failure(error, files.probabilities)
    return scores


def add_absent(arm: ArmScores, structures: Sequence[Structure], plan: ScorePlan) -> None:
    """Add the rows of labels that neither mask of a case holds, which nothing needs to be read for."""
    empty = Overlap(0, 0, 0)
    for structure in structures:
        slices = [empty] * arm.num_slices if "slice" in plan.groups else []
        _add_rows(arm, structure, _without_voxels(structure, slices, arm.voxel_ml, plan), plan)
        _add_burden(arm, structure, empty, arm.organ, plan)


def _require_known(pairs: Any, known: frozenset[int] | None, prediction: LabelMap, reference: LabelMap) -> None:
    if known is None:
        return
    total = pairs.tables.sum(axis=0)
    for argument, counts, path in (
        ("reference", total.sum(axis=1), reference.path),
        ("prediction", total.sum(axis=0), prediction.path),
    ):
        # The list runs up to the largest label, so some of its values may occur in neither map.
        strange = [value for value, count in zip(pairs.values, counts, strict=True) if count and value not in known]
        strange = [value for value in strange if value]
        if strange:
            expected, got = f"of labels 0, {', '.join(map(str, sorted(known)))}", ", ".join(map(str, strange))
            advice = "Name every label that may occur, or none to score all."
            raise ValueError(wrong("evaluate", argument, expected, got, path=path, advice=advice))


def score_mask(prediction: LabelMap, reference: LabelMap, plan: ScorePlan) -> ArmScores:
    """Rows of one mask; both maps lie on one grid."""
    axis = find_slice_axis(reference.affine, plan.slice_axis)
    pairs = count_pairs(prediction.array, reference.array, axis if "slice" in plan.groups else None)
    _require_known(pairs, plan.known, prediction, reference)
    # With a margin a mask touches the box only where it touches the volume, which `edge_is_inside` depends on.
    box = union_box(prediction.array, reference.array, margin=1)
    corner = np.array([part.start for part in box])
    view = _View(prediction.array[box], reference.array[box], corner, reference.affine, axis, plan)
    arm = ArmScores(
        num_slices=reference.array.shape[axis], num_voxels=reference.array.size, organ=_sum(pairs.overlaps(plan.organ)),
        spacing_mm=spacing_of(reference.affine), voxel_ml=voxel_volume_ml(reference.affine),
        shear_degrees=shear_degrees(reference.affine[:3, :3]),
    )  # fmt: skip
    if plan.lits:
        arm.lits = score_lits_case(view.prediction, view.reference, view.steps_mm)
    structures = plan.structures
    if structures is None:
        structures = tuple(Structure(str(v), str(v), (v,), True, plan.tolerances_mm) for v in pairs.present)
    for structure in structures:
        units = pairs.overlaps(structure.members)
        overlap, slices = _sum(units), units if "slice" in plan.groups else ()
        if overlap.status == "both_empty":
            measured = _without_voxels(structure, slices, arm.voxel_ml, plan)
        else:
            measured = _measure(Measured(overlap, arm.voxel_ml, slices), structure, view, arm)
        _add_rows(arm, structure, measured, plan)
        _add_burden(arm, structure, overlap, _sum(pairs.overlaps({*plan.organ, *structure.members})), plan)
    return arm


def _sum(units: Sequence[Overlap]) -> Overlap:
    return sum(units, start=Overlap(0, 0, 0))


def _without_voxels(structure: Structure, slices: Sequence[Overlap], voxel_ml: float, plan: ScorePlan) -> Measured:
    """The measurement of a structure that neither mask holds."""
    scored = structure.is_lesion and "lesion" in plan.groups
    measured = Measured(Overlap(0, 0, 0), voxel_ml, slices)
    return replace(measured, lesions=_NO_LESIONS, recist_mm=(0.0, 0.0)) if scored else measured


def _add_burden(arm: ArmScores, structure: Structure, lesions: Overlap, whole: Overlap, plan: ScorePlan) -> None:
    """Share of the organ, lesions included, that the lesions take up."""
    if not plan.organ or not structure.is_lesion or set(structure.members) & set(plan.organ):
        return
    reference, prediction = tumour_burden(
        [lesions.num_reference, lesions.num_prediction], [whole.num_reference, whole.num_prediction]
    ).tolist()
    arm.burden.append({
        "label": structure.key, "label_name": structure.name,
        "organ_reference_voxels": whole.num_reference, "organ_prediction_voxels": whole.num_prediction,
        "burden_reference": reference, "burden_prediction": prediction, "burden_difference": prediction - reference,
    })  # fmt: skip


def _measure(measured: Measured, structure: Structure, view: _View, arm: ArmScores) -> Measured:
    """Add surface and lesions to the counts of a structure that is not empty in both masks."""
    plan, status = view.plan, measured.overlap.status
    prediction, reference = (np.isin(array, structure.members) for array in (view.prediction, view.reference))
    if status == "ok" and "surface" in plan.groups:
        surface = measure_distances(prediction, reference, view.steps_mm, outside_is_foreground=plan.edge_is_inside)
        measured = replace(measured, surface=surface)
        # Areas of surface elements are known for boxes only; `evaluate` names the sheared cases.
        if structure.tolerances_mm and not arm.shear_degrees:
            areas = plan.areas_mm2[arm.spacing_mm]
            values = surface_dice(prediction, reference, arm.spacing_mm, structure.tolerances_mm, areas)
            measured = replace(measured, surface_dice=dict(zip(structure.tolerances_mm, values, strict=True)))
    wanted = structure.is_lesion and "lesion" in plan.groups
    # Without a reference every component is a false positive, which is told of structures that are no lesions too.
    if not wanted and status != "reference_empty":
        return measured
    match = match_lesions(prediction, reference, view.steps_mm, connectivity=plan.connectivity, slice_axis=view.axis)
    if status == "reference_empty":
        arm.empty_references.append({
            "label": structure.key, "label_name": structure.name, "false_positive_voxels": measured.overlap.fp,
            "false_positive_ml": measured.overlap.fp * measured.voxel_ml, "components": len(match.predictions),
        })  # fmt: skip
    if not wanted:
        return measured
    arm.matches[structure.key] = match
    _add_lesion_rows(arm, structure, match, view)
    sums = [
        recist_sum_mm([lesion.diameter_mm for lesion in side], [structure.key] * len(side))
        for side in (match.references, match.predictions)
    ]
    return replace(measured, lesions=match, recist_mm=(sums[0], sums[1]))


def _add_lesion_rows(arm: ArmScores, structure: Structure, match: LesionMatch, view: _View) -> None:
    for side, lesions in (("reference", match.references), ("prediction", match.predictions)):
        for lesion in lesions:
            # Indices are those of the box: its corner brings them back to the volume.
            x, y, z = (view.affine @ [*(np.array(lesion.centroid_index) + view.corner), 1.0])[:3]
            row = {
                "label": structure.key, "label_name": structure.name, "side": side, "lesion": lesion.number,
                "voxels": lesion.voxels, "volume_ml": lesion.volume_ml, "diameter_mm": lesion.diameter_mm,
                "x_mm": x, "y_mm": y, "z_mm": z, "best_iou": lesion.best_iou, "partner": lesion.partner,
            }  # fmt: skip
            matched = zip(IOU_THRESHOLDS, lesion.matched, strict=True)
            arm.lesions.append(row | {f"matched_{threshold:g}": int(value) for threshold, value in matched})


def _add_rows(arm: ArmScores, structure: Structure, measured: Measured, plan: ScorePlan) -> None:
    overlap, place = measured.overlap, {"label": structure.key, "label_name": structure.name}
    counts = {
        "tp": overlap.tp, "fp": overlap.fp, "fn": overlap.fn, "n_reference": overlap.num_reference,
        "n_prediction": overlap.num_prediction, "n_voxels": arm.num_voxels, "voxel_ml": arm.voxel_ml,
        **{f"spacing_{k + 1}_mm": size for k, size in enumerate(arm.spacing_mm)},
    }  # fmt: skip
    for metric in list_metrics(plan.groups, structure.tolerances_mm):
        if metric.group in ("lesion", "size") and not structure.is_lesion:
            continue
        arm.rows.append({
            **place, "metric": metric.name, "value": metric.value(measured, plan.empty_policy), "unit": metric.unit,
            "status": overlap.status, "empty_policy": plan.empty_policy, **counts,
        })  # fmt: skip
    for number, part in enumerate(measured.slices if overlap.status != "both_empty" else ()):
        # Slices without the label would be most rows of the file.
        if part.num_reference or part.num_prediction:
            arm.slices.append({
                **place, "slice": number, "status": part.status, "tp": part.tp, "fp": part.fp, "fn": part.fn,
                "dice": dice_of(part), "iou": iou_of(part),
            })  # fmt: skip


def _judge_probabilities(files: CaseFiles, reference: LabelMap) -> dict[str, CalibrationCounts]:
    """Calibration of the probabilities as they are, and scaled by their temperature."""
    from rankseg_rma.decoder.temperature import scale_probabilities
    from rankseg_rma.files.probabilities import read_probabilities

    assert files.probabilities is not None
    probabilities = read_probabilities(files.probabilities)
    shape, affine = probabilities.probs.shape[1:], probabilities.affine
    require_same_grid("evaluate", "probabilities", shape, affine, reference, files.probabilities)
    found = {"none": count_calibration(probabilities.probs.numpy(), reference.array)}
    if files.temperature is not None:
        scaled = scale_probabilities(probabilities.probs, files.temperature, function="evaluate")
        found["stored"] = count_calibration(scaled.numpy(), reference.array)
    return found
