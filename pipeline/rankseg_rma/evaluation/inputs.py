"""Which masks are scored against which references."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

from rankseg_rma.checks import wrong
from rankseg_rma.datasets.volume_layouts import is_case_folder, list_numbered
from rankseg_rma.decoder.arms import DECODERS
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.structures import CaseFiles
from rankseg_rma.files.listing import is_dangling, is_there
from rankseg_rma.files.names import compose, match_cases
from rankseg_rma.files.probabilities import refuse_overlapping
from rankseg_rma.files.volumes import list_volumes, read_grid
from rankseg_rma.grid import Grid
from rankseg_rma.runs.outcome import Outcome

RESERVED = ("reference", "expected", "mean", "probabilities", "figures", "masks", ".", "..", "")


def find_arms(predictions: Sequence[str]) -> dict[str, Path]:
    """Folders of masks by decoder name.

    Args:
        predictions: each ``DIR`` or ``NAME=DIR``. A folder with masks in it is one decoder, named after the folder; a
            folder that holds only folders named argmax and rma (as `infer` writes) is one decoder each.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: a name is used twice, has another meaning here, or is no plain file name.
    """
    arms: dict[str, Path] = {}
    for entry in predictions:
        # A folder's own name may have an equals sign.
        name, _, text = ("", "", entry) if Path(entry).is_dir() else entry.partition("=")
        folder = Path(text) if text else Path(entry)
        if not folder.is_dir():
            raise FileNotFoundError(wrong("evaluate", "predictions", "an existing folder", folder))
        inner = [
            path for path in sorted(folder.iterdir()) if (path.is_dir() or is_dangling(path)) and path.name in DECODERS
        ]
        chosen = (
            {path.name: path for path in inner}
            if inner and not list_volumes(folder)
            else {folder.resolve().name: folder}
        )
        if name and len(chosen) > 1:
            advice = f"Name one of {', '.join(chosen)}: {name}={folder / next(iter(chosen))}"
            raise ValueError(wrong("evaluate", "predictions", "one folder of masks to name", folder, advice=advice))
        for decoder, path in chosen.items():
            arms[_free_name(name or decoder, arms)] = path
    return arms


def _free_name(name: str, taken: Collection[str]) -> str:
    """The name of a decoder: it becomes a folder's name, and a value in tables that know a few words of their own."""
    if name in taken:
        raise ValueError(wrong("evaluate", "predictions", "of different names", name, advice="Use NAME=DIR."))
    plain = Path(name).name == name and not name.endswith((".csv", ".json", ".html"))
    if not plain or name.lower() in RESERVED:
        expected = f"named by a plain word that is none of {', '.join(RESERVED)}"
        raise ValueError(wrong("evaluate", "predictions", expected, repr(name), advice="Use NAME=DIR."))
    return name


def list_references(folder: Path, predicted: Collection[str] = ()) -> dict[str, Path]:
    """Reference label maps by case id: files of a folder, or KiTS' ``case_00000/segmentation.nii.gz``.

    Where all files are so named, LiTS' ``segmentation-7.nii`` is that of case volume-7, also in the download's folders;
    unless ``predicted``, the ids of the predictions, have the reference's own name.

    Raises:
        FileNotFoundError: no such folder, or no label map in it.
    """
    found = list_volumes(folder)
    if all(re.fullmatch(r"(volume|segmentation)-\d+", case_id) for case_id in found):
        lits = {f"volume-{number}": path for number, path in list_numbered(folder, "segmentation").items()}
        if lits and not any(case_id.startswith("segmentation-") for case_id in predicted):
            return lits
    if not found:
        found = _label_of_folders(folder)
    if not found:
        inner = [path.name for path in sorted(folder.glob("label*")) if path.is_dir()]
        advice = f"Did you mean {folder / inner[0]}?" if inner else ""
        raise FileNotFoundError(wrong("evaluate", "references", "a folder with label maps", folder, advice=advice))
    return found


def _label_of_folders(folder: Path) -> dict[str, Path]:
    """KiTS' segmentation.nii.gz by case; a case that is a link to nowhere is listed, for reading it says so."""
    labels = {compose(path.name): path / "segmentation.nii.gz" for path in sorted(folder.iterdir())}
    found = {name: path for name, path in labels.items() if is_there(path) and not name.startswith(".")}
    missing = {name: path for name, path in labels.items() if is_dangling(path.parent) and is_case_folder(path.parent)}
    return dict(sorted((found | missing).items())) if found else {}


