"""The command that compares two folders of masks; a third arm may be a tuned threshold."""

import json
from collections.abc import Sequence
from pathlib import Path

from rankseg_rma.checks import wrong
from rankseg_rma.evaluation.threshold import apply_thresholds, count_thresholds, tune_thresholds
from rankseg_rma.volumes import list_volumes, read_volume, same_grid, write_text, write_volume
from rankseg_rma.workflows.evaluation import EvaluationOptions, evaluate_masks, find_arms, list_references
from rankseg_rma.workflows.outcome import Outcome, describe_failure, track


def compare_folders(
    predictions: Sequence[str], references: Path, out: Path, validation: Path | None, options: EvaluationOptions
) -> Outcome:
    """Evaluate folders of masks against each other.

    Args:
        predictions: as for `find_arms`, two decoders or more.
        references: as for `list_references`.
        out: folder to fill.
        validation: folder of probabilities of validation cases; adds the arm "threshold", whose masks come from
            ``options.probabilities`` and are written to OUT/masks/threshold.
        options: what to score.
    """
    arms = find_arms(predictions)
    if len(arms) < 2:
        raise ValueError(wrong("compare", "folders", "two decoders", ", ".join(arms)))
    failed: dict[str, str] = {}
    entries = [f"{name}={folder}" for name, folder in arms.items()]
    if validation is not None:
        if options.probabilities is None:
            advice = "The thresholds are applied to the probabilities of the compared cases: give --probabilities."
            raise ValueError(wrong("compare", "validation", "given with probabilities", validation, advice=advice))
        folder = out / "masks" / "threshold"
        failed = _write_threshold_masks(validation, options.probabilities, references, folder, options)
        entries.append(f"threshold={folder}")
    outcome = evaluate_masks(entries, references, out, options)
    outcome.failed = {**failed, **outcome.failed}
    return outcome


def _write_threshold_masks(
    validation: Path, probabilities: Path, references: Path, folder: Path, options: EvaluationOptions
) -> dict[str, str]:
    """Tune one threshold per label on the validation cases, decode the others with it; returns the faults."""
    from rankseg_rma.probabilities import read_probabilities

    tuning, judged, labels = list_volumes(validation), list_volumes(probabilities), list_references(references)
    if options.only is not None:
        judged = {case_id: path for case_id, path in judged.items() if case_id in options.only}
    both = sorted(set(tuning) & set(judged))
    if both:
        got = f"{len(both)} cases in both, for example {both[0]}"
        raise ValueError(wrong("compare", "validation", "other cases than those compared", got, path=validation))
    failed, counts = {}, []
    for case_id, path in track(tuning.items(), "tuning the threshold", len(tuning)):
        try:
            held, reference = read_probabilities(path), read_volume(labels[case_id]) if case_id in labels else None
            if reference is None:
                raise FileNotFoundError(wrong("compare", "references", f"with a label map {case_id}.*", "none"))
            fault = same_grid(held.probs.shape[1:], held.affine, reference.array.shape, reference.affine)
            if fault:
                raise ValueError(wrong("compare", "validation", "on the reference's grid", fault, path=path))
            counts.append(count_thresholds(held.probs.numpy(), reference.array))
        except Exception as error:  # one bad case must not cost the cohort
            failed[f"validation/{case_id}"] = describe_failure(error, path)
    thresholds = tune_thresholds(counts)
    text = {"thresholds": list(thresholds), "num_cases": len(counts), "case_ids": sorted(set(tuning) - set(failed))}
    write_text(folder.parent / "thresholds.json", json.dumps(text, indent=1))
    for stale in list_volumes(folder).values() if folder.is_dir() else ():
        stale.unlink()  # of an earlier run
    for case_id, path in track(judged.items(), "decoding with the threshold", len(judged)):
        try:
            held = read_probabilities(path)
            mask = apply_thresholds(held.probs.numpy(), thresholds)
            write_volume(folder / f"{case_id}.nii.gz", mask, held.affine, held.header)
        except Exception as error:
            failed[f"threshold/{case_id}"] = describe_failure(error, path)
    return failed
