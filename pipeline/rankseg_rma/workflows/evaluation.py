"""The command that scores masks against references."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankseg_rma.checks import wrong
from rankseg_rma.volumes import find_slice_axis, list_volumes, read_volume, replacing, same_grid
from rankseg_rma.workflows.outcome import DECODERS, Outcome, describe_failure, track, write_csv

IMPROVEMENT_MARGIN = 0.01
NUM_RESAMPLES, SEED = 10_000, 0

CASE_COLUMNS = (
    "case_id", "label", "label_name", "decoder", "metric", "value", "unit", "status", "empty_policy",
    "tp", "fp", "fn", "n_reference", "n_prediction",
)  # fmt: skip
PAIRED_COLUMNS = (
    "label", "label_name", "metric", "first", "second", "num_pairs", "num_left_out", "mean_first", "mean_second",
    "mean", "low", "high", "improved", "unchanged", "worsened", "smallest", "largest", "margin", "clusters",
)  # fmt: skip


def find_arms(predictions: Sequence[str]) -> dict[str, Path]:
    """Folders of masks by decoder name.

    Args:
        predictions: each ``DIR`` or ``NAME=DIR``. A folder with masks in it is one decoder, named after the folder;
            a folder of folders (as `infer` writes) is one decoder each.
    """
    arms: dict[str, Path] = {}
    for entry in predictions:
        name, _, text = entry.rpartition("=")
        folder = Path(text)
        if not folder.is_dir():
            raise FileNotFoundError(wrong("evaluate", "predictions", "an existing folder", folder))
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name in DECODERS]
        chosen = (
            {path.name: path for path in inner}
            if inner and not list_volumes(folder)
            else {folder.resolve().name: folder}
        )
        if name and len(chosen) > 1:
            advice = f"Name one of {', '.join(chosen)}: {name}={folder / next(iter(chosen))}"
            raise ValueError(wrong("evaluate", "predictions", "one folder of masks to name", folder, advice=advice))
        for decoder, path in chosen.items():
            key = name or decoder
            if key in arms:
                raise ValueError(wrong("evaluate", "predictions", "of different names", key, advice="Use NAME=DIR."))
            arms[key] = path
    return arms


def evaluate_masks(
    predictions: Sequence[str],
    references: Path,
    out: Path,
    label_names: Mapping[int, str],
    slice_axis: str | int | None,
    cluster: str | None,
    only: Collection[str] | None = None,
) -> Outcome:
    """Score folders of masks against references and write cases.csv, MONAI's three files, summary.json, paired.csv.

    Args:
        predictions: as for `find_arms`.
        references: folder of reference label maps; paired with predictions by case id.
        out: folder to fill.
        label_names: names of labels; labels found in the references besides these are scored under their number.
        slice_axis: also score slices along this axis ("axial", ..., or an axis number); None does not.
        cluster: regular expression whose first group in a case id names the patient, or "pair"; None: every case alone.
        only: case ids to score; others are left out on both sides. None scores all.
    """
    from rankseg_rma.report.tables import describe_scores, summarise, write_monai_files

    arms, reference_files = find_arms(predictions), list_volumes(references)
    if not reference_files:
        raise FileNotFoundError(wrong("evaluate", "references", "a folder with label maps", references))
    outcome = Outcome(out)
    files = {name: list_volumes(folder) for name, folder in arms.items()}
    if only is not None:
        reference_files = {case_id: path for case_id, path in reference_files.items() if case_id in only}
        files = {
            name: {case_id: path for case_id, path in found.items() if case_id in only} for name, found in files.items()
        }
        outcome.failed |= dict.fromkeys(sorted(set(only) - set(reference_files)), f"no reference in {references}")
    for name, found in files.items():
        for case_id in sorted(reference_files.keys() - found.keys()):
            outcome.failed[f"{name}/{case_id}"] = f"no prediction in {arms[name]}"
        for case_id in sorted(found.keys() - reference_files.keys()):
            outcome.failed[f"{name}/{case_id}"] = f"no reference in {references}"
    rows: list[dict[str, Any]] = []
    axis_cases = [case_id for case_id in reference_files if any(case_id in found for found in files.values())]
    labels = _labels_of(reference_files, axis_cases, label_names, outcome)
    for case_id in track(axis_cases, "evaluating", len(axis_cases)):
        for name, found in files.items():
            if case_id not in found or case_id in outcome.failed:
                continue
            try:
                rows += _score_case(found[case_id], reference_files[case_id], labels, slice_axis, case_id, name)
            except Exception as error:  # one bad case must not cost the cohort
                outcome.failed[f"{name}/{case_id}"] = describe_failure(error, found[case_id])
    outcome.written.append(write_csv(out / "cases.csv", rows, CASE_COLUMNS))
    paired = _pair_rows(rows, list(arms), cluster)
    if paired:
        outcome.written.append(write_csv(out / "paired.csv", paired, PAIRED_COLUMNS))
    for name in arms:
        folder = out / name if len(arms) > 1 else out
        mine = [row for row in rows if row["decoder"] == name]
        if mine:
            outcome.written += write_monai_files(folder, mine, arms[name])
            summary = summarise(mine, files[name], reference_files)
            with replacing(folder / "summary.json") as temporary:
                temporary.write_text(json.dumps(summary, indent=1, allow_nan=True), encoding="utf-8")
            outcome.written.append(folder / "summary.json")
    outcome.notes += describe_scores(rows, paired)
    return outcome


def _labels_of(
    files: Mapping[str, Path], case_ids: Sequence[str], names: Mapping[int, str], outcome: Outcome
) -> dict[int, str]:
    """Foreground labels that occur in any reference, with their names; unreadable references are noted."""
    import numpy as np

    labels = dict(names)
    for case_id in case_ids:
        try:
            found = np.unique(read_volume(files[case_id]).array)
        except ValueError as error:
            outcome.failed[case_id] = str(error)
            continue
        labels |= {int(value): str(int(value)) for value in found.tolist() if value > 0 and int(value) not in labels}
    return dict(sorted(labels.items()))


def _score_case(
    prediction_file: Path, reference_file: Path, labels: Mapping[int, str], slice_axis: Any, case_id: str, decoder: str
) -> list[dict[str, Any]]:
    from rankseg_rma.evaluation import METRIC_TABLE, count_overlap, count_overlap_by_slice
    from rankseg_rma.evaluation.metric import EMPTY_POLICY

    prediction, reference = read_volume(prediction_file), read_volume(reference_file)
    difference = same_grid(prediction.array.shape, prediction.affine, reference.array.shape, reference.affine)
    if difference:
        advice = "Resample neither: write masks on the image's own grid."
        got = f"a difference in {difference}"
        raise ValueError(
            wrong("evaluate", "prediction", "on the reference's grid", got, path=prediction_file, advice=advice)
        )
    strange = set(map(int, _unique(prediction.array))) - {0, *labels}
    if strange:
        known = ", ".join(map(str, labels))
        got = ", ".join(map(str, sorted(strange)))
        raise ValueError(wrong("evaluate", "prediction", f"of labels 0, {known}", got, path=prediction_file))
    whole = count_overlap(prediction.array, reference.array, list(labels))
    slices: list[list[Any]] = [[] for _ in labels]
    if slice_axis is not None:
        axis = find_slice_axis(reference.affine, slice_axis)
        slices = count_overlap_by_slice(prediction.array, reference.array, list(labels), axis)
    rows = []
    for (label, name), counts, parts in zip(labels.items(), whole, slices, strict=True):
        for metric in METRIC_TABLE.values():
            if metric.by_slice and slice_axis is None:
                continue
            rows.append({
                "case_id": case_id, "label": label, "label_name": name, "decoder": decoder, "metric": metric.name,
                "value": metric.compute(parts if metric.by_slice else [counts]), "unit": metric.unit,
                "status": counts.status, "empty_policy": EMPTY_POLICY, "tp": counts.tp, "fp": counts.fp,
                "fn": counts.fn, "n_reference": counts.num_reference, "n_prediction": counts.num_prediction,
            })  # fmt: skip
    return rows


def _unique(array: Any) -> list[float]:
    import numpy as np

    values: list[float] = np.unique(array).tolist()
    return values


def _pair_rows(rows: Sequence[Mapping[str, Any]], arms: Sequence[str], cluster: str | None) -> list[dict[str, Any]]:
    """Every later decoder against the first, per label and metric, and for the mean over labels."""
    import pandas

    from rankseg_rma.evaluation import compare_pairs
    from rankseg_rma.report.tables import patient_of

    if len(arms) < 2 or not rows:
        return []
    frame = pandas.DataFrame(list(rows))
    macro = frame.groupby(["case_id", "decoder", "metric"], as_index=False)["value"].mean(numeric_only=True)
    frame = pandas.concat([frame, macro.assign(label=0, label_name="mean")])
    paired: list[dict[str, Any]] = []
    for (label, label_name, metric), part in frame.groupby(["label", "label_name", "metric"], sort=False):
        table = part.pivot(index="case_id", columns="decoder", values="value")
        patients = [patient_of(case_id, cluster) for case_id in table.index]
        for second in arms[1:]:
            if not {arms[0], second} <= set(table) or not table[[arms[0], second]].notna().all(axis=1).any():
                continue
            found = compare_pairs(
                table[arms[0]], table[second], clusters=patients, margin=IMPROVEMENT_MARGIN,
                num_resamples=NUM_RESAMPLES, seed=SEED,
            )  # fmt: skip
            paired.append({
                "label": label, "label_name": label_name, "metric": metric, "first": arms[0], "second": second,
                **vars(found), "margin": IMPROVEMENT_MARGIN, "clusters": len(set(patients)),
            })  # fmt: skip
    return paired
