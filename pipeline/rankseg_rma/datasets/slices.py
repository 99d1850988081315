"""The slice store: axial slices of volumes, one .npz file each, all in one in-plane orientation.

A slice is (row, column). Whatever the order and direction of the axes in the volume's file, rows run towards the
patient's right and columns towards the front: R and A of RAS+, so that a slice is a plane of the volume in RAS order.
``slice_index`` counts along the axial axis as the file stores it (0 is the first plane in the file, be it the lowest or
the highest of the body).
"""

import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.axial import resize_image, resize_label, to_axial
from rankseg_rma.datasets.card_kinds import DatasetCard, SliceRule
from rankseg_rma.datasets.case import Case
from rankseg_rma.files.labels import LabelMap, read_labels
from rankseg_rma.files.listing import is_there, require_file
from rankseg_rma.files.volumes import Volume, read_volume
from rankseg_rma.files.writing import replacing, write_text
from rankseg_rma.grid import same_grid

VERSION = 1
ENTRIES = ("store.json", "cases", "slices")
_KEYS = {"dataset", "card", "classes", "size", "crop_size", "intensity", "slices", "case_ids", "num_cases"}


@dataclass(frozen=True)
class SliceTask:
    """A case whose slices are to be made.

    Attributes:
        case: with the paths of image and label, below ``root``.
        root: the original data set; only read.
        store: the slice store.
        dataset: name of the card.
        rule: of the card.
        highest: the largest label of the card.
    """

    case: Case
    root: Path
    store: Path
    dataset: str
    rule: SliceRule
    highest: int

    @property
    def record_path(self) -> Path:
        """The case's own record; it is written when all slices are."""
        return self.store / "cases" / f"{self.case.case_id}.json"


