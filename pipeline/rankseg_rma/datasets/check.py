"""Whether a data set is in order: every file readable, every label and grid as the card says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets import Case, list_cases, load_card
from rankseg_rma.datasets.card_kinds import Card, DatasetCard, ImageCard
from rankseg_rma.datasets.completeness import count_notes
from rankseg_rma.datasets.slices import read_slice
from rankseg_rma.files.finite import count_non_finite
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


_Problem = tuple[Path | None, str]


@dataclass(frozen=True)
class _Task:
    case: Case
    card: Card
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
    faults, remarks = _check_cases(card, cases, labels_only)
    return CheckResult(len(cases), faults, [*count_notes(card, cases), *remarks])


def require_good_cases(card: Card, cases: Sequence[Case], advice: str) -> list[str]:
    """Refuse to train before anything is trained, with every bad case named.

    Args:
        card: completed by `list_cases`.
        cases: those of the run.
        advice: what to do about faults.
    Returns:
        Remarks for the reader that are no faults.
    Raises:
        DatasetError: some cases have faults; the message lists all of them.
    """
    faults, remarks = _check_cases(card, cases, labels_only=False)
    if faults:
        bad = len({fault["case_id"] for fault in faults})
        listed = [f"  {fault['case_id']}: {fault['problem']} [{fault['file']}]" for fault in faults]
        got = "\n".join([f"{bad} of {len(cases)} cases that are not:", *listed, "Nothing was trained"])
        raise DatasetError(wrong("train", "every case", "readable and as the card says", got, advice=advice))
    return remarks


def _check_cases(card: Card, cases: Sequence[Case], labels_only: bool) -> tuple[list[dict[str, str]], list[str]]:
    """Rows (case_id, file, problem), and remarks that are no fault."""
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
    return faults, [_word_remark(remark, ids) for remark, ids in remarks.items()]


def _bytes_of(cases: Sequence[Case], labels_only: bool) -> int:
    """Size of all files; packed volumes have about one byte for a voxel, images for a pixel."""
    paths = {path for case in cases for path in (None if labels_only else case.image, case.label) if path}
    return sum(path.stat().st_size for path in paths if path.is_file())


def _report_death(task: _Task) -> _Found:
    return _Found([(task.case.image, "the process that read it was killed, for example for lack of memory")])


def _check_case(task: _Task) -> _Found:
    card = task.card
    if isinstance(card, ImageCard):
        return _check_image(task, card)
    return _check_volume(task, card) if task.case.slice_index is None else _check_slice(task, card)


def _check_volume(task: _Task, card: DatasetCard) -> _Found:
    case = task.case
    problems: list[_Problem] = []
    image = None if task.labels_only else _read(read_volume, case.image, "label without image", problems)
    label = None if case.label is None else _read(read_labels, case.label, "image without label", problems)
    if image is not None:
        problems += [(case.image, problem) for problem in _image_problems(image.array, card)]
    if label is not None:
        highest = max(card.labels or {0: ""})
        problems += [(case.label, problem) for problem in _strange_values(label.array, highest)]
    if image is not None and label is not None:
        # An image of several channels has them first.
        difference = same_grid(image.array.shape[-3:], image.affine, label.array.shape[-3:], label.affine)
        if difference:
            problems.append((case.label, f"image and label differ in {difference}"))
    has_no_geometry = card.modality == "CT" and any(
        volume is not None and np.array_equal(volume.affine[:3, :3], np.eye(3)) for volume in (image, label)
    )
    remarks = {_NO_GEOMETRY: has_no_geometry, _ROUNDED: label is not None and label.was_rounded}
    return _Found(problems, tuple(remark for remark, applies in remarks.items() if applies))


def _read(read: Any, path: Path, missing: str, problems: list[_Problem]) -> Any:
    """Content of a file, or None with the problem noted."""
    try:
        return read(path)
    except FileNotFoundError as error:
        problems.append((path, f"{error} ({missing})"))
    except ValueError as error:
        problems.append((path, str(error)))
    return None


def _image_problems(array: Any, card: DatasetCard) -> Iterator[str]:
    bad, channels = count_non_finite(array), len(array) if array.ndim == 4 else 1
    if bad:
        yield f"the image has NaN or infinite voxels: {bad} of {array.size}"
    if channels != card.num_channels:
        yield f"the image has {channels} channels; the data set has {card.num_channels} ({card.modality or 'image'})"


def _strange_values(label_map: Any, highest: int) -> Iterator[str]:
    strange = [value for value in _values_of(label_map) if value > highest]
    if strange:
        yield f"labels outside 0 to {highest}: {', '.join(map(str, strange[:5]))}"


def _values_of(label_map: Any) -> list[int]:
    """Values that occur in an array of uint8 or uint16; counting is many times faster than a sort."""
    # A view also of volumes in Fortran order, as NIfTI gives them; the order of the values does not matter.
    flat, found = label_map.reshape(-1, order="A"), np.zeros(2**16, bool)
    for start in range(0, len(flat), _CHUNK):  # bincount makes 8 bytes of each value
        counts = np.bincount(flat[start : start + _CHUNK])
        found[: len(counts)] |= counts > 0
    return np.flatnonzero(found).tolist()


def _check_image(task: _Task, card: ImageCard) -> _Found:
    case = task.case
    problems: list[_Problem] = []
    image = None if task.labels_only else _read(read_image, case.image, "label without image", problems)
    label = None
    if case.label is not None:
        label = _read(lambda path: read_classes(path, card), case.label, "image without label", problems)
    if image is not None and label is not None and image.shape[1:] != label.shape:
        problems.append((case.label, f"image and label differ in size: {image.shape[1:]} and {label.shape}"))
    is_void = label is not None and bool((label == VOID).all())
    return _Found(problems, (_ONLY_VOID,) if is_void else ())


def _check_slice(task: _Task, card: DatasetCard) -> _Found:
    case = task.case
    problems: list[_Problem] = []
    content = _read(read_slice, case.image, "slice of the store's list without a file", problems)
    if content is not None:
        highest = len(card.slices.names) if card.slices is not None else 0
        problems += [(case.image, problem) for problem in _strange_values(content["label"], highest)]
        bad = count_non_finite(content["image"])
        if bad:
            problems.append((case.image, f"the image has NaN or infinite pixels: {bad} of {content['image'].size}"))
    return _Found(problems)


def _word_remark(remark: str, ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} cases {remark} ({shown})"
