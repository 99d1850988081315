"""The command that scores masks against references."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path

from rankseg_rma.checks import wrong
from rankseg_rma.datasets import patient_of
from rankseg_rma.evaluation.case import CaseScores, add_absent, score_case
from rankseg_rma.evaluation.inputs import (
    find_arms,
    find_missing,
    list_references,
    pair_files,
    read_grids,
    require_own_folder,
    wanted_ids,
    with_known_ids,
)
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.plan import make_plan
from rankseg_rma.evaluation.structures import CaseFiles, ScorePlan, Structure
from rankseg_rma.files.names import match_cases
from rankseg_rma.files.volumes import list_volumes
from rankseg_rma.grid import shear_degrees, spacing_of
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.runs.parallel import choose_workers, run_cases
from rankseg_rma.runs.progress import track


def evaluate_masks(
    predictions: Sequence[str] | Mapping[str, Path],
    references: Path,
    out: Path,
    options: EvaluationOptions,
    outcome: Outcome | None = None,
) -> Outcome:
    """Score folders of masks against references; `tables.dictionary` says what is written.

    Args:
        predictions: as for `find_arms`, or what it returns.
        references: as for `list_references`; paired with predictions by case id, see `match_cases`.
        out: folder to fill.
        options: what to score.
        outcome: what was written and what failed on the way to these masks; None for nothing.
    """
    from rankseg_rma.evaluation.cohort import ScoredCohort
    from rankseg_rma.evaluation.outputs import write_outputs

    arms = dict(predictions) if isinstance(predictions, Mapping) else find_arms(predictions)
    predicted = {case_id for folder in arms.values() for case_id in list_volumes(folder)}
    reference_files = list_references(references, predicted)
    if options.images is not None:
        match_cases(list_volumes(options.images), reference_files)  # what is wrong is said before the work
    options = with_known_ids(options, reference_files)
    outcome = outcome or Outcome(out)
    require_own_folder(out, [references, *arms.values()])
    chosen = [case_id for case_id in reference_files if wanted_ids(case_id, options)][: options.limit]
    for case_id in chosen:
        patient_of(case_id, options.cluster)  # so is a rule that does not fit
    listed = {name: match_cases(list_volumes(folder), reference_files) for name, folder in arms.items()}
    files = {
        name: {case_id: path for case_id, path in found.items() if wanted_ids(case_id, options)}
        for name, found in listed.items()
    }
    # From the headers, where they are NIfTI: the work is divided before a voxel is read.
    grids = read_grids(reference_files[case_id] for case_id in chosen)
    straight = [grid.affine for grid in grids.values() if not shear_degrees(grid.affine[:3, :3])]
    plan = make_plan(options, {spacing_of(affine) for affine in straight})
    cases = pair_files(chosen, reference_files, files, options, outcome)
    missing = find_missing(chosen, files, arms, references, options, outcome)
    num_voxels = len(arms) * sum(prod(grids[case.reference].shape) for case in cases if case.reference in grids)
    workers = choose_workers(len(cases), num_voxels, options.workers)
    results = list(track(run_cases(partial(score_case, plan=plan), cases, workers, _dead), "evaluating", len(cases)))
    for case in results:
        outcome.failed |= {f"{decoder}/{case.case_id}": reason for decoder, reason in case.failed.items()}
        outcome.rounded += case.rounded
    structures = _fill_absent(results, plan)
    outcome.notes += _describe_shear(results, plan) + _describe_ghosts(results, structures)
    if not structures and any(case.arms for case in results):
        advice = "Name the data set with --dataset."
        raise ValueError(wrong("evaluate", "label maps", "with a label above 0", "only empty masks", advice=advice))
    write_outputs(ScoredCohort(results, structures, arms, files, reference_files, missing, options, plan), outcome)
    return outcome


def _dead(case: CaseFiles) -> CaseScores:
    reason = "the process that scored it was killed, most likely for lack of memory; try --workers 1"
    return CaseScores(case.case_id, failed=dict.fromkeys(case.predictions, reason))


def _describe_shear(results: Sequence[CaseScores], plan: ScorePlan) -> list[str]:
    """Name the cases whose axes are not perpendicular, and what that means for their scores."""
    angles = {case.case_id: max((arm.shear_degrees for arm in case.arms.values()), default=0.0) for case in results}
    sheared = [f"{case_id} ({angle:.3g} degrees)" for case_id, angle in angles.items() if angle]
    if not sheared:
        return []
    absent = "; surface Dice is not defined there and left empty: its areas are known for boxes only"
    return [
        f"warning: sheared grid, as of a tilted gantry: {', '.join(sheared)}; distances and volumes follow the whole "
        f"affine{absent if 'surface' in plan.groups else ''}"
    ]


def _describe_ghosts(results: Sequence[CaseScores], structures: Sequence[Structure]) -> list[str]:
    """Warn of labels that occur nowhere: under the kits policy they count as perfect in every case."""
    rows = [row for case in results for arm in case.arms.values() for row in arm.rows]
    seen = {row["label"] for row in rows if row["status"] != "both_empty"}
    return [
        f"warning: {one.name} (label {one.key}) occurs in no mask and no reference, and raises the mean over labels "
        "where empty masks count 1: leave it out"
        for one in structures
        if rows and one.key not in seen
    ]


def _fill_absent(results: Sequence[CaseScores], plan: ScorePlan) -> list[Structure]:
    """The structures scored; labels found in some cases get rows in the others too."""
    if plan.structures is not None:
        return list(plan.structures)
    arms = [arm for case in results for arm in case.arms.values()]
    seen = {row["label"] for arm in arms for row in arm.rows}
    # By number: as text, label 10 comes before label 2.
    structures = [Structure(key, key, (int(key),), True, plan.tolerances_mm) for key in sorted(seen, key=int)]
    for arm in arms:
        mine = {row["label"] for row in arm.rows}
        add_absent(arm, [one for one in structures if one.key not in mine], plan)
    return structures
