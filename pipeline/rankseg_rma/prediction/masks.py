"""Masks of saved probabilities, with their expected scores; needs neither a network nor MONAI."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankseg_rma.checks import wrong
from rankseg_rma.decoder.arms import DecodedArm, Expectation, decode_arms, expect
from rankseg_rma.decoder.temperature import scale_probabilities
from rankseg_rma.files.listing import is_there
from rankseg_rma.files.probabilities import Probabilities, read_kind, read_label_names, read_probabilities
from rankseg_rma.files.temperature import read_temperature
from rankseg_rma.files.volumes import list_volumes, write_volume
from rankseg_rma.grid import find_slice_axis, voxel_volume_ml
from rankseg_rma.prediction.inputs import find_inputs
from rankseg_rma.prediction.policy import DecodeOptions, arms_of, choose_temperature, tell_temperature
from rankseg_rma.runs.outcome import Outcome, describe_failure
from rankseg_rma.runs.progress import peak_memory_bytes, restart_peak_memory, track
from rankseg_rma.tables.store import write_table


def decode(
    probabilities: Probabilities, decoders: tuple[str, ...], options: DecodeOptions
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Label maps of each decoder, and what each mask is expected to score.

    Args:
        probabilities: native-grid probabilities before temperature.
        decoders: some of "argmax" and "rma".
        options: metric, unit and temperature; the temperature does not touch argmax's mask.
    Returns:
        uint8 (or wider) label maps (*spatial), or bool masks (class, *spatial) of classes that may overlap, by decoder;
        and one row per foreground label, which overlapping classes are all: label, mass of its probabilities and each
        decoder's expected score and volume. Scores of both masks are taken under the same, scaled probabilities; with
        unit="slice" they are means over the slices where the class is to be expected.
    """
    held, multilabel = probabilities.probs, probabilities.multilabel
    axis = find_slice_axis(probabilities.affine, options.slice_axis) if options.unit == "slice" else -1
    decoded, told = decode_and_expect("decode", held, decoders, options, axis, multilabel=multilabel)
    voxel_ml = voxel_volume_ml(probabilities.affine)
    # Of a single class and of overlapping ones, the first is foreground too.
    first = 0 if len(held) == 1 or multilabel else 1
    rows = []
    for index in range(first, len(held)):
        row: dict[str, Any] = {"label": index + 1 - first, "expected_volume_ml": told.mass[index] * voxel_ml}
        for name in decoded:
            row[f"expected_score_{name}"] = float(told.scores[name][index])
            row[f"volume_{name}_ml"] = int(told.counts[name][index]) * voxel_ml
        rows.append(row)
    return {name: arm.labels for name, arm in decoded.items()}, rows


def decode_and_expect(
    function: str,
    probs: Any,
    decoders: tuple[str, ...],
    options: DecodeOptions,
    slice_axis: int,
    *,
    multilabel: bool = False,
) -> tuple[dict[str, DecodedArm], Expectation]:
    """Masks of each decoder, and what the scaled probabilities expect of them.

    Args:
        function: who asks, for the messages.
        probs: (class, *spatial) tensor before temperature.
        decoders: some of "argmax" and "rma".
        options: metric, unit, rules and temperature.
        slice_axis: spatial axis of the slices, for unit="slice".
        multilabel: the classes may overlap.
    """
    scaled = scale_probabilities(probs, options.temperature or 1.0, multilabel=multilabel, function=function)
    arms = arms_of(decoders, options, slice_axis, multilabel=multilabel)
    # Argmax needs no scaling, which keeps the order of the classes.
    decoded = decode_arms(probs, scaled, arms, multilabel=multilabel)
    return decoded, expect(scaled, decoded, options.metric, unit=options.unit, slice_axis=slice_axis)


