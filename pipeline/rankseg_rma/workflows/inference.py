"""Commands that make masks: from images with a bundle, or from saved probabilities."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankseg_rma.checks import require_number, wrong
from rankseg_rma.report.columns import COLUMNS
from rankseg_rma.volumes import case_id_of, list_volumes, replacing, write_text, write_volume
from rankseg_rma.workflows.outcome import (
    Outcome,
    describe_failure,
    peak_memory_bytes,
    restart_peak_memory,
    track,
    write_csv,
)


def choose_temperature(given: str | None, stored: float | None) -> tuple[float | None, str]:
    """Temperature and where it comes from.

    Args:
        given: what the user said: "none", a number, the path of a temperature file, or None for the stored one.
        stored: the temperature stored beside model or probabilities, if any.
    Returns:
        (temperature or None, "stored" | "given" | "none").
    """
    if given is None:
        return stored, "none" if stored is None else "stored"
    if given.lower() == "none":
        return None, "none"
    try:
        number = float(given)
    except ValueError:
        from rankseg_rma.bundles import read_temperature

        return read_temperature(given), "given"
    from rankseg_rma.transforms import TEMPERATURE_RANGE

    return require_number("infer", "temperature", number, *TEMPERATURE_RANGE), "given"


def infer_cases(
    bundle_root: Path,
    inputs: Sequence[Path] | Mapping[str, Path],
    out: Path,
    decoders: tuple[str, ...],
    options: Any,
    temperature: str | None,
    save_probabilities: bool,
    device: str | None,
) -> Outcome:
    """Run a bundle over images, decode on the native grid, and write masks and inference.csv.

    Args:
        bundle_root: finished bundle; its config runs as code.
        inputs: image files and folders of images, or image files by case id; photographs for a bundle of them.
        out: gets a folder of masks per decoder, and inference.csv.
        decoders: some of "argmax", "rma".
        options: `inference.DecodeOptions`; its temperature is set here.
        temperature: as for `choose_temperature`.
        save_probabilities: also write the probabilities, before temperature, as 4D NIfTI.
        device: torch device; None takes CUDA where there is one.
    """
    from rankseg_rma.bundles import TEMPERATURE_FILE, find_card, find_kind, open_bundle
    from rankseg_rma.inference import predict_probabilities
    from rankseg_rma.probabilities import write_probabilities
    from rankseg_rma.workflows.photographs import find_photographs, infer_photographs

    is_image = (bundle_root / "configs" / "inference.yaml").is_file() and find_kind(bundle_root) == "image"
    find = find_photographs if is_image else find_inputs
    images = dict(inputs) if isinstance(inputs, Mapping) else find(inputs)
    bundle = open_bundle(bundle_root, device)
    chosen, source = choose_temperature(temperature, bundle.temperature)
    if is_image:
        outcome = Outcome(out, _tell_temperature(decoders, chosen, source))
        options, card = replace(options, temperature=chosen), find_card(bundle_root)
        return infer_photographs(bundle, card, images, out, decoders, options, save_probabilities, outcome)
    folder = out / "probabilities"
    if save_probabilities:
        write_text(folder / "labels.json", json.dumps(bundle.label_names))
    if save_probabilities and (bundle_root / TEMPERATURE_FILE).is_file():
        with replacing(folder / "temperature.json") as temporary:
            shutil.copyfile(bundle_root / TEMPERATURE_FILE, temporary)

    def predict(case_id: str, path: Path) -> Any:
        probabilities = predict_probabilities(bundle, path)
        if save_probabilities:
            write_probabilities(folder / f"{case_id}.nii.gz", probabilities)
        return probabilities

    options = replace(options, temperature=chosen)
    return _decode_cases(images, predict, out, decoders, options, source, bundle.label_names)


def decode_probabilities(
    inputs: Sequence[Path], out: Path, decoders: tuple[str, ...], options: Any, temperature: str | None
) -> Outcome:
    """Decode saved probability volumes; arguments as `infer_cases`.

    A temperature.json and the names in a labels.json beside the probabilities are used by default.
    """
    volumes = find_inputs(inputs)
    from rankseg_rma.bundles import read_temperature
    from rankseg_rma.probabilities import read_probabilities

    folders = sorted({path.parent for path in volumes.values()})
    files = [folder / "temperature.json" for folder in folders]
    stored = [read_temperature(path) for path in files if path.is_file()] if temperature is None else []
    if len(set(stored)) > 1 or (stored and len(stored) < len(files)):
        advice = "Give --temperature, or decode the folders one by one."
        raise ValueError(wrong("decode", "temperature", "one for all inputs", "folders that differ", advice=advice))
    chosen, source = choose_temperature(temperature, stored[0] if stored else None)
    options = replace(options, temperature=chosen)
    shared = read_label_names(folders)
    return _decode_cases(
        volumes, lambda case_id, path: read_probabilities(path), out, decoders, options, source, shared
    )


def read_label_names(folders: Sequence[Path]) -> list[str]:
    """Names of the foreground labels from the labels.json of every folder; none unless all agree."""
    named = [folder / "labels.json" for folder in folders]
    names = [json.loads(path.read_text(encoding="utf-8")) for path in named if path.is_file()]
    return list(names[0]) if len(names) == len(folders) and all(name == names[0] for name in names) else []


def find_inputs(inputs: Sequence[Path]) -> dict[str, Path]:
    """Image files by case id, from files and folders.

    Raises:
        FileNotFoundError: a path does not exist, or there is no image at all.
        ValueError: two files have the same case id.
    """
    expected = "a folder with .nii.gz, .nii, .mha or .nrrd files"
    return collect_files("find_inputs", "case ids", inputs, _volumes_in, expected)


def _volumes_in(path: Path) -> Iterable[tuple[str, Path]]:
    return (list_volumes(path) if path.is_dir() else {case_id_of(path): path}).items()


def collect_files(
    function: str,
    ids: str,
    inputs: Sequence[Path],
    files_in: Callable[[Path], Iterable[tuple[str, Path]]],
    expected: str,
) -> dict[str, Path]:
    """Files by id.

    Args:
        function: who asks, for the messages.
        ids: what the messages call the ids.
        inputs: files and folders.
        files_in: ids and files of one of them.
        expected: what an input should be.
    Raises:
        FileNotFoundError: an input does not exist, or there is no file at all.
        ValueError: two files have the same id.
    """
    found: dict[str, Path] = {}
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(wrong(function, "input", "an existing file or folder", path))
        for case_id, file in files_in(path):
            if case_id in found:
                got = f"{found[case_id]} and {file}"
                raise ValueError(wrong(function, ids, "unique", got, case_id=case_id))
            found[case_id] = file
    if not found:
        raise FileNotFoundError(wrong(function, "input", expected, ", ".join(map(str, inputs)) or "nothing"))
    return found


def _decode_cases(
    cases: Mapping[str, Path],
    load: Callable[[str, Path], Any],
    out: Path,
    decoders: tuple[str, ...],
    options: Any,
    source: str,
    names: Sequence[str],
) -> Outcome:
    """Decode every case that ``load`` gives, write its masks and the rows of inference.csv."""
    from rankseg_rma.inference import decode

    outcome = Outcome(out, _tell_temperature(decoders, options.temperature, source))
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
        shared = {
            "case_id": case_id, "metric": options.metric, "unit": options.unit,
            "temperature": options.temperature or 1.0, "temperature_source": source,
            "seconds": round(time.perf_counter() - started, 4), "peak_memory_bytes": peak_memory_bytes(),
        }  # fmt: skip
        for row in scores:
            place = row["label"] - 1
            if {"argmax", "rma"} <= set(decoders):
                row = {**row, "expected_gain": row["expected_score_rma"] - row["expected_score_argmax"]}
            rows.append({**shared, **row, "label_name": names[place] if place < len(names) else str(row["label"])})
    outcome.written.append(write_csv(out / "inference.csv", rows, COLUMNS["inference.csv"]))
    outcome.notes += _warnings(rows, cases, out, decoders)
    return outcome


def _tell_temperature(decoders: tuple[str, ...], temperature: float | None, source: str) -> list[str]:
    if "rma" not in decoders:
        return []
    if temperature is not None:
        return [f"RMA decodes at temperature {temperature:.3f} ({source})"]
    return [
        "warning: no temperature is used, so RMA takes the probabilities as they are. Training fits one on "
        "validation cases; --temperature gives one."
    ]


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
