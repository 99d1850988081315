"""Commands on data sets: check one, make the phantom."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.datasets import Case, list_cases, load_card
from rankseg_rma.datasets.completeness import count_notes
from rankseg_rma.datasets.slices import read_slice
from rankseg_rma.files.images import VOID, read_classes, read_image
from rankseg_rma.files.labels import read_labels
from rankseg_rma.files.volumes import read_volume
from rankseg_rma.grid import same_grid
from rankseg_rma.runs.parallel import choose_workers, run_cases
from rankseg_rma.runs.progress import track

_CHUNK = 2**22
_NO_GEOMETRY = "with an affine of 1 mm and no direction: their true spacing and orientation are not in the file"
_ROUNDED = "whose label is not quite of whole numbers and is read rounded (by 0.01 at most)"
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
    notes = [*count_notes(card, cases), *(_word_remark(remark, ids) for remark, ids in remarks.items())]
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
    label = None if case.label is None else _read(read_labels, case.label, "image without label", problems)
    channels = 1 if image is None or image.array.ndim == 3 else len(image.array)
    if image is not None and channels != task.card.num_channels:
        expected = f"{task.card.num_channels} ({task.card.modality or 'image'})"
        problems.append((case.image, f"the image has {channels} channels; the data set has {expected}"))
    if image is not None and not _is_finite(image.array):
        problems.append((case.image, "the image has NaN or infinite voxels"))
    if label is not None:
        highest = max(task.card.labels or {0: ""})
        problems += [(case.label, problem) for problem in _strange_values(label.array, highest)]
    if image is not None and label is not None:
        difference = same_grid(image.array.shape[-3:], image.affine, label.array.shape[-3:], label.affine)
        if difference:
            problems.append((case.label, f"image and label differ in {difference}"))
    has_no_geometry = task.card.modality == "CT" and any(
        volume is not None and np.array_equal(volume.affine[:3, :3], np.eye(3)) for volume in (image, label)
    )
    remarks = {_NO_GEOMETRY: has_no_geometry, _ROUNDED: label is not None and label.was_rounded}
    return _Found(problems, tuple(remark for remark, applies in remarks.items() if applies))


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


def _word_remark(remark: str, ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} cases {remark} ({shown})"
