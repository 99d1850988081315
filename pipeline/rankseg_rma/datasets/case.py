"""One case of a data set."""

import os
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.files.listing import is_there
from rankseg_rma.files.names import compose


@dataclass(frozen=True)
class Case:
    """One case: a volume, an image, or a slice of a slice store.

    Attributes:
        case_id: slices of one volume share it.
        image: the image; for a slice, the file that holds image and label.
        label: reference label map; None where there is none to be had, as in the test of a challenge.
        part: official part, "training", "validation" or "test"; None where cases are split by us.
        slice_index: of a slice, its index along the axial axis of the volume's file.
    """

    case_id: str
    image: Path
    label: Path | None
    part: str | None = None
    slice_index: int | None = None

    @property
    def id(self) -> str:
        """Id of this very item: of a slice the case id and its index."""
        return self.case_id if self.slice_index is None else f"{self.case_id}_{self.slice_index:04d}"


def find_folder(
    root: Path, marker: str, below: tuple[str, ...], *, function: str, argument: str = "root", advice: str
) -> Path:
    """The folder that holds the folder ``marker``: ``root``, or one of the usual ones below it.

    Raises:
        FileNotFoundError: none does; the message names ``function``, ``argument`` and ``advice``.
    """
    for folder in (root, *(root / name for name in below)):
        if (folder / marker).is_dir():
            return folder
    raise FileNotFoundError(wrong(function, argument, f"a folder with {marker}", root, advice=advice))


def inside(root: Path, name: Any) -> Path:
    """Path of a file that a list or dataset.json names; it must lie in the folder.

    An absolute path into the folder and Windows' backslashes are understood.

    Raises:
        DatasetError: it does not.
    """
    # By name, not by what a link points to: data sets are often folders of links.
    normal = os.path.normpath(_posix(root, str(name)))
    # A list may name the folder as the user does, or by what a link to it points to.
    for base in (os.path.abspath(root), os.path.realpath(root)):
        if os.path.isabs(normal) and Path(normal).is_relative_to(base):
            normal = os.path.relpath(normal, base)
    # For this system C:/x is a relative path.
    if os.path.isabs(normal) or PureWindowsPath(normal).drive or normal.split(os.sep)[0] == os.pardir:
        raise DatasetError(wrong("list_cases", "list of files", "paths inside its folder", name, path=root))
    return root / normal


def _posix(root: Path, name: str) -> str:
    """A path as Windows writes it, with the slashes of this system; a backslash may be part of a file's name here."""
    return name if "\\" not in name or (root / name).exists() else name.replace("\\", "/")


def listed_file(path: Path) -> Path:
    """The file that a list names, in whatever Unicode form the disk has it; the path itself where there is none."""
    # ASCII has one Unicode form only, and folders of thousands of files are slow to search.
    if is_there(path) or not path.parent.is_dir() or path.name.isascii():
        return path
    wanted = compose(path.name)
    return next((other for other in sorted(path.parent.iterdir()) if compose(other.name) == wanted), path)
