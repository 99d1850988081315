"""The data list of a run: its cases by part, and how one of its entries is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import Card, DatasetCard, ImageCard
from rankseg_rma.datasets.case import Case
from rankseg_rma.datasets.slices import read_slice
from rankseg_rma.datasets.splits import part_cases
from rankseg_rma.files.images import read_classes, read_image
from rankseg_rma.files.json_files import read_json
from rankseg_rma.files.names import id_of_pair

_EXPECTED = "a JSON mapping of lists"
DATALIST = "configs/datalist.json"


def read_part(datalist: str | Path, part: str) -> list[dict[str, Any]]:
    """Entries {case_id, image, label} of one part of a data list, as training writes ``configs/datalist.json``.

    The id of an entry without one is the name of its image; an axial slice has a slice_index too.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: no such part, or the file is no data list.
    """
    path = Path(datalist)
    content = read_json("read_part", path, _EXPECTED)
    if not isinstance(content, dict):
        raise DatasetError(wrong("read_part", path.name, _EXPECTED, type(content).__name__, path=path))
    parts = {name: entries for name, entries in content.items() if isinstance(entries, list)}
    if part not in parts:
        raise DatasetError(wrong("read_part", "part", "one of " + ", ".join(parts), repr(part), path=path))
    try:
        return [{"case_id": id_of_pair(entry["image"], entry.get("label")), **entry} for entry in parts[part]]
    except (KeyError, TypeError) as error:
        expected = "entries with the path 'image'"
        raise DatasetError(wrong("read_part", "datalist", expected, repr(error), path=path)) from error


def read_sample(entry: Mapping[Any, Any], card: Card | None) -> tuple[Any, Any]:
    """Image (channel, H, W) float32, as stored, and classes (H, W) uint8 of an entry of a data list.

    Args:
        entry: paths "image" and "label"; a slice of a store has both in one .npz file.
        card: of the data set; slices need none.
    Raises:
        FileNotFoundError, DatasetError: a file is missing, damaged, or holds other labels.
    """
    if str(entry["image"]).endswith(".npz"):
        found = read_slice(entry["image"])
        return found["image"].astype(np.float32)[None], found["label"].astype(np.uint8)
    if not isinstance(card, ImageCard):
        expected = "one of photographs, or a slice of a store"
        got = "none" if card is None else card.name
        raise DatasetError(wrong("read_sample", "card", expected, got, path=entry["image"]))
    return read_image(entry["image"]).astype(np.float32), read_classes(entry["label"], card).astype(np.uint8)


def read_tested(entry: Mapping[Any, Any], card: Card | None) -> tuple[Any, Any]:
    """As `read_sample`, as a test sees it: slices of a store of one size are cut to the centre of the rule's crop."""
    image, label = read_sample(entry, card)
    rule = card.slices if isinstance(card, DatasetCard) else None
    if rule is None or rule.size is None:
        return image, label
    return crop_centre(image, rule.crop_size), crop_centre(label, rule.crop_size)


def crop_centre(array: Any, size: Sequence[int]) -> Any:
    """The central (height, width) of an array (..., height, width); a side that is smaller stays."""
    # Halved one by one, as MONAI's CenterSpatialCrop does, so that a test sees the pixels that validation saw.
    starts = [max(have // 2 - want // 2, 0) for have, want in zip(array.shape[-2:], size, strict=True)]
    rows, columns = (slice(start, start + want) for start, want in zip(starts, size, strict=True))
    return array[..., rows, columns]


def items_of(datalist: str | Path, part: str, dataset_dir: str | Path) -> list[dict[str, Any]]:
    """Entries of one part of a data list, with paths below the data set's folder."""
    entries = read_part(datalist, part)
    root = Path(dataset_dir)
    return [{**entry, "image": str(root / entry["image"]), "label": str(root / entry["label"])} for entry in entries]


def choose_part(datalist: Path, part: str | None) -> tuple[str, list[dict[str, Any]]]:
    """The part that is asked for, or the test part when it has entries, else validation.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: there is no such part, or nothing in it.
    """
    if part is None:
        read_part(datalist, "validation")  # says what is wrong with the file, if anything is
        part = "test" if read_json("test", datalist, _EXPECTED).get("test") else "validation"
    entries = read_part(datalist, part)
    if not entries:
        raise DatasetError(wrong("test", "part", "one that has entries", repr(part), path=datalist))
    return part, entries


def divide_cases(card: Card, cases: list[Case], fold: int, root: Path) -> dict[str, list[Case]]:
    """Cases of a run by part; those without a label are left out.

    Raises:
        DatasetError: a part that training needs has no case.
    """
    parts = part_cases(card, [case for case in cases if case.label is not None], fold)
    for part in ("training", "validation"):
        if not parts[part]:
            advice = "See `rankseg-rma data check`."
            raise DatasetError(wrong("train", part, "at least one case", "none", path=root, advice=advice))
    return parts


def make_datalist(parts: Mapping[str, Sequence[Case]], root: Path) -> dict[str, list[dict[str, Any]]]:
    """The run's data list: entries of each part, with paths relative to the data set's folder."""
    return {part: [_entry(case, root) for case in found] for part, found in parts.items()}


def _entry(case: Case, root: Path) -> dict[str, Any]:
    # A prepared folder may name images elsewhere: those stay absolute.
    paths = {"image": case.image, "label": case.label or case.image}
    entry: dict[str, Any] = {
        key: str(path.relative_to(root) if path.is_relative_to(root) else path.resolve()) for key, path in paths.items()
    }
    return {"case_id": case.case_id, **entry} | (
        {} if case.slice_index is None else {"slice_index": case.slice_index}
    )  # fmt: skip


def kind_of_part(card: Card, cases: list[Case]) -> str:
    return "slices" if any(case.slice_index is not None for case in cases) else card.kind
