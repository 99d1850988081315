"""The command that scores masks against references."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankseg_rma.checks import wrong
from rankseg_rma.volumes import find_slice_axis, list_volumes, read_volume, same_grid, write_text
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
        name, _, text = ("", "", entry) if Path(entry).is_dir() else entry.rpartition("=")
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
        label_names: names of all labels; another label in a file is an error. Empty: every label that occurs is
            scored under its number.
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
    rows: list[dict[str, Any]] = []
    shared = [case_id for case_id in reference_files if any(case_id in found for found in files.values())]
    pairs = [(case_id, found) for case_id in shared for found in files.values() if case_id in found]
    labels = label_names or _labels_of(
        path for case_id, found in pairs for path in (found[case_id], reference_files[case_id])
    )
    if pairs and not labels:
        advice = "Name the data set with --dataset."
        raise ValueError(wrong("evaluate", "label maps", "with a label above 0", "only empty masks", advice=advice))
    for case_id in track(shared, "evaluating", len(shared)):
        reference = None  # read once for all decoders
        for name, found in files.items():
            if case_id not in found:
                continue
            try:
                reference = reference or _read_labels(reference_files[case_id], "reference", labels)
                prediction = _read_labels(found[case_id], "prediction", labels)
                rows += _score_case(prediction, reference, labels, slice_axis, case_id, name)
            except Exception as error:  # one bad case must not cost the cohort
                outcome.failed[f"{name}/{case_id}"] = describe_failure(error, found[case_id])
    for name, found in files.items():
        for missing, place in (
            (reference_files.keys() - found.keys(), f"no prediction in {arms[name]}"),
            (found.keys() - reference_files.keys(), f"no reference in {references}"),
        ):
            if missing:
                outcome.failed[f"{name}: {len(missing)} with {place}"] = ", ".join(sorted(missing))
        if found and not found.keys() & reference_files.keys():
            mine, theirs = min(found), min(reference_files, default="none")
            outcome.notes.append(
                f"warning: no file names agree; {name} has for example {mine!r}, references {theirs!r}"
            )
    outcome.written.append(write_csv(out / "cases.csv", rows, CASE_COLUMNS))
    paired = _pair_rows(rows, list(arms), cluster)
    (out / "paired.csv").unlink(missing_ok=True)  # of an earlier run
    if paired:
        outcome.written.append(write_csv(out / "paired.csv", paired, PAIRED_COLUMNS))
    for name in arms:
        folder = out / name if len(arms) > 1 else out
        mine = [row for row in rows if row["decoder"] == name]
        if mine:
            outcome.written += write_monai_files(folder, mine, arms[name])
            summary = summarise(mine, files[name], reference_files)
            write_text(folder / "summary.json", json.dumps(summary, indent=1))
            outcome.written.append(folder / "summary.json")
    outcome.notes += describe_scores(rows, paired)
    return outcome


def _labels_of(files: Iterable[Path]) -> dict[int, str]:
    """Foreground labels that occur in any file, named by their number; unreadable files are reported when scored."""
    import numpy as np

    from rankseg_rma.evaluation import as_label_map

    found: set[int] = set()
    for path in files:
        try:
            found |= set(np.unique(as_label_map("label map", read_volume(path).array)).tolist())
        except (ValueError, FileNotFoundError):
            continue
    return {label: str(label) for label in sorted(found - {0})}


@dataclass(frozen=True)
class _LabelMap:
    """Labels (*spatial) of one file, with its affine and path."""

    array: Any
    affine: Any
    path: Path


def _read_labels(path: Path, argument: str, labels: Mapping[int, str]) -> _LabelMap:
    """Read a label map of known labels; a single trailing channel is dropped."""
    import numpy as np

    from rankseg_rma.evaluation import as_label_map

    volume = read_volume(path)
    array = as_label_map(f"{argument} {path}", volume.array)
    strange = sorted(set(np.unique(array).tolist()) - {0, *labels})
    if strange:
        expected, got = f"of labels 0, {', '.join(map(str, labels))}", ", ".join(map(str, strange))
        raise ValueError(wrong("evaluate", argument, expected, got, path=path))
    return _LabelMap(array[0] if array.ndim == 4 and array.shape[0] == 1 else array, volume.affine, path)


def _score_case(
    prediction: _LabelMap,
    reference: _LabelMap,
    labels: Mapping[int, str],
    slice_axis: str | int | None,
    case_id: str,
    decoder: str,
) -> list[dict[str, Any]]:
    from rankseg_rma.evaluation import METRIC_TABLE, count_overlap, count_overlap_by_slice
    from rankseg_rma.evaluation.metric import EMPTY_POLICY

    difference = same_grid(prediction.array.shape, prediction.affine, reference.array.shape, reference.affine)
    if difference:
        advice = "Resample neither: write masks on the image's own grid."
        expected, got = "on the reference's grid", f"a difference in {difference}"
        raise ValueError(wrong("evaluate", "prediction", expected, got, path=prediction.path, advice=advice))
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


def _pair_rows(rows: Sequence[Mapping[str, Any]], arms: Sequence[str], cluster: str | None) -> list[dict[str, Any]]:
    """Every later decoder against the first, per label and metric, and for the mean over labels."""
    import pandas

    from rankseg_rma.datasets import patient_of
    from rankseg_rma.evaluation import compare_pairs

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