def decode_probabilities(
    inputs: Sequence[Path],
    out: Path,
    decoders: tuple[str, ...],
    options: DecodeOptions,
    temperature: str | None,
    multilabel: bool | None = None,
) -> Outcome:
    """Decode saved probability volumes.

    A temperature.json and the names in a labels.json beside the probabilities are used by default.

    Args:
        inputs: 4D NIfTI files and folders of them.
        out: as for `infer_cases`.
        decoders: as for `infer_cases`.
        options: as for `infer_cases`.
        temperature: as for `infer_cases`.
        multilabel: the classes may overlap; None: as it is said beside the probabilities.
    """
    volumes = find_inputs(inputs)
    folders = sorted({path.parent for path in volumes.values()})
    files = [folder / "temperature.json" for folder in folders]
    stored = [read_temperature(path) for path in files if is_there(path)] if temperature is None else []
    # A folder without a temperature would get that of another in silence.
    if len(set(stored)) > 1 or (stored and len(stored) < len(files)):
        advice = "Give --temperature, or decode the folders one by one."
        raise ValueError(wrong("decode", "temperature", "one for all inputs", "folders that differ", advice=advice))
    chosen, source = choose_temperature(temperature, stored[0] if stored else None)
    options = replace(options, temperature=chosen)
    shared = read_label_names(folders)
    kinds = {folder: read_kind(folder) if multilabel is None else multilabel for folder in folders}

    def load(case_id: str, path: Path) -> Probabilities:
        return read_probabilities(path, multilabel=kinds[path.parent])

    return decode_cases(volumes, load, out, decoders, options, source, shared)


def decode_cases(
    cases: Mapping[str, Path],
    load: Callable[[str, Path], Probabilities],
    out: Path,
    decoders: tuple[str, ...],
    options: DecodeOptions,
    source: str,
    names: Sequence[str],
) -> Outcome:
    """Decode every case that ``load`` gives, write its masks and the rows of inference.csv."""

    outcome = Outcome(out, tell_temperature(decoders, options.temperature, source))
    rows: list[dict[str, Any]] = []
    for case_id, path in track(cases.items(), "decoding", len(cases)):
        started = time.perf_counter()
        restart_peak_memory()
        try:
            probabilities = load(case_id, path)
            masks, scores = decode(probabilities, decoders, options)
            for name, mask in masks.items():
                write_volume(out / name / f"{case_id}.nii.gz", mask, probabilities.affine, probabilities.header)
        except Exception as error:  # one bad case must not cost the cohort
            outcome.failed[case_id] = describe_failure(error, path)
            continue
        shared = shared_columns(case_id, options, source, started)
        for row in scores:
            place = row["label"] - 1
            label_name = names[place] if place < len(names) else str(row["label"])
            rows.append({**shared, **with_gain(row), "label_name": label_name})
    outcome.written.append(write_table(out / "inference.csv", rows))
    outcome.notes += _warnings(rows, cases, out, decoders)
    return outcome


def shared_columns(case_id: str, options: DecodeOptions, source: str, started: float) -> dict[str, Any]:
    """Columns that all rows of a case share; ``started`` is what `time.perf_counter` said before it."""
    return {
        "case_id": case_id, "metric": options.metric, "score_over": options.unit,
        "temperature": options.temperature or 1.0, "temperature_source": source,
        "seconds": round(time.perf_counter() - started, 4), "peak_memory_bytes": peak_memory_bytes(),
    }  # fmt: skip


def with_gain(row: dict[str, Any]) -> dict[str, Any]:
    """The row, with RMA's expected gain where both decoders are in it."""
    if not {"expected_score_argmax", "expected_score_rma"} <= row.keys():
        return row
    return {**row, "expected_gain": row["expected_score_rma"] - row["expected_score_argmax"]}


def _warnings(
    rows: Sequence[Mapping[str, Any]], cases: Mapping[str, Path], out: Path, decoders: tuple[str, ...]
) -> list[str]:
    """What a reader should look at before trusting the masks."""
    found = []
    for name in sorted({row["label_name"] for row in rows} if len(decoders) > 1 else ()):
        mine = [row for row in rows if row["label_name"] == name and row["volume_argmax_ml"] > 0]
        large = [row for row in mine if row["volume_rma_ml"] > 1.5 * row["volume_argmax_ml"]]
        if mine and len(large) > len(mine) / 2:
            found.append(
                f"warning: in {len(large)} of {len(mine)} cases RMA's mask of {name} is more than 1.5 times as large "
                "as argmax's. Either the structure is very uncertain or the probabilities are too soft: check on "
                "validation cases with `rankseg-rma evaluate`."
            )
    for decoder in decoders:
        others = sorted(set(list_volumes(out / decoder)) - set(cases)) if (out / decoder).is_dir() else []
        if others:
            found.append(f"warning: {out / decoder} holds {len(others)} masks of another run, for example {others[0]}")
    return found
