"""Which case a file is of, by its name alone: suffixes, spelling, and nnU-Net's number of an image's channel."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from rankseg_rma.checks import wrong

NIFTI_SUFFIXES = (".nii.gz", ".nii")
SITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
SUFFIXES = (*NIFTI_SUFFIXES, *SITK_SUFFIXES)
# 3D Slicer marks segmentations so; the mark is no part of the case's name.
_SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr")
# nnU-Net numbers the channels of an image, from 0000. Its labels, masks and probabilities have no number.
_CHANNEL = re.compile(r"(.+)_(\d{4})")
FIRST_CHANNEL = "_0000"

T = TypeVar("T")


def compose(text: str) -> str:
    """Text in Unicode's composed form (NFC): macOS and some archives store an ü as u and a mark of its own."""
    return unicodedata.normalize("NFC", text)


def case_id_of(path: str | Path) -> str:
    """File name without the suffixes of an image, in composed Unicode; a channel's number is still there.

    Example:
        >>> case_id_of("imagesTr/liver_12.nii.gz")
        'liver_12'
        >>> case_id_of("case1.seg.nrrd")
        'case1'
    """
    name = compose(Path(path).name)
    # `.seg.nrrd` is tried before `.nrrd`, which would leave the mark in the case's name.
    suffix = next((suffix for suffix in (*_SEGMENTATION_SUFFIXES, *SUFFIXES) if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def split_channel(image_id: str) -> tuple[str, int | None]:
    """What would be the case and the channel of an image's name; no channel where it has no number of four digits.

    Example:
        >>> split_channel("liver_12_0000"), split_channel("case_00007")
        (('liver_12', 0), ('case_00007', None))
    """
    found = _CHANNEL.fullmatch(image_id)
    return (found[1], int(found[2])) if found else (image_id, None)


def id_of_pair(image: str | Path, label: str | Path | None) -> str:
    """Case id of an image that a list pairs with a label: nnU-Net's label tells whether a number is a channel's.

    Example:
        >>> id_of_pair("imagesTr/x_0000.nii.gz", "labelsTr/x.nii.gz"), id_of_pair("a/x_0000.nii", "b/x_0000.nii")
        ('x', 'x_0000')
    """
    image_id = case_id_of(image)
    return split_channel(image_id)[0] if label and split_channel(image_id)[0] == case_id_of(label) else image_id


def group_channels(images: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Files of each case, its channels in order.

    Numbers 0000, 0001, ... without a gap after the same name are read as channels of one case; whether a network takes
    as many is for the caller to check. Any other number is part of the id, as in a folder with case_0003 and case_0007.

    Args:
        images: image files by name, as `case_id_of` gives it.
    Raises:
        ValueError: there is a file ``x`` beside ``x_0000``.
    """
    numbers: dict[str, set[int]] = {}
    for name in images:
        case_id, channel = split_channel(name)
        if channel is not None:
            numbers.setdefault(case_id, set()).add(channel)
    found: dict[str, tuple[Path, ...]] = {}
    for name, path in images.items():
        case_id, channel = split_channel(name)
        files: tuple[Path, ...] = (path,)
        if channel is None or numbers[case_id] != {*range(len(numbers[case_id]))}:
            case_id = name
        else:
            files = tuple(images[f"{case_id}_{number:04d}"] for number in sorted(numbers[case_id]))
        # Every channel of a case comes by here with the same files; other files mean `x` beside `x_0000`.
        if found.get(case_id, files) != files:
            raise ValueError(_two_files(case_id, found[case_id][0], files[0]))
        found[case_id] = files
    return found


def name_cases(files: Mapping[str, Path]) -> dict[str, Path]:
    """Files of which each is a case of its own, as probabilities are: ``x_0000`` alone is of case ``x``.

    Raises:
        ValueError: there is a file ``x`` beside ``x_0000``.
    """
    found: dict[str, Path] = {}
    for case_id, paths in group_channels(files).items():
        found |= {case_id: paths[0]} if len(paths) == 1 else {case_id_of(path): path for path in paths}
    return found


def match_cases(files: Mapping[str, T], known: Collection[str]) -> dict[str, T]:
    """Files under the ids of the cases that are known, such as references.

    Where no id agrees, a file is of the known case from which it differs by the number of the first channel alone;
    failing that it keeps its id.

    Raises:
        ValueError: two files are of one case.
    Example:
        >>> match_cases({"x_0000": 1, "y": 2}, ["x", "y"])
        {'x': 1, 'y': 2}
    """
    found: dict[str, T] = {}
    for name, file in files.items():
        short = name.removesuffix(FIRST_CHANNEL)
        # An equal id first: a case may be called x_0000 itself.
        case_id = next((known_id for known_id in (name, short, short + FIRST_CHANNEL) if known_id in known), name)
        if case_id in found:
            raise ValueError(_two_files(case_id, found[case_id], file))
        found[case_id] = file
    return found


def _two_files(case_id: str, first: object, second: object) -> str:
    advice = "Rename one, or take it away."
    return wrong("match_cases", "files", "one a case", f"{first} and {second}", case_id=case_id, advice=advice)