def read_record(task: SliceTask) -> dict[str, Any] | None:
    """Record of a case that is finished; None when it has to be made.

    A case is finished when its sources have the recorded size and time, the rule is the same, and every slice is there
    in its full length.
    """
    try:
        record = json.loads(task.record_path.read_text(encoding="utf-8"))
        if record["made_from"] != _origin(task):
            return None
        sizes = [(task.store / entry["file"]).stat().st_size == entry["bytes"] for entry in record["slices"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if all(sizes) else None


def _origin(task: SliceTask) -> dict[str, Any]:
    """Everything that the slices of a case depend on, as JSON gives it back."""
    sources = {}
    for part, path in (("image", task.case.image), ("label", task.case.label)):
        assert path is not None
        stat = path.stat()
        sources[part] = {
            "file": path.relative_to(task.root).as_posix(), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns,
        }  # fmt: skip
    # Names and crop are left out: no slice depends on them.
    rule = {"labels": task.rule.labels, "keep": task.rule.keep, "size": task.rule.size}
    # There and back, because a record read from JSON has lists for tuples and text for keys.
    origin: dict[str, Any] = json.loads(
        json.dumps({"version": VERSION, "dataset": task.dataset, "rule": rule, **sources})
    )
    return origin


def make_slices(task: SliceTask) -> dict[str, Any]:
    """Write the slices of a case, then its record; files of an earlier run that no longer belong to it go.

    Returns:
        The record: "case_id", "num_slices" of the volume, "slices" with an entry for each kept one; "was_rounded" where
        the label was, see `read_labels`.
    Raises:
        FileNotFoundError: image or label is missing.
        ValueError: a file is damaged, the grids differ, or there are labels that the card does not know.
    """
    image, label = _read_case(task)
    # The image's affine for both: rounding in the label's own must not turn it another way.
    images, labels = to_axial(image.array, image.affine), to_axial(label.array, image.affine)
    # Taken before anything is written: a source that changes meanwhile is seen as changed by the next run.
    origin = _origin(task)
    # A run killed between here and the end must not leave the record of a case half made.
    task.record_path.unlink(missing_ok=True)
    entries: list[dict[str, Any]] = []
    for index, plane in enumerate(labels):
        classes = _classes_of(plane, task)
        if task.rule.keep == "all" or classes.any():
            entry = _write_slice(task, index, images[index], classes)
            entries.append({**entry, "position": len(entries), "num_slices": len(labels)})
    folder, kept = _folder(task), {Path(entry["file"]).name for entry in entries}
    for path in folder.glob("*.npz"):
        if path.name not in kept:
            path.unlink()
    record = {"case_id": task.case.case_id, "num_slices": len(labels), "slices": entries, "made_from": origin}
    record |= {"was_rounded": True} if label.was_rounded else {}
    write_text(task.record_path, json.dumps(record))
    return record


def _folder(task: SliceTask) -> Path:
    return task.store / "slices" / task.case.case_id


def _read_case(task: SliceTask) -> tuple[Volume, LabelMap]:
    """Image and label, on one grid."""
    case = task.case
    assert case.label is not None
    for path, fault in ((case.image, "label without image"), (case.label, "image without label")):
        if not is_there(path):
            raise FileNotFoundError(wrong("prepare", "case", "of image and label", fault, path=path))
    image, label = read_volume(case.image), read_labels(case.label)
    if image.array.ndim != 3:
        raise DatasetError(wrong("prepare", "volume", "of 3 axes", image.array.shape, path=case.image))
    difference = same_grid(image.array.shape, image.affine, label.array.shape, label.affine)
    if difference:
        expected, got = "on the image's grid", f"a difference in {difference}"
        raise DatasetError(wrong("prepare", "label", expected, got, path=case.label))
    return image, label


def _classes_of(plane: Any, task: SliceTask) -> Any:
    """Class of the store for each pixel of stored labels, (H, W) uint8."""
    if plane.max() > task.highest:
        strange = [int(value) for value in np.unique(plane) if value > task.highest]
        expected, got = f"of labels 0 to {task.highest}", ", ".join(map(str, strange[:5]))
        raise DatasetError(wrong("prepare", "label", expected, got, path=task.case.label))
    table = np.zeros(task.highest + 1, np.uint8)
    for place, stored in task.rule.labels.items():
        table[list(stored)] = place
    return table[plane]


def _write_slice(task: SliceTask, index: int, plane: Any, classes: Any) -> dict[str, Any]:
    """Write one slice and describe it. What is kept is decided on the original label, counts are of the resized one."""
    if not np.isfinite(plane).all():
        expected, got = "of finite numbers", f"NaN or infinite voxels in slice {index}"
        raise DatasetError(wrong("prepare", "image", expected, got, path=task.case.image))
    image = _compact(resize_image(plane, task.rule.size))
    label = resize_label(classes, task.rule.size)
    path = _folder(task) / f"{index:04d}.npz"
    # The temporary name ends in .npz as well, or savez would put it behind.
    with replacing(path) as temporary:
        np.savez_compressed(temporary, image=image, label=label)
    return {
        "case_id": task.case.case_id, "slice_index": index, "file": path.relative_to(task.store).as_posix(),
        "shape": list(plane.shape), "counts": np.bincount(label.ravel(), minlength=len(task.rule.labels) + 1).tolist(),
        "bytes": path.stat().st_size,
    }  # fmt: skip


def _compact(plane: Any) -> Any:
    """int16 when that loses nothing, as for Hounsfield units; else float32. In C order."""
    limits = np.iinfo(np.int16)
    is_short = plane.min() >= limits.min and plane.max() <= limits.max
    if is_short and (plane.dtype.kind in "iub" or np.array_equal(np.rint(plane), plane)):
        return np.ascontiguousarray(plane, np.int16)
    return np.ascontiguousarray(plane, np.float32)


def open_store(store: Path, dataset: str) -> None:
    """Claim a folder for a data set, before its first slice; until `write_store` it is an unfinished store.

    Raises:
        ValueError: the folder holds something else.
    """
    advice = "Give an empty folder, or the store of an earlier run."
    others = [path.name for path in store.glob("*") if path.name not in ENTRIES and not path.name.startswith(".")]
    if others:
        got = ", ".join(sorted(others)[:5])
        raise ValueError(wrong("prepare", "out", "empty or a slice store", got, path=store, advice=advice))
    if is_store(store):
        owner = _read_json(store).get("dataset")
        if owner != dataset:
            raise ValueError(
                wrong("prepare", "out", f"a store of {dataset}", f"one of {owner}", path=store, advice=advice)
            )
    # Left by killed runs, under their own process ids.
    for pattern in ("cases/.*.partial.*", "slices/*/.*.partial.*"):
        for path in store.glob(pattern):
            path.unlink()
    _write_unfinished(store, dataset, {})


def _write_unfinished(store: Path, dataset: str, failed: dict[str, str]) -> None:
    content = {"version": VERSION, "dataset": dataset, "complete": False, "failed": failed}
    write_text(store / "store.json", json.dumps(content, indent=1))


def write_store(
    store: Path, card: DatasetCard, records: Iterable[dict[str, Any]], failed: dict[str, str]
) -> dict[str, Any] | None:
    """Write store.json: the list of all slices; or, when cases failed, that the store is unfinished and why.

    Args:
        store: its folder.
        card: with a rule for slices.
        records: of all cases, also of those without a slice: folds are made of all cases.
        failed: reason by case id.
    Returns:
        The content of a finished store; None when cases failed.
    Raises:
        DatasetError: no case has a slice to keep.
    """
    if failed:
        _write_unfinished(store, card.name, failed)
        return None
    # Sorted, since finished and new records come one after the other: a resumed store is that of a single run.
    rule, records = card.slices, sorted(records, key=lambda record: record["case_id"])
    assert rule is not None
    if not any(record["slices"] for record in records):
        raise DatasetError(
            wrong("prepare", "labels", f"with {' or '.join(rule.names)} in some slice", "none", path=store)
        )
    facts = {key: value for key, value in asdict(card).items() if key not in ("slices", "splits")}
    content = {
        "version": VERSION, "dataset": card.name, "complete": True, "card": facts,
        "classes": ["background", *rule.names], "keep": rule.keep, "size": rule.size, "crop_size": rule.crop_size,
        "axes": "rows to the right, columns to the front (R and A of RAS+)", "intensity": asdict(card.intensity),
        "num_cases": len(records), "case_ids": [record["case_id"] for record in records],
        "slices": [entry for record in records for entry in record["slices"]],
    }  # fmt: skip
    text = json.dumps(content)
    write_text(store / "store.json", text)
    # Given back as a later reader gets it.
    found: dict[str, Any] = json.loads(text)
    return found


def is_store(root: str | Path) -> bool:
    """Whether a folder is a slice store, finished or not."""
    return (Path(root) / "store.json").is_file()


def read_store(root: str | Path) -> dict[str, Any]:
    """Content of a finished store's store.json.

    Returns:
        "dataset", "classes" (background first), "size", "crop_size", "intensity", "case_ids" of all cases, and for each
        of the "slices" its "case_id", "slice_index", "file" (relative to the store), "position" (it is the k-th kept
        slice of its case), "num_slices" of the volume, "shape" before resizing and "counts" of pixels by class.
    Raises:
        FileNotFoundError: there is no store.json.
        DatasetError: it is damaged, or the store was not finished.
    """
    root = Path(root)
    if not is_store(root):
        raise FileNotFoundError(wrong("read_store", "root", "a slice store", root, advice="`data prepare` makes one."))
    content, path = _read_json(root), root / "store.json"
    if not content.get("complete"):
        failed = content.get("failed") or {}
        got = f"failed cases: {', '.join([*failed][:5])}" if failed else "one that was interrupted"
        advice = "Run `data prepare` again; finished cases are kept."
        raise DatasetError(wrong("read_store", "slice store", "finished", got, path=root, advice=advice))
    missing = _KEYS - set(content)
    if missing or content.get("version") != VERSION:
        got = f"version {content.get('version')}; missing {', '.join(sorted(missing)) or 'nothing'}"
        raise DatasetError(wrong("read_store", "store.json", f"of version {VERSION} and complete", got, path=path))
    return content


def _read_json(root: Path) -> dict[str, Any]:
    path = root / "store.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        got = f"{type(error).__name__}: {error}"
        advice = "Run `data prepare` again; finished cases are kept."
        raise DatasetError(wrong("read_store", "store.json", "JSON", got, path=path, advice=advice)) from error
    if not isinstance(content, dict):
        raise DatasetError(wrong("read_store", "store.json", "a mapping", type(content).__name__, path=path))
    return content


def read_slice(path: str | Path) -> dict[str, Any]:
    """Read one slice of a slice store.

    Returns:
        "image": (H, W) int16 or float32 in HU (or the modality's units), "label": (H, W) uint8 class index.
    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is damaged or no slice.
    """
    path = Path(path)
    require_file("read_slice", path)
    try:
        # An open file, for np.load leaves one behind that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            image, label = content["image"], content["label"]
    # A text file is no archive: np.load takes it for a pickle, which has no keys.
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        advice = "Run `data prepare` again: it makes what is missing or damaged."
        expected = "a slice with image and label"
        raise DatasetError(wrong("read_slice", "file", expected, got, path=path, advice=advice)) from error
    if image.ndim != 2 or image.shape != label.shape or label.dtype != np.uint8 or image.dtype.kind not in "if":
        got = f"{image.shape} {image.dtype} and {label.shape} {label.dtype}"
        expected = "(H, W) numbers and (H, W) uint8"
        raise DatasetError(wrong("read_slice", "image and label", expected, got, path=path))
    return {"image": image, "label": label}
