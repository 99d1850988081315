"""What lies in a folder: an entry of the right name counts, whatever it is.

A link whose target is not there (a data set under version control without its content) and a folder named like a file
are cases of the user's all the same: they are listed, and whoever reads one says what is wrong with it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from rankseg_rma.checks import wrong

_FETCH = "Fetch the content of the data set, or mend the link."


def is_there(path: Path) -> bool:
    """Whether there is an entry of that name, be it a link to nowhere."""
    return os.path.lexists(path)


def is_dangling(path: Path) -> bool:
    """Whether a path is a link to nowhere."""
    return path.is_symlink() and not path.exists()


def list_named(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Entries of a folder whose names end so, upper or lower case, in alphabetical order; hidden ones are left out."""
    found = (path for path in folder.iterdir() if path.name.lower().endswith(suffixes))
    # Folders list in whatever order the file system keeps.
    return sorted(path for path in found if not path.name.startswith("."))


def require_file(function: str, path: Path) -> None:
    """Raise unless a path is a file.

    Args:
        function: who asks, for the message.
        path: what is to be read.
    Raises:
        FileNotFoundError: there is nothing, a link to nowhere, or a folder; the message says which.
    """
    if path.is_file():
        return
    got, advice = str(path), ""
    if is_dangling(path):
        got, advice = _word_link(path), _FETCH
    elif path.is_dir():
        got += ", a folder"
    raise FileNotFoundError(wrong(function, "path", "an existing file", got, advice=advice))


def refuse_dangling(function: str, folders: Sequence[Path]) -> None:
    """Raise when a folder is a link to nowhere: the cases in it would be missed in silence.

    Raises:
        FileNotFoundError: one is.
    """
    for folder in folders:
        if is_dangling(folder):
            got = _word_link(folder)
            raise FileNotFoundError(wrong(function, "folder", "an existing folder", got, advice=_FETCH))


def _word_link(path: Path) -> str:
    return f"{path}, a link to {os.readlink(path)}, which is not there"
