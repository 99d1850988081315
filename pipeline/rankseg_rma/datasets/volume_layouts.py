"""Layouts of volumes on disk: Medical Segmentation Decathlon, LiTS and KiTS."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import DatasetCard
from rankseg_rma.datasets.case import Case
from rankseg_rma.datasets.dataset_json import read_dataset_json
from rankseg_rma.files.listing import is_dangling, is_there, refuse_dangling
from rankseg_rma.files.names import compose


def read_msd(card: DatasetCard, root: Path) -> tuple[DatasetCard, list[Case]]:
    """Medical Segmentation Decathlon and nnU-Net: dataset.json names the labels, channels and training pairs."""
    found, path = read_dataset_json(root), root / "dataset.json"
    known = {value: _plain(name) for value, name in (card.labels or found.labels).items()}
    if known != {value: _plain(name) for value, name in found.labels.items()}:
        raise DatasetError(wrong("list_cases", "labels", f"{card.labels} as on the card", found.labels, path=path))
    if card.modality and card.num_channels != len(found.channels):
        expected = f"{card.num_channels} as on the card ({card.modality})"
        got = f"{len(found.channels)} ({', '.join(found.channels)})"
        raise DatasetError(wrong("list_cases", "channels", expected, got, path=path))
    modality = card.modality or ", ".join(found.channels)
    labels, regions = card.labels or found.labels, card.regions or found.regions
    return replace(card, labels=labels, regions=regions, modality=modality), found.cases


def _plain(name: str) -> str:
    return compose(name).lower()


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
    # `rglob` does not look into links, of which data sets are often made.
    for place, folders, files in os.walk(root, followlinks=True):
        here = Path(place)
        folders.sort(key=lambda name: ((here / name).is_symlink(), name))
        # Links may lead round in a circle.
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
