"""Commands on data sets: check one, make the phantom."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.datasets import Card, Case, DatasetCard, list_cases, load_card, part_cases
from rankseg_rma.datasets.cards import PARTS
from rankseg_rma.images import VOID, read_classes, read_image, read_slice
from rankseg_rma.volumes import read_volume, same_grid
from rankseg_rma.workflows.outcome import Outcome, progress_bar, track
from rankseg_rma.workflows.parallel import choose_workers, run_cases

_CHUNK = 2**22
_NO_GEOMETRY = "with an affine of 1 mm and no direction: their true spacing and orientation are not in the file"
_ONLY_VOID = "whose label is void throughout"


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        num_cases: cases looked at; of a slice store, slices.
        faults: one row (case_id, file, problem) per fault.
        notes: lines for the reader that are no fault: numbers beside those of the complete data set, what is unusual.
    """

    num_cases: int
    faults: list[dict[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class _Task:
    case: Case
    card: Any
    labels_only: bool


@dataclass(frozen=True)
class _Found:
    """Problems of a case with the file they are in, and remarks that are counted."""

    problems: list[tuple[Path | None, str]]
    remarks: tuple[str, ...] = ()


def check_dataset(name: str, root: Path, labels_only: bool = False) -> CheckResult:
    """Read every case of a data set and list what is wrong.

    Args:
        name: name or path of a card.
        root: the data set's folder, or what `data prepare` made of it.
        labels_only: look at the labels alone, where there are no images (the KiTS23 repository before its download).
    Raises:
        FileNotFoundError, DatasetError: as `list_cases`.
    """
    card, cases = list_cases(load_card(name), root)
    tasks = [_Task(case, card, labels_only) for case in cases]
    workers = choose_workers(len(cases), _bytes_of(cases, labels_only), None)
    found = track(run_cases(_check_case, tasks, workers, _report_death), f"checking {card.name}", len(cases))
    faults: list[dict[str, str]] = []
    remarks: dict[str, list[str]] = {}
    for case, result in zip(cases, found, strict=True):
        faults += [
            {"case_id": case.id, "file": path.name if path else "", "problem": problem}
            for path, problem in result.problems
        ]
        for remark in result.remarks:
            remarks.setdefault(remark, []).append(case.id)
    notes = [*_count_notes(card, cases), *(_word_remark(remark, ids) for remark, ids in remarks.items())]
    return CheckResult(len(cases), faults, notes)


def _bytes_of(cases: Sequence[Case], labels_only: bool) -> int:
    """Size of all files; packed volumes have about one byte for a voxel, images for a pixel."""
    paths = {path for case in cases for path in (None if labels_only else case.image, case.label) if path}
    return sum(path.stat().st_size for path in paths if path.is_file())


def _report_death(task: _Task) -> _Found:
    return _Found([(task.case.image, "the process that read it was killed, for example for lack of memory")])


def _check_case(task: _Task) -> _Found:
    if task.case.slice_index is not None:
        return _check_slice(task)
    return _check_volume(task) if task.card.kind == "volume" else _check_image(task)


def _check_volume(task: _Task) -> _Found:
    case, problems = task.case, []
    image = None if task.labels_only else _read(read_volume, case.image, "label without image", problems)
    label = None if case.label is None else _read(read_volume, case.label, "image without label", problems)
    if image is not None and not _is_finite(image.array):
        problems.append((case.image, "the image has NaN or infinite voxels"))
    if label is not None:
        problems += [(case.label, problem) for problem in _label_problems(label.array, task.card)]
    if image is not None and label is not None:
        difference = same_grid(image.array.shape[-3:], image.affine, label.array.shape[-3:], label.affine)
        if difference:
            problems.append((case.label, f"image and label differ in {difference}"))
    has_no_geometry = task.card.modality == "CT" and any(
        volume is not None and np.array_equal(volume.affine[:3, :3], np.eye(3)) for volume in (image, label)
    )
    return _Found(problems, (_NO_GEOMETRY,) if has_no_geometry else ())


def _read(read: Any, path: Path, missing: str, problems: list[tuple[Path | None, str]]) -> Any:
    """Content of a file, or None with the problem noted."""
    try:
        return read(path)
    except FileNotFoundError as error:
        problems.append((path, f"{error} ({missing})"))
    except ValueError as error:
        problems.append((path, str(error)))
    return None


def _is_finite(array: Any) -> bool:
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _label_problems(array: Any, card: DatasetCard) -> Iterator[str]:
    from rankseg_rma.evaluation import as_label_map

    highest = max(card.labels or {0: ""})
    try:
        label_map = as_label_map("label", array)
    except ValueError as error:
        yield str(error)
    else:
        yield from _strange_values(label_map, highest)


def _strange_values(label_map: Any, highest: int) -> Iterator[str]:
    strange = [value for value in _values_of(label_map) if value > highest]
    if strange:
        yield f"labels outside 0 to {highest}: {', '.join(map(str, strange[:5]))}"


def _values_of(label_map: Any) -> list[int]:
    """Values that occur in an array of uint8 or uint16; counting is many times faster than a sort."""
    flat, found = label_map.reshape(-1, order="A"), np.zeros(2**16, bool)
    for start in range(0, len(flat), _CHUNK):  # bincount makes 8 bytes of each value
        counts = np.bincount(flat[start : start + _CHUNK])
        found[: len(counts)] |= counts > 0
    return np.flatnonzero(found).tolist()


def _check_image(task: _Task) -> _Found:
    case, problems = task.case, []
    image = None if task.labels_only else _read(read_image, case.image, "label without image", problems)
    label = None
    if case.label is not None:
        label = _read(lambda path: read_classes(path, task.card), case.label, "image without label", problems)
    if image is not None and label is not None and image.shape[1:] != label.shape:
        problems.append((case.label, f"image and label differ in size: {image.shape[1:]} and {label.shape}"))
    is_void = label is not None and bool((label == VOID).all())
    return _Found(problems, (_ONLY_VOID,) if is_void else ())


def _check_slice(task: _Task) -> _Found:
    case, problems = task.case, []
    content = _read(read_slice, case.image, "slice of the store's list without a file", problems)
    if content is not None:
        highest = len(task.card.slices.names)
        problems += [(case.image, problem) for problem in _strange_values(content["label"], highest)]
        if not _is_finite(content["image"]):
            problems.append((case.image, "the image has NaN or infinite pixels"))
    return _Found(problems)


def _count_notes(card: Card, cases: Sequence[Case]) -> Iterator[str]:
    """Numbers found beside those of the complete data set; a part of the data is usual and no fault."""
    if not isinstance(card, DatasetCard):
        found = Counter(case.part for case in cases)
        for part in PARTS:
            expected = card.parts.get(part)
            if expected or found[part]:
                yield _word_count(f"{part} images", found[part], expected)
        return
    if cases[0].slice_index is None:
        if card.num_cases:
            yield _word_count("cases", len(cases), card.num_cases)
        return
    yield _word_count("slices", len(cases), card.num_slices)
    if card.fold_slices and len(card.splits.case_ids or ()) == card.num_cases:
        for fold, number in enumerate(card.fold_slices):
            validation = part_cases(card, cases, fold)["validation"]
            yield _word_count(f"slices of fold {fold}", len(validation), number)


def _word_count(what: str, number: int, expected: int | None) -> str:
    if not expected:
        return f"{what}: {number}"
    return f"{what}: {number} of {expected}" + ("" if number <= expected else ", more than there should be")


def _word_remark(remark: str, ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} cases {remark} ({shown})"


def make_phantom_cohort(out: Path, num_cases: int, seed: int) -> Outcome:
    """Write the synthetic cohort."""
    from rankseg_rma.datasets.phantom import make_phantom

    if num_cases < 1:
        raise ValueError(wrong("make_phantom_cohort", "cases", "at least 1", num_cases))
    with progress_bar() as progress:
        task = progress.add_task("making phantom", total=num_cases)
        make_phantom(out, num_cases, seed, lambda case_id: progress.advance(task))
    return Outcome(out, [f"{num_cases} cases in {out}"])
