"""The record of a run: command, versions, files that it wrote."""

import json
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

PROVENANCE = "provenance.json"
# argv[0] under pip's scripts and `python -m`; under any other name the arguments are those of somebody's own program.
_PROGRAMS = ("rankseg-rma", "rankseg-rma.exe", "__main__.py")
_PACKAGES = ("numpy", "scipy", "pandas", "nibabel", "connected-components-3d", "monai", "torch", "numba")


def files_of_earlier_run(out: Path) -> set[Path]:
    """What an earlier evaluation wrote into the same folder, by its own record; nothing else is ever removed."""
    try:
        names = json.loads((out / PROVENANCE).read_text(encoding="utf-8"))["files"]
        paths = {(out / name).resolve() for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    # The record may have been edited or come from elsewhere: what lies outside of the folder is not ours to remove.
    return {path for path in paths if path.is_relative_to(out.resolve())}


def package_versions(names: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Versions of the libraries that a result depends on."""
    return {name: metadata.version(name) for name in names}


def command_line() -> str:
    """The command as it was typed, or that there was none."""
    if Path(sys.argv[0]).name not in _PROGRAMS:
        return "called from Python"
    return shlex.join(["rankseg-rma", *sys.argv[1:]])
