"""The command that scores masks against references."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.datasets import patient_of
from rankseg_rma.datasets.volume_layouts import list_numbered
from rankseg_rma.evaluation import EMPTY_POLICIES, find_metric, list_metrics
from rankseg_rma.volumes import Grid, list_volumes, read_grid, spacing_of
from rankseg_rma.workflows import protocols
from rankseg_rma.workflows.comparison import MACRO
from rankseg_rma.workflows.outcome import DECODERS, Outcome, track
from rankseg_rma.workflows.parallel import choose_workers, run_cases
from rankseg_rma.workflows.scoring import CaseFiles, CaseScores, ScorePlan, Structure, add_absent, score_case

GROUPS = ("overlap", "volume", "slice", "surface", "lesion", "size")
RESERVED = ("reference", "expected", "mean", "probabilities", "figures", "masks", ".", "..", "")
_LESION_WORDS = ("tumo", "lesion", "cyst", "metast", "nodul", "mass", "cancer", "infarct", "hemorrh", "haemorrh")


@dataclass(frozen=True)
class EvaluationOptions:
    """What to score and how.

    Attributes:
        label_names: names of all labels; another label in a file is an error. Empty: every label that occurs is
            scored under its number.
        regions: unions of labels by name, scored beside the labels.
        lesions: names or numbers of the labels and regions whose components are lesions; None takes those with a
            name like tumour, lesion or cyst, and all where labels have no names.
        organ: labels of the organ of the tumour burden; None takes the only named label that is no lesion.
        surface: score surfaces.
        slices: score slices too.
        slice_axis: "axial", "coronal", "sagittal" or an array axis: of slices, and of the axial diameter.
        tolerances_mm: tolerances of surface Dice.
        edge_is_inside: a mask has no surface where it touches the volume's edge (CHAOS); MONAI and medpy count one.
        connectivity: of lesions, 26 or 6.
        empty_policy: key of `EMPTY_POLICIES`; None takes the protocol's, else "kits".
        protocol: None, "kits23", "lits" or "nnunet".
        metric: score that the report is about.
        cluster: regular expression whose first group in a case id names the patient, or "pair"; None: every case alone.
        only: case ids of the cohort; None takes all references.
        limit: score the first so many cases only; the result is marked partial.
        probabilities: folder of probability volumes to judge the calibration of.
        images: folder of images, for the pictures of the report.
        workers: processes; None takes one per core for large cohorts. More than one need the calling script to guard
            its main part with ``if __name__ == "__main__"``, as Python's multiprocessing does.
        report: write report.html and figures.
        window: grey values shown as black and white in its pictures; None chooses.
        title: its heading.
    """

    label_names: Mapping[int, str] = field(default_factory=dict)
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lesions: Sequence[str] | None = None
    organ: tuple[int, ...] | None = None
    surface: bool = True
    slices: bool = False
    slice_axis: str | int = "axial"
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    edge_is_inside: bool = False
    connectivity: int = 26
    empty_policy: str | None = None
    protocol: str | None = None
    metric: str = "dice"
    cluster: str | None = None
    only: Collection[str] | None = None
    limit: int | None = None
    probabilities: Path | None = None
    images: Path | None = None
    workers: int | None = 1
    report: bool = False
    window: tuple[float, float] | None = None
    title: str = "Masks against references"


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
        name, _, text = ("", "", entry) if Path(entry).is_dir() else entry.partition("=")
        folder = Path(text) if text else Path(entry)
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
        found = {path.parent.name: path for path in sorted(folder.glob("*/segmentation.nii.gz"))}
    if not found:
        inner = [path.name for path in sorted(folder.glob("label*")) if path.is_dir()]
        advice = f"Did you mean {folder / inner[0]}?" if inner else ""
        raise FileNotFoundError(wrong("evaluate", "references", "a folder with label maps", folder, advice=advice))
    return found


def evaluate_masks(
    predictions: Sequence[str] | Mapping[str, Path],
    references: Path,
    out: Path,
    options: EvaluationOptions,
    outcome: Outcome | None = None,
) -> Outcome:
    """Score folders of masks against references; `report.columns` says what is written.

    Args:
        predictions: as for `find_arms`, or what it returns.
        references: as for `list_references`; paired with predictions by case id.
        out: folder to fill.
        options: what to score.
        outcome: what was written and what failed on the way to these masks; None for nothing.
    """
    from rankseg_rma.workflows.outputs import ScoredCohort, write_outputs

    arms = dict(predictions) if isinstance(predictions, Mapping) else find_arms(predictions)
    predicted = {case_id for folder in arms.values() for case_id in list_volumes(folder)}
    reference_files = list_references(references, predicted)
    if options.images is not None:
        list_volumes(options.images)  # a wrong folder is said before the work, not after it
    outcome = outcome or Outcome(out)
    _require_own_folder(out, [references, *arms.values()])
    chosen = [case_id for case_id in reference_files if _wanted(case_id, options)][: options.limit]
    for case_id in chosen:
        patient_of(case_id, options.cluster)  # so is a rule that does not fit
    files = {
        name: {case_id: path for case_id, path in list_volumes(folder).items() if _wanted(case_id, options)}
        for name, folder in arms.items()
    }
    grids = _read_grids(reference_files[case_id] for case_id in chosen)
    plan = make_plan(options, {spacing_of(grid.affine) for grid in grids.values()})
    cases = _pair_files(chosen, reference_files, files, options, outcome)
    missing = _find_missing(chosen, files, arms, references, options, outcome)
    num_voxels = len(arms) * sum(prod(grids[case.reference].shape) for case in cases if case.reference in grids)
    workers = choose_workers(len(cases), num_voxels, options.workers)
    results = list(track(run_cases(partial(score_case, plan=plan), cases, workers, _dead), "evaluating", len(cases)))
    for case in results:
        outcome.failed |= {f"{decoder}/{case.case_id}": reason for decoder, reason in case.failed.items()}
    structures = _fill_absent(results, plan)
    outcome.notes += _describe_ghosts(results, structures)
    if not structures and any(case.arms for case in results):
        advice = "Name the data set with --dataset."
        raise ValueError(wrong("evaluate", "label maps", "with a label above 0", "only empty masks", advice=advice))
    write_outputs(ScoredCohort(results, structures, arms, files, reference_files, missing, options, plan), outcome)
    return outcome


def _require_own_folder(out: Path, inputs: Sequence[Path]) -> None:
    """Say before the work that nothing can be written, or that it would land among the inputs."""
    if any(out.resolve() == folder.resolve() for folder in inputs):
        raise ValueError(wrong("evaluate", "out", "a folder of its own", out, advice="It is one of the inputs."))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        got = f"{out} ({error.strerror or error})"
        raise ValueError(wrong("evaluate", "out", "a folder that can be written", got)) from error


def _wanted(case_id: str, options: EvaluationOptions) -> bool:
    return options.only is None or case_id in options.only


def make_plan(options: EvaluationOptions, spacings_mm: Iterable[tuple[float, ...]]) -> ScorePlan:
    """Structures and metric groups from the options; ``spacings_mm`` are the voxel sizes of the cohort."""
    protocol = options.protocol
    if protocol is not None:
        require_one_of("evaluate", "protocol", protocol, protocols.PROTOCOLS)
    policy = options.empty_policy or ("nnunet" if protocol == "nnunet" else "kits")
    require_one_of("evaluate", "empty", policy, EMPTY_POLICIES)
    if options.connectivity not in (6, 26):
        raise ValueError(wrong("evaluate", "connectivity", "6 or 26", options.connectivity))
    tolerances = tuple(dict.fromkeys(options.tolerances_mm))
    for tolerance in tolerances:
        find_metric(f"nsd_{tolerance:.12g}mm")
    structures, known = _structures(options, tolerances)
    surface = options.surface or protocol == "kits23"
    groups = tuple(
        group for group in GROUPS if (group != "slice" or options.slices) and (group != "surface" or surface)
    )
    if not find_metric(options.metric).better:
        raise ValueError(wrong("evaluate", "metric", "one that has a better direction", options.metric))
    names = [metric.name for metric in list_metrics(groups, structures[0].tolerances_mm if structures else tolerances)]
    require_one_of("evaluate", "metric", options.metric, names)
    used = {tolerance for structure in structures or () for tolerance in structure.tolerances_mm} | set(tolerances)
    return ScorePlan(
        structures=structures, known=known, tolerances_mm=tolerances, groups=groups, empty_policy=policy,
        slice_axis=options.slice_axis, edge_is_inside=options.edge_is_inside,
        connectivity=6 if protocol == "lits" else options.connectivity,
        organ=_organ(options, structures), lits=protocol == "lits",
        areas_mm2=_surface_areas(spacings_mm) if surface and used else {},
    )  # fmt: skip


def _structures(
    options: EvaluationOptions, tolerances: tuple[float, ...]
) -> tuple[tuple[Structure, ...] | None, frozenset[int] | None]:
    """Labels and regions to score, and the labels that may occur; None where the files tell."""
    if options.protocol in ("kits23", "lits"):
        given = [name for name in ("label_names", "regions", "lesions", "organ") if getattr(options, name)]
        if given:
            advice = f"--protocol {options.protocol} sets them itself: leave out --dataset, --labels and the like."
            raise ValueError(wrong("evaluate", "labels", "those of the protocol", ", ".join(given), advice=advice))
        if options.protocol == "kits23":
            return protocols.KITS23_REGIONS, frozenset({1, 2, 3})
        return tuple(Structure(*entry, tolerances) for entry in protocols.LITS_STRUCTURES), frozenset({1, 2})
    parts = [(str(label), name, (label,)) for label, name in options.label_names.items()]
    regions = [("+".join(map(str, members)), name, members) for name, members in options.regions.items()]
    if not parts and not regions:
        return None, None
    both = parts + regions
    unnamed = sorted({member for _, _, members in regions for member in members} - set(options.label_names))
    unnamed += sorted(set(options.organ or ()) - set(options.label_names))
    if parts and unnamed:
        expected, got = f"of labels {', '.join(key for key, _, _ in parts)}", ", ".join(map(str, unnamed))
        raise ValueError(wrong("evaluate", "regions and organ", expected, got))
    if MACRO in {name for _, name, _ in both}:
        raise ValueError(wrong("evaluate", "labels and regions", f"not named {MACRO}", MACRO))
    if len({key for key, _, _ in both}) < len(both) or len({name for _, name, _ in both}) < len(both):
        got = ", ".join(f"{name} = {key}" for key, name, _ in both)
        raise ValueError(wrong("evaluate", "labels and regions", "each named once", got))
    names = {name for _, name, _ in both} | {key for key, _, _ in both}
    for lesion in options.lesions or ():
        require_one_of("evaluate", "lesions", lesion, sorted(names))

    def is_lesion(key: str, name: str) -> bool:
        if options.lesions is not None:
            return name in options.lesions or key in options.lesions
        return any(word in name.lower() for word in _LESION_WORDS)

    found = tuple(Structure(key, name, members, is_lesion(key, name), tolerances) for key, name, members in both)
    return found, frozenset(options.label_names) if parts else None


def _organ(options: EvaluationOptions, structures: Sequence[Structure] | None) -> tuple[int, ...]:
    if options.organ is not None:
        return options.organ
    if options.protocol == "lits":
        return (1,)
    plain = [structure for structure in structures or () if len(structure.members) == 1]
    organs = [structure for structure in plain if not structure.is_lesion]
    return organs[0].members if len(organs) == 1 and len(plain) > 1 else ()


def _surface_areas(spacings_mm: Iterable[tuple[float, ...]]) -> dict[tuple[float, ...], Any]:
    """Surface area of each of the 256 neighbourhood codes for every voxel size, in mm2."""
    import numpy as np
    from monai.metrics.utils import create_table_neighbour_code_to_surface_area

    return {spacing: np.asarray(create_table_neighbour_code_to_surface_area(spacing)[0]) for spacing in spacings_mm}


def _read_grids(files: Iterable[Path]) -> dict[Path, Grid]:
    """Grids of the files whose header can be read; the others are named when they are scored."""
    grids = {}
    for path in files:
        with suppress(ValueError, FileNotFoundError):
            grids[path] = read_grid(path)
    return grids


def _pair_files(
    chosen: Sequence[str],
    reference_files: Mapping[str, Path],
    files: Mapping[str, Mapping[str, Path]],
    options: EvaluationOptions,
    outcome: Outcome,
) -> list[CaseFiles]:
    probabilities, temperature = {}, None
    if options.probabilities is not None:
        from rankseg_rma.bundles import read_temperature

        probabilities = list_volumes(options.probabilities)
        stored = options.probabilities / "temperature.json"
        temperature = read_temperature(stored) if stored.is_file() else None
        absent = sorted(set(chosen) - set(probabilities))
        if absent:
            outcome.failed[f"{len(absent)} with no probabilities in {options.probabilities}"] = ", ".join(absent)
    cases = []
    for case_id in chosen:
        mine = {name: found[case_id] for name, found in files.items() if case_id in found}
        if mine:
            cases.append(CaseFiles(case_id, reference_files[case_id], mine, probabilities.get(case_id), temperature))
    return cases


def _find_missing(
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


def _dead(case: CaseFiles) -> CaseScores:
    reason = "the process that scored it was killed, most likely for lack of memory; try --workers 1"
    return CaseScores(case.case_id, failed=dict.fromkeys(case.predictions, reason))


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
    structures = [Structure(key, key, (int(key),), True, plan.tolerances_mm) for key in sorted(seen, key=int)]
    for arm in arms:
        mine = {row["label"] for row in arm.rows}
        add_absent(arm, [one for one in structures if one.key not in mine], plan)
    return structures
