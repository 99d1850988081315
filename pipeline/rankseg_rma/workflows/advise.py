"""The command that answers, before a user switches: does RMA help on these validation cases?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from rankseg_rma.checks import wrong
from rankseg_rma.datasets import patient_of
from rankseg_rma.evaluation import Measured, Overlap, as_label_map, count_pairs, find_metric
from rankseg_rma.evaluation.metric import metric_of_unit
from rankseg_rma.evaluation.threshold import ThresholdCounts, apply_thresholds, count_thresholds, tune_thresholds
from rankseg_rma.report.columns import COLUMNS
from rankseg_rma.report.wording import describe_doubt, write_interval
from rankseg_rma.volumes import find_slice_axis, read_volume, require_same_grid, voxel_volume_ml, write_text
from rankseg_rma.workflows.comparison import MACRO, PairingRule, pair_rows
from rankseg_rma.workflows.evaluation import list_references
from rankseg_rma.workflows.inference import find_inputs
from rankseg_rma.workflows.outcome import Outcome, describe_failure, track, write_csv

ARMS = ("argmax", "rma", "rma_untempered", "threshold")
UNITS = ("volume", "slice")
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
    cases = _read_cases(find_inputs(probabilities), list_references(references), slice_axis, cluster, outcome)
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
    names = _label_names(probabilities)
    rows: list[dict[str, Any]] = []
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
    outcome.written.append(write_csv(out / "advice_cases.csv", scores, COLUMNS["advice_cases.csv"]))
    outcome.written.append(write_csv(out / "advice.csv", advice_rows, COLUMNS["advice.csv"]))
    if outcome.failed:
        outcome.notes.append(f"warning: PARTIAL, {len(outcome.failed)} cases could not be used")
    temperatures = [temperature for temperature, _ in fitted.values()]
    outcome.notes += _word(pandas.DataFrame(advice_rows), scores, temperatures, metric, len(patients))
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

    from rankseg_rma.temperature import sample_log_probs

    cases = []
    for case_id, path in track(files.items(), "reading", len(files)):
        try:
            if case_id not in references:
                raise FileNotFoundError(wrong("advise", "references", f"with a label map {case_id}.*", "none"))
            patient = patient_of(case_id, cluster)
            probs, labels, affine = _load(path, references[case_id])
            if cases and len(probs) != cases[0].num_classes:
                got = f"{len(probs)} where {cases[0].case_id} has {cases[0].num_classes}"
                raise ValueError(wrong("advise", "probabilities", "of one number of classes", got))
            # A single class is paired with its complement, or no voxel of it would have a class.
            pair = torch.cat([1 - probs, probs]) if len(probs) == 1 else probs
            log_probs, target = sample_log_probs(pair, labels)
            step = -(-len(target) // _MAX_VOXELS_PER_CASE) or 1
            axes = {"volume": None, "slice": find_slice_axis(affine, slice_axis)}
            counts = {unit: count_thresholds(probs.numpy(), labels, axis) for unit, axis in axes.items()}
            sample = (log_probs[::step], target[::step])
            cases.append(_Case(case_id, patient, path, references[case_id], len(probs), sample, counts))
        except Exception as error:  # one bad case must not cost the answer
            outcome.failed[case_id] = describe_failure(error, path)
    return cases


def _load(path: Path, reference: Path) -> tuple[Any, Any, Any]:
    """Probabilities (class, *spatial), labels (*spatial) and the affine of a case."""
    from rankseg_rma.probabilities import read_probabilities

    probabilities, volume = read_probabilities(path), read_volume(reference)
    labels = as_label_map("reference", volume.array)
    require_same_grid("advise", "probabilities", probabilities.probs.shape[1:], probabilities.affine, volume, path)
    highest = max(len(probabilities.probs) - 1, 1)
    if labels.max(initial=0) > highest:
        raise ValueError(wrong("advise", "reference", f"of labels 0 to {highest}", int(labels.max()), path=reference))
    return probabilities.probs, labels, volume.affine


def _folds_of(patients: Sequence[str], folds: int) -> dict[str, int]:
    order = np.random.default_rng(_SEED).permutation(len(patients))
    return {patients[index]: int(place % folds) for place, index in enumerate(order)}


def _fit(cases: Sequence[_Case], metric: str) -> tuple[float, dict[str, tuple[float, ...]]]:
    """Temperature, and the thresholds by unit, from some cases."""
    from rankseg_rma.temperature import fit_temperature

    found = fit_temperature(case.sample for case in cases)
    thresholds = {unit: tune_thresholds([case.counts[unit] for case in cases], metric) for unit in UNITS}
    return found["temperature"], thresholds


def _label_names(probabilities: Sequence[Path]) -> list[str]:
    """Names from the labels.json beside the probabilities, when all folders agree."""
    from rankseg_rma.workflows.inference import read_label_names

    return read_label_names([path if path.is_dir() else path.parent for path in probabilities])


def _score(
    case: _Case,
    temperature: float,
    thresholds: Mapping[str, Sequence[float]],
    metric: str,
    slice_axis: str | int,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    from rankseg_rma.inference import DecodeOptions, decode
    from rankseg_rma.probabilities import Probabilities

    probs, labels, affine = _load(case.path, case.reference)
    held = Probabilities(probs, affine)
    axis = find_slice_axis(affine, slice_axis)
    argmax = decode(held, ("argmax",), DecodeOptions(metric))[0]["argmax"]
    rows = []
    for unit in UNITS:
        score = find_metric(metric_of_unit(metric, unit))
        for arm in ARMS:
            if arm == "argmax":
                mask = argmax
            elif arm == "threshold":
                mask = apply_thresholds(probs.numpy(), thresholds[unit])
            else:
                scale = temperature if arm == "rma" else None
                mask = decode(held, ("rma",), DecodeOptions(metric, unit, axis, temperature=scale))[0]["rma"]
            pairs = count_pairs(mask, labels, axis)
            for label in range(1, max(len(probs), 2)):
                parts = pairs.overlaps([label])
                whole = sum(parts, start=Overlap(0, 0, 0))
                measured = Measured(whole, voxel_volume_ml(affine), parts)
                rows.append({
                    "case_id": case.case_id, "label": str(label), "unit": unit, "decoder": arm, "metric": score.name,
                    "label_name": names[label - 1] if label <= len(names) else str(label),
                    "value": score.value(measured, "kits"), "status": whole.status, "empty_policy": "kits",
                    "n_reference": whole.num_reference,
                    "temperature": temperature if arm == "rma" else 1.0,
                })  # fmt: skip
    return rows


def _compare(scores: pandas.DataFrame, metric: str, cluster: str | None, partial: bool) -> list[dict[str, Any]]:
    rows = []
    labels = list(dict.fromkeys(scores["label"]))
    for unit in UNITS:
        rule = PairingRule(ARMS, cluster, labels, metric_of_unit(metric, unit), partial)
        for row in pair_rows(scores[scores["unit"] == unit], rule):
            rows.append({**row, "arm": row["second"], "score_unit": row["unit"], "unit": unit})
    return rows


def _word(
    advice: pandas.DataFrame, scores: pandas.DataFrame, temperatures: Sequence[float], metric: str, num_patients: int
) -> list[str]:
    """The answer in plain lines: per unit the mean over labels, then the labels, then the cases that lose."""
    low, high = min(temperatures), max(temperatures)
    lines = [
        f"{scores['case_id'].nunique()} cases of {num_patients} patients; temperature {low:.3f} to {high:.3f} over the "
        "folds (below 1: the network is too unsure, above 1: too sure); points of "
        f"{metric}, difference to argmax, 95 % interval"
    ]
    for unit in UNITS:
        mine = advice[advice["unit"] == unit]
        if mine.empty:
            continue
        labels = list(dict.fromkeys(mine["label"]))
        overall = mine[mine["label"] == (MACRO if MACRO in labels else labels[0])].set_index("arm")
        lines += ["", f"{unit}: {_verdict(overall, unit)}"]
        for row in mine.to_dict("records"):
            interval = write_interval(row["low"], row["high"], "1")
            lines.append(
                f"  {row['label_name']:<12.12} {row['arm']:<15} {100 * row['mean_first']:6.2f} -> "
                f"{100 * row['mean_second']:6.2f}  {100 * row['mean']:+z6.2f} ({interval})  "
                f"better / same / worse {row['improved']} / {row['unchanged']} / {row['worsened']}"
            )
        lines += _losers(scores[scores["unit"] == unit], metric)
    return lines


def _verdict(overall: pandas.DataFrame, unit: str) -> str:
    best = overall.loc["rma"]
    plain, threshold = overall.loc["rma_untempered"], overall.loc["threshold"]
    size = f"{100 * best['mean']:+z.2f} points, {write_interval(best['low'], best['high'], '1')}"
    if np.isnan(best["low"]):
        return f"too few patients for an answer ({size})"
    doubt = describe_doubt(best)
    if best["high"] < 0 and not doubt:
        text = f"keep argmax: RMA loses ({size})"
    elif best["low"] <= 0 or doubt:
        size += doubt if best["low"] > 0 or best["high"] < 0 else ""
        text = f"keep argmax unless you have other reasons: no clear difference ({size})"
    else:
        text = f"use RMA with the temperature ({size})"
        if threshold["mean"] > best["mean"]:
            interval = write_interval(threshold["low"], threshold["high"], "1")
            text += f"; one tuned threshold per label is ahead of it ({100 * threshold['mean']:+z.2f}, {interval})"
    if plain["high"] < 0:
        text += f"; without a temperature RMA would lose ({100 * plain['mean']:+z.2f})"
    return text


def _losers(scores: pandas.DataFrame, metric: str) -> list[str]:
    """The five cases and labels that lose most, beyond a point."""
    wide = scores.pivot(index=["case_id", "label_name"], columns="decoder", values="value")
    loss = (wide["rma"] - wide["argmax"]).dropna().sort_values(kind="stable")
    loss = loss[loss < -0.01]
    if loss.empty:
        return ["  no case loses more than a point"]
    shown = ", ".join(f"{case_id} {label} {100 * value:+.1f}" for (case_id, label), value in loss.head(5).items())
    return [f"  {len(loss)} lose more than a point, most: {shown}"]
