"""dataset.json of the Medical Segmentation Decathlon and of nnU-Net, versions 1 and 2: labels, channels and cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.case import Case, inside, listed_file
from rankseg_rma.files.json_files import read_json, values_by_name
from rankseg_rma.files.listing import is_there, list_named, refuse_dangling
from rankseg_rma.files.names import SUFFIXES, case_id_of, id_of_pair, split_channel

_EXPECTED = (
    "JSON with labels, modality and training, as in the Medical Segmentation Decathlon, or with labels, channel_names "
    "and file_ending, as in nnU-Net"
)


@dataclass(frozen=True)
class DatasetFile:
    """What a dataset.json says.

    Attributes:
        labels: name of each foreground label, by its value.
        regions: values that a name unites, where nnU-Net trains on regions; else None.
        channels: names of the channels of an image.
        cases: training cases.
    """

    labels: dict[int, str]
    regions: dict[str, tuple[int, ...]] | None
    channels: tuple[str, ...]
    cases: list[Case]


def read_dataset_json(root: Path) -> DatasetFile:
    """Read the dataset.json in a data set's folder.

    Raises:
        FileNotFoundError: there is none.
        DatasetError: it is not as one of the three writes it, or names files outside of its folder.
    """
    path = root / "dataset.json"
    if not path.is_file():
        advice = "Give the folder that holds dataset.json, imagesTr and labelsTr."
        raise FileNotFoundError(wrong("list_cases", "root", "a folder with dataset.json", root, advice=advice))
    content = read_json("list_cases", path, _EXPECTED)
    try:
        labels, regions = _read_labels(content["labels"])
        channels = _read_channels(content["channel_names"] if "channel_names" in content else content["modality"])
        # Version 2 lists no cases: all that lie in the folders are meant, unless it names them under "dataset".
        named = content.get("dataset")
        entries = _entries(named.values() if isinstance(named, dict) else content.get("training"))
        ending = str(content["file_ending"]) if entries is None or (not entries and "file_ending" in content) else None
    # One of these is a ValueError too, but says more than the words below.
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DatasetError(wrong("list_cases", "dataset.json", _EXPECTED, got, path=path)) from error
    if sorted(labels) != list(range(1, len(labels) + 1)):
        raise DatasetError(wrong("list_cases", "labels", "0, 1, 2, ... without a gap", sorted(labels), path=path))
    cases = _find_cases(root, ending) if ending is not None else _listed_cases(root, entries or [])
    return DatasetFile(labels, regions, channels, cases)


def _read_labels(content: Mapping[str, Any]) -> tuple[dict[int, str], dict[str, tuple[int, ...]] | None]:
    """Names by value, and regions; a value that only regions have is named after itself."""
    named = {name: values for name, values in values_by_name(content).items() if values != (0,)}
    if "ignore" in named:
        raise ValueError("the label 'ignore', which is not known here")
    regions = {name: values for name, values in named.items() if len(values) > 1}
    single = {values[0]: name for name, values in named.items() if len(values) == 1}
    if len(single) + len(regions) < len(named):
        raise ValueError("a value with two names")
    every = {value for values in named.values() for value in values}
    labels = {value: single.get(value, f"label {value}") for value in sorted(every)}
    return labels, regions or None


def _read_channels(content: Any) -> tuple[str, ...]:
    """Names of the channels by their number; a card joins them by commas, so that no name may have one."""
    if isinstance(content, dict):
        # By number: as text, channel 10 comes before channel 2.
        content = [content[key] for key in sorted(content, key=int)]
    if isinstance(content, str):
        content = [content]
    if not content:
        raise ValueError("no channel")
    return tuple(str(name).replace(",", ";") for name in content)


def _entries(listed: Any) -> list[tuple[str, str | None]] | None:
    """Image and label of each entry; None where there is no list."""
    if listed is None:
        return None
    entries: list[tuple[str, str | None]] = []
    for entry in listed:
        if isinstance(entry, str):
            entries.append((entry, None))
        elif "images" in entry:
            entries.append((_only([str(image) for image in entry["images"]]), str(entry["label"])))
        else:
            entries.append((str(entry["image"]), str(entry["label"]) if entry["label"] else None))
    return entries


def _only(images: list[str]) -> str:
    if len(images) > 1:
        raise DatasetError(_several_files(images[0], images[-1]))
    return images[0]


def _several_files(first: object, last: object) -> str:
    advice = "Merge the channels of each case into one NIfTI (x, y, z, channel)."
    return wrong("list_cases", "image", "one file with all channels", f"{first} to {last}", advice=advice)


def _listed_cases(root: Path, entries: list[tuple[str, str | None]]) -> list[Case]:
    cases = []
    for image_name, label_name in entries:
        label = listed_file(inside(root, label_name)) if label_name else None
        image = inside(root, image_name)
        cases.append(Case(id_of_pair(image, label), _first_channel(image), label))
    return cases


def _first_channel(image: Path) -> Path:
    """The file of an image that a list names; version 1 of nnU-Net leaves the number of the channel out.

    Raises:
        DatasetError: there are further channels in files of their own.
    """
    found = listed_file(image)
    if is_there(found):
        return found
    first, second = (listed_file(_numbered(image, channel)) for channel in (0, 1))
    if is_there(first) and is_there(second):
        raise DatasetError(_several_files(first, second.name))
    return first if is_there(first) else image


def _numbered(image: Path, channel: int) -> Path:
    suffix = next((suffix for suffix in SUFFIXES if image.name.lower().endswith(suffix)), "")
    stem = image.name[: len(image.name) - len(suffix)]
    return image.with_name(f"{stem}_{channel:04d}{image.name[len(stem) :]}")


def _find_cases(root: Path, ending: str) -> list[Case]:
    """Cases of imagesTr and labelsTr; a partner that is missing is listed where it should be.

    Raises:
        DatasetError: files of another format, or a case with several files.
    """
    if not ending.lower().endswith(SUFFIXES):
        expected = "one of " + ", ".join(SUFFIXES)
        raise DatasetError(wrong("list_cases", "file_ending", expected, repr(ending), path=root / "dataset.json"))
    found = {case_id_of(path): path for path in _listed(root / "imagesTr", ending)}
    labels = {case_id_of(path): path for path in _listed(root / "labelsTr", ending)}
    images: dict[str, list[Path]] = {}
    for name, path in sorted(found.items()):
        case_id, channel = split_channel(name)
        # A number that the label has too is the case's own.
        images.setdefault(name if channel is None or name in labels else case_id, []).append(path)
    cases = []
    for case_id in sorted({*images, *labels}):
        mine = images.get(case_id, [root / "imagesTr" / f"{case_id}_0000{ending}"])
        if len(mine) > 1:
            raise DatasetError(_several_files(mine[0], mine[-1].name))
        cases.append(Case(case_id, mine[0], labels.get(case_id, root / "labelsTr" / f"{case_id}{ending}")))
    return cases


def _listed(folder: Path, ending: str) -> list[Path]:
    refuse_dangling("list_cases", [folder])
    return list_named(folder, (ending.lower(),)) if folder.is_dir() else []
