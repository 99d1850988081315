"""Layouts of volumes on disk: Medical Segmentation Decathlon, LiTS and KiTS."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import DatasetCard
from rankseg_rma.datasets.case import Case, inside
from rankseg_rma.files.listing import is_dangling, is_there, refuse_dangling
from rankseg_rma.files.names import case_id_of


def read_msd(card: DatasetCard, root: Path) -> tuple[DatasetCard, list[Case]]:
    """Medical Segmentation Decathlon: dataset.json names the labels, modalities and training pairs."""
    path = root / "dataset.json"
    if not path.is_file():
        advice = "Give the folder that holds dataset.json, imagesTr and labelsTr."
        raise FileNotFoundError(wrong("list_cases", "root", "a folder with dataset.json", root, advice=advice))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {int(value): str(name) for value, name in content["labels"].items() if int(value) > 0}
        entries = [
            (entry, None) if isinstance(entry, str) else (entry["image"], entry["label"])
            for entry in content["training"]
        ]
        modality = ", ".join(str(name) for _, name in sorted(content["modality"].items()))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        expected = "JSON with labels, modality and training, as in the Medical Segmentation Decathlon"
        raise DatasetError(wrong("list_cases", "dataset.json", expected, got, path=path)) from error
    if sorted(names) != list(range(1, len(names) + 1)):
        raise DatasetError(wrong("list_cases", "labels", "0, 1, 2, ... without a gap", sorted(names), path=path))
    names = dict(sorted(names.items()))
    known = {value: name.lower() for value, name in (card.labels or names).items()}
    if known != {value: name.lower() for value, name in names.items()}:
        raise DatasetError(wrong("list_cases", "labels", f"{card.labels} as on the card", names, path=path))
    cases = [
        Case(case_id_of(image), inside(root, image), inside(root, label) if label else None) for image, label in entries
    ]
    return replace(card, labels=card.labels or names, modality=card.modality or modality), cases


def read_lits(card: DatasetCard, root: Path) -> tuple[DatasetCard, list[Case]]:
    """LiTS: volume-N.nii and segmentation-N.nii, also packed, anywhere below ``root`` (two folders in the download)."""
    refuse_dangling("list_cases", [path for path in sorted(root.iterdir()) if not path.suffix])
    images, labels = list_numbered(root, "volume"), list_numbered(root, "segmentation")
    if not images and not labels:
        advice = "Give a folder with volume-0.nii, segmentation-0.nii, ..., also in folders below it."
        raise FileNotFoundError(wrong("list_cases", "root", "a folder with LiTS volumes", root, advice=advice))
    cases = []
    for number in sorted({*images, *labels}):
        # A partner that is missing is listed where it should be, so that `check` names it.
        image = images.get(number) or labels[number].with_name(labels[number].name.replace("segmentation", "volume"))
        label = labels.get(number) or image.with_name(image.name.replace("volume", "segmentation"))
        cases.append(Case(f"volume-{number}", image, label))
    return card, cases


def list_numbered(root: Path, word: str) -> dict[int, Path]:
    """Files WORD-N.nii or WORD-N.nii.gz below a folder, by number; folders that are links are looked into."""
    found: dict[int, Path] = {}
    folders: dict[int, Path] = {}
    for path in sorted(_below(root)):
        match = re.fullmatch(rf"{word}-(\d+)\.nii(\.gz)?", path.name)
        if match is None:
            continue
        number = int(match[1])
        if path.is_dir():
            folders.setdefault(number, path)
            continue
        if number in found:
            got = f"{found[number]} and {path}"
            raise DatasetError(wrong("list_cases", f"{word} files", "one of each number", got))
        found[number] = path
    # Some unpackers make a folder volume-0.nii with the file of the same name in it; without one the case is missing.
    return folders | found


def _below(root: Path) -> Iterator[Path]:
    """Everything below a folder, each folder once, however many links lead to it; first those that are no links."""
    seen = set()
    for place, folders, files in os.walk(root, followlinks=True):
        here = Path(place)
        folders.sort(key=lambda name: ((here / name).is_symlink(), name))
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (here / name for name in [*folders, *files])


def read_kits(card: DatasetCard, root: Path) -> tuple[DatasetCard, list[Case]]:
    """KiTS: case_XXXXX folders with imaging and segmentation, in ``root`` or, in the repository, dataset/ or data/."""
    folders = next((found for name in (".", "dataset", "data") if (found := _kits_folders(root / name))), [])
    if not folders:
        advice = "Give the KiTS repository, or its folder with case_00000, case_00001, ..."
        raise FileNotFoundError(wrong("list_cases", "root", "a folder with KiTS cases", root, advice=advice))
    cases = [Case(folder.name, _packed(folder, "imaging"), _packed(folder, "segmentation")) for folder in folders]
    return card, [case for case in cases if not _is_of_test(card, case)]


def _kits_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("case_*") if is_case_folder(path))


def is_case_folder(path: Path) -> bool:
    """Whether a folder is one of KiTS' cases, be it a link to nowhere."""
    return re.fullmatch(r"case_\d{5}", path.name) is not None and (path.is_dir() or is_dangling(path))


def _packed(folder: Path, word: str) -> Path:
    plain = folder / f"{word}.nii"
    return plain if is_there(plain) else folder / f"{word}.nii.gz"


def _is_of_test(card: DatasetCard, case: Case) -> bool:
    """The challenge's test cases have no label; a training case without one stays, and `check` names it."""
    first = card.first_unlabelled
    is_late = first is not None and int(case.case_id.removeprefix("case_")) >= first
    return is_late and case.label is not None and case.image.parent.is_dir() and not is_there(case.label)


# By the name that a card gives as its layout; cards and readers know no other list.
VOLUME_LAYOUTS: dict[str, Callable[[DatasetCard, Path], tuple[DatasetCard, list[Case]]]] = {
    "msd": read_msd,
    "lits": read_lits,
    "kits": read_kits,
}
