"""The command that answers, before a user switches: does RMA help on these validation cases?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from rankseg_rma.checks import wrong
from rankseg_rma.datasets import patient_of
from rankseg_rma.decoder.threshold import ThresholdCounts, apply_thresholds, count_thresholds, tune_thresholds
from rankseg_rma.evaluation.inputs import list_references
from rankseg_rma.evaluation.paired import PairingRule, pair_rows
from rankseg_rma.files.labels import LabelMap, read_labels
from rankseg_rma.files.names import match_cases
from rankseg_rma.files.probabilities import refuse_overlapping
from rankseg_rma.files.writing import write_text
from rankseg_rma.grid import find_slice_axis, require_same_grid, voxel_volume_ml
from rankseg_rma.metrics import Measured, Overlap, count_pairs, find_metric
from rankseg_rma.metrics.metric import metric_of_unit
from rankseg_rma.prediction.inputs import list_inputs
from rankseg_rma.report.advice import word_advice
from rankseg_rma.runs.outcome import Outcome, describe_failure
from rankseg_rma.runs.progress import track
from rankseg_rma.tables.store import write_table

ARMS = ("argmax", "rma", "rma_untempered", "threshold")
UNITS = ("volume", "slice")
# Fixed, so that the same patients fall into the same folds whenever it is asked.
_SEED = 0
# Samples of all cases are held at once; so many voxels fix one temperature well.
_MAX_VOXELS_PER_CASE = 50_000


@dataclass(frozen=True)
class _Case:
    """What the first reading of a case keeps: a sample for the temperature, and counts for the threshold."""

    case_id: str
    patient: str
    path: Path
    reference: Path
    num_classes: int
    sample: tuple[Any, Any]
    counts: Mapping[str, ThresholdCounts]


def advise(
    probabilities: Sequence[Path],
    references: Path,
    out: Path,
    metric: str,
    slice_axis: str | int,
    cluster: str | None,
    folds: int,
) -> Outcome:
    """Decode labelled validation cases every way, cross-fitted, and say whether RMA helps.

    Patients are divided into folds; the temperature and the thresholds of a fold come from the other folds, so that
    no case is judged with a temperature that saw it.

    Args:
        probabilities: probability volumes, before any temperature, and folders of them.
        references: folder of label maps.
        out: gets advice.csv, advice_cases.csv and advice.txt.
        metric: "dice" or "iou".
        slice_axis: for the slice unit.
        cluster: patient of a case, as for `evaluate_masks`.
        folds: number of folds; at most one per patient.
    """
    outcome = Outcome(out)
    known, names = list_references(references), _label_names(probabilities)
    given = list_inputs(probabilities)
    refuse_overlapping("advise", sorted({path.parent for path in given.values()}))
    cases = _read_cases(match_cases(given, known), known, slice_axis, cluster, outcome)
    patients = sorted({case.patient for case in cases})
    if len(patients) < 2:
        advice = "A temperature must come from other patients than those it is judged on."
        reasons = [f"{case_id}: {reason}" for case_id, reason in outcome.failed.items()][:3]
        got = "; ".join([str(len(patients)), *reasons])
        raise ValueError(wrong("advise", "patients", "at least 2 with references", got, advice=advice))
    fold_of = _folds_of(patients, min(folds, len(patients)))
    fitted = {
        fold: _fit([c for c in cases if fold_of[c.patient] != fold], metric) for fold in sorted(set(fold_of.values()))
    }
    rows: list[dict[str, Any]] = []
    # Read a second time: the probabilities of all cases would not fit into memory.
    for case in track(cases, "decoding", len(cases)):
        temperature, thresholds = fitted[fold_of[case.patient]]
        try:
            rows += _score(case, temperature, thresholds, metric, slice_axis, names)
        except Exception as error:
            outcome.failed[case.case_id] = describe_failure(error, case.path)
    scores = pandas.DataFrame(rows)
    if scores.empty:
        return outcome
    advice_rows = _compare(scores, metric, cluster, bool(outcome.failed))
    outcome.written.append(write_table(out / "advice_cases.csv", scores.drop(columns="n_reference")))
    outcome.written.append(write_table(out / "advice.csv", advice_rows))
    if outcome.failed:
        outcome.notes.append(f"warning: PARTIAL, {len(outcome.failed)} cases could not be used")
    temperatures = [temperature for temperature, _ in fitted.values()]
    outcome.notes += word_advice(pandas.DataFrame(advice_rows), scores, temperatures, metric, len(patients))
    write_text(out / "advice.txt", "\n".join(outcome.notes) + "\n")
    outcome.written.append(out / "advice.txt")
    return outcome


def _read_cases(
    files: Mapping[str, Path],
    references: Mapping[str, Path],
    slice_axis: str | int,
    cluster: str | None,
    outcome: Outcome,
) -> list[_Case]:
    import torch

    from rankseg_rma.decoder.temperature import sample_log_probs

    cases: list[_Case] = []
    for case_id, path in track(files.items(), "reading", len(files)):
        try:
            if case_id not in references:
                raise FileNotFoundError(wrong("advise", "references", f"with a label map {case_id}.*", "none"))
            patient = patient_of(case_id, cluster)
            probs, label = _load(path, references[case_id])
            outcome.rounded += [label.path] if label.was_rounded else []
            if cases and len(probs) != cases[0].num_classes:
                got = f"{len(probs)} where {cases[0].case_id} has {cases[0].num_classes}"
                raise ValueError(wrong("advise", "probabilities", "of one number of classes", got))
            # A single class is paired with its complement, or no voxel of it would have a class.
            pair = torch.cat([1 - probs, probs]) if len(probs) == 1 else probs
            log_probs, target = sample_log_probs(pair, label.array)
            # Every n-th of a sample in the order of the volume, so that all of the volume is in it.
            step = -(-len(target) // _MAX_VOXELS_PER_CASE) or 1
            axes = {"volume": None, "slice": find_slice_axis(label.affine, slice_axis)}
            counts = {unit: count_thresholds(probs.numpy(), label.array, axis) for unit, axis in axes.items()}
            sample = (log_probs[::step], target[::step])
            cases.append(_Case(case_id, patient, path, references[case_id], len(probs), sample, counts))
        except Exception as error:  # one bad case must not cost the answer
            outcome.failed[case_id] = describe_failure(error, path)
    return cases


def _load(path: Path, reference: Path) -> tuple[Any, LabelMap]:
    """Probabilities (class, *spatial) and labels of a case, on one grid."""
    from rankseg_rma.files.probabilities import read_probabilities

    probabilities, label = read_probabilities(path), read_labels(reference, "reference")
    require_same_grid("advise", "probabilities", probabilities.probs.shape[1:], probabilities.affine, label, path)
    highest = max(len(probabilities.probs) - 1, 1)
    if label.array.max(initial=0) > highest:
        got = int(label.array.max())
        raise ValueError(wrong("advise", "reference", f"of labels 0 to {highest}", got, path=reference))
    return probabilities.probs, label


def _folds_of(patients: Sequence[str], folds: int) -> dict[str, int]:
    order = np.random.default_rng(_SEED).permutation(len(patients))
    # Dealt out in turn: folds differ by one patient at most.
    return {patients[index]: int(place % folds) for place, index in enumerate(order)}


def _fit(cases: Sequence[_Case], metric: str) -> tuple[float, dict[str, tuple[float, ...]]]:
    """Temperature, and the thresholds by unit, from some cases."""
    from rankseg_rma.decoder.temperature import fit_temperature

    found = fit_temperature(case.sample for case in cases)
    thresholds = {unit: tune_thresholds([case.counts[unit] for case in cases], metric) for unit in UNITS}
    return found["temperature"], thresholds


def _label_names(probabilities: Sequence[Path]) -> list[str]:
    """Names from the labels.json beside the probabilities, when all folders agree."""
    from rankseg_rma.files.probabilities import read_label_names

    return read_label_names([path if path.is_dir() else path.parent for path in probabilities])


def _score(
    case: _Case,
    temperature: float,
    thresholds: Mapping[str, Sequence[float]],
    metric: str,
    slice_axis: str | int,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    from rankseg_rma.decoder.arms import argmax_labels, decode_arms
    from rankseg_rma.decoder.temperature import scale_probabilities
    from rankseg_rma.prediction.policy import DecodeOptions, arms_of

    probs, label_map = _load(case.path, case.reference)
    scaled = {"rma": scale_probabilities(probs, temperature, function="advise"), "rma_untempered": probs}
    axis = find_slice_axis(label_map.affine, slice_axis)
    # Once for both units, since argmax knows none.
    argmax = argmax_labels(probs)
    rows = []
    for unit in UNITS:
        score = find_metric(metric_of_unit(metric, unit))
        for arm in ARMS:
            if arm == "argmax":
                mask = argmax
            elif arm == "threshold":
                mask = apply_thresholds(probs.numpy(), thresholds[unit])
            else:
                mask = decode_arms(probs, scaled[arm], arms_of(("rma",), DecodeOptions(metric, unit), axis))[
                    "rma"
                ].labels
            pairs = count_pairs(mask, label_map.array, axis)
            for label in range(1, max(len(probs), 2)):
                parts = pairs.overlaps([label])
                # Slices add up to the whole, which then needs no count of its own.
                whole = sum(parts, start=Overlap(0, 0, 0))
                measured = Measured(whole, voxel_volume_ml(label_map.affine), parts)
                rows.append({
                    "case_id": case.case_id, "label": str(label), "score_over": unit, "decoder": arm,
                    "metric": score.name,
                    "label_name": names[label - 1] if label <= len(names) else str(label),
                    "value": score.value(measured, "kits"), "status": whole.status, "empty_policy": "kits",
                    "n_reference": whole.num_reference,
                    "temperature": temperature if arm == "rma" else 1.0,
                })  # fmt: skip
    return rows


def _compare(scores: pandas.DataFrame, metric: str, cluster: str | None, partial: bool) -> list[dict[str, Any]]:
    rows = []
    # In the order of the rows: as text, label 10 comes before label 2.
    labels = list(dict.fromkeys(scores["label"]))
    for unit in UNITS:
        rule = PairingRule(ARMS, cluster, labels, metric_of_unit(metric, unit), partial)
        for row in pair_rows(scores[scores["score_over"] == unit], rule):
            told = {name: value for name, value in row.items() if name not in ("empty_policy", "partial")}
            rows.append({**told, "score_over": unit, "arm": row["second"]})
    return rows
