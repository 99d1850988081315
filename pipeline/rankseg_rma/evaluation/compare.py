"""The command that compares two folders of masks; a third arm may be a tuned threshold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rankseg_rma.checks import wrong
from rankseg_rma.datasets import patient_of
from rankseg_rma.decoder.threshold import apply_thresholds, count_thresholds, tune_thresholds
from rankseg_rma.evaluation.evaluate import evaluate_masks
from rankseg_rma.evaluation.inputs import find_arms, list_references, temperature_beside, with_known_ids
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.files.labels import read_labels
from rankseg_rma.files.names import match_cases
from rankseg_rma.files.probabilities import refuse_overlapping
from rankseg_rma.files.volumes import list_volumes, write_volume
from rankseg_rma.files.writing import write_text
from rankseg_rma.grid import find_slice_axis, require_same_grid
from rankseg_rma.runs.outcome import Outcome, describe_failure
from rankseg_rma.runs.progress import track

THRESHOLD = "threshold"


@dataclass(frozen=True)
class _Tuning:
    """Cases to tune on and cases to decode, by case id, and where the masks go."""

    validation: Mapping[str, Path]
    judged: Mapping[str, Path]
    references: Mapping[str, Path]
    folder: Path
    options: EvaluationOptions


def compare_folders(
    predictions: Sequence[str], references: Path, out: Path, validation: Path | None, options: EvaluationOptions
) -> Outcome:
    """Evaluate folders of masks against each other.

    Args:
        predictions: as for `find_arms`, two decoders or more.
        references: as for `list_references`; of the validation cases too.
        out: folder to fill.
        validation: folder of probabilities of validation cases, of other patients than those compared; adds the arm
            "threshold", whose masks come from ``options.probabilities`` and are written to OUT/masks/threshold. Its
            thresholds are tuned for the score of the report, by slices when that is a score of slices.
        options: what to score.
    """
    arms = find_arms(predictions)
    if len(arms) < 2:
        raise ValueError(wrong("compare", "folders", "two decoders", ", ".join(arms)))
    if validation is None:
        return evaluate_masks(arms, references, out, options)
    folder = options.probabilities
    if folder is None:
        advice = "The thresholds are applied to the probabilities of the compared cases: give --probabilities."
        raise ValueError(wrong("compare", "validation", "given with probabilities", validation, advice=advice))
    if THRESHOLD in arms:
        raise ValueError(wrong("compare", "folders", f"not named {THRESHOLD}", THRESHOLD, advice="Use NAME=DIR."))
    known = list_references(references)
    tuned_on, decoded = (match_cases(list_volumes(one), known) for one in (validation, folder))
    options = with_known_ids(options, known)
    # References of the validation cases lie in the same folder, but those cases are not judged.
    wanted = set(known if options.only is None else options.only) - set(tuned_on)
    _require_other_patients(tuned_on, decoded, options, validation)
    judged = {case_id: path for case_id, path in decoded.items() if case_id in wanted}
    refuse_overlapping("compare", (validation, folder))
    temperature_beside(folder)  # read again when it is used; a wrong one is said before the work
    outcome = Outcome(out)
    tuning = _Tuning(tuned_on, judged, known, out / "masks" / THRESHOLD, options)
    _write_threshold_masks(tuning, outcome)
    arms[THRESHOLD] = tuning.folder
    return evaluate_masks(arms, references, out, replace(options, only=wanted), outcome)


def _require_other_patients(
    validation: Mapping[str, Path], judged: Mapping[str, Path], options: EvaluationOptions, folder: Path
) -> None:
    if options.only is not None:
        judged = {case_id: path for case_id, path in judged.items() if case_id in options.only}
    mine, theirs = ({patient_of(case_id, options.cluster) for case_id in cases} for cases in (validation, judged))
    both = sorted(mine & theirs)
    if both:
        got = f"{len(both)} patients in both, for example {both[0]}"
        raise ValueError(wrong("compare", "validation", "of other patients than those compared", got, path=folder))


def _write_threshold_masks(tuning: _Tuning, outcome: Outcome) -> None:
    """Tune one threshold per label on the validation cases, and decode the others with it."""
    from rankseg_rma.files.probabilities import read_probabilities
    from rankseg_rma.runs.manifest import files_of_earlier_run

    metric = tuning.options.metric.removeprefix("slice_").removesuffix("_all")
    # Thresholds are tuned for Dice or IoU; for any other score of the report, for Dice.
    metric = metric if metric in ("dice", "iou") else "dice"
    by_slice = tuning.options.metric.startswith("slice_")
    counts = {}
    for case_id, path in track(tuning.validation.items(), "tuning the threshold", len(tuning.validation)):
        try:
            if case_id not in tuning.references:
                raise FileNotFoundError(wrong("compare", "references", f"with a label map {case_id}.*", "none"))
            held, reference = read_probabilities(path), read_labels(tuning.references[case_id], "reference")
            require_same_grid("compare", "validation", held.probs.shape[1:], held.affine, reference, path)
            axis = find_slice_axis(held.affine, tuning.options.slice_axis) if by_slice else None
            counts[case_id] = count_thresholds(held.probs.numpy(), reference.array, axis)
            outcome.rounded += [reference.path] if reference.was_rounded else []
        except Exception as error:  # one bad case must not cost the cohort
            outcome.failed[f"validation/{case_id}"] = describe_failure(error, path)
    thresholds = tune_thresholds(list(counts.values()), metric)
    told = {"thresholds": list(thresholds), "metric": metric, "unit": "slice" if by_slice else "volume",
            "num_cases": len(counts), "case_ids": sorted(counts)}  # fmt: skip
    record = tuning.folder.parent / "thresholds.json"
    write_text(record, json.dumps(told, indent=1))
    outcome.written.append(record)
    for stale in files_of_earlier_run(outcome.out):
        # A mask of an earlier run would be scored as if it were of this one.
        if stale.parent == tuning.folder.resolve():
            stale.unlink(missing_ok=True)
    for case_id, path in track(tuning.judged.items(), "decoding with the threshold", len(tuning.judged)):
        try:
            held = read_probabilities(path)
            mask = apply_thresholds(held.probs.numpy(), thresholds)
            file = tuning.folder / f"{case_id}.nii.gz"
            write_volume(file, mask, held.affine, held.header)
            outcome.written.append(file)
        except Exception as error:
            outcome.failed[f"{THRESHOLD}/{case_id}"] = describe_failure(error, path)