def require_own_folder(out: Path, inputs: Sequence[Path]) -> None:
    """Say before the work that nothing can be written, or that it would land among the inputs."""
    if any(out.resolve() == folder.resolve() for folder in inputs):
        raise ValueError(wrong("evaluate", "out", "a folder of its own", out, advice="It is one of the inputs."))
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Tried, for permissions do not tell of a file system that is full or read-only.
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        got = f"{out} ({error.strerror or error})"
        raise ValueError(wrong("evaluate", "out", "a folder that can be written", got)) from error


def with_known_ids(options: EvaluationOptions, known: Collection[str]) -> EvaluationOptions:
    """The options, with the cohort's case ids as the references have them."""
    if options.only is None:
        return options
    composed = {compose(case_id): case_id for case_id in options.only}
    return replace(options, only=set(match_cases(composed, known)))


def wanted_ids(case_id: str, options: EvaluationOptions) -> bool:
    return options.only is None or case_id in options.only


def read_grids(files: Iterable[Path]) -> dict[Path, Grid]:
    """Grids of the files whose header can be read; the others are named when they are scored."""
    grids = {}
    for path in files:
        with suppress(ValueError, FileNotFoundError):
            grids[path] = read_grid(path)
    return grids


def pair_files(
    chosen: Sequence[str],
    reference_files: Mapping[str, Path],
    files: Mapping[str, Mapping[str, Path]],
    options: EvaluationOptions,
    outcome: Outcome,
) -> list[CaseFiles]:
    probabilities, temperature = {}, None
    if options.probabilities is not None:
        refuse_overlapping("evaluate", [options.probabilities])
        probabilities = match_cases(list_volumes(options.probabilities), reference_files)
        temperature = temperature_beside(options.probabilities)
        absent = sorted(set(chosen) - set(probabilities))
        if absent:
            outcome.failed[f"{len(absent)} with no probabilities in {options.probabilities}"] = ", ".join(absent)
    cases = []
    for case_id in chosen:
        mine = {name: found[case_id] for name, found in files.items() if case_id in found}
        if mine:
            cases.append(CaseFiles(case_id, reference_files[case_id], mine, probabilities.get(case_id), temperature))
    return cases


def temperature_beside(probabilities: Path) -> float | None:
    """The temperature that lies in a folder of probabilities; None where there is none.

    Raises:
        DatasetError: as `read_temperature`.
    """
    from rankseg_rma.files.temperature import read_temperature

    stored = probabilities / "temperature.json"
    return read_temperature(stored) if is_there(stored) else None


def find_missing(
    chosen: Sequence[str],
    files: Mapping[str, Mapping[str, Path]],
    arms: Mapping[str, Path],
    references: Path,
    options: EvaluationOptions,
    outcome: Outcome,
) -> dict[str, list[str]]:
    """Say which cases lack a prediction, by decoder, or a reference, under "reference"."""
    missing: dict[str, list[str]] = {}
    absent = set(options.only or ()) - set(chosen) if options.limit is None else set()
    whole = options.only is None and options.limit is None
    for name, found in files.items():
        without = sorted(set(chosen) - set(found))
        if without:
            outcome.failed[f"{name}: {len(without)} with no prediction in {arms[name]}"] = ", ".join(without)
            missing[name] = without
        extra = sorted(set(found) - set(chosen)) if whole else []
        if extra:
            outcome.failed[f"{name}: {len(extra)} with no reference in {references}"] = ", ".join(extra)
            absent |= set(extra)
        if found and not set(found) & set(chosen):
            mine, theirs = min(found), min(chosen, default="none")
            outcome.notes.append(
                f"warning: no file names agree; {name} has for example {mine!r}, references {theirs!r}"
            )
    unknown = sorted(set(options.only or ()) & absent)
    if unknown:
        outcome.failed[f"{len(unknown)} with no reference in {references}"] = ", ".join(unknown)
    if absent:
        missing["reference"] = sorted(absent)
    return missing
