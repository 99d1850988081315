"""The interactive viewer of the page: NiiVue, which `make viewer` puts into the folder beside this file."""

from pathlib import Path

FOLDER = Path(__file__).with_name("viewer")


def load_viewer() -> str | None:
    """NiiVue's script with the licences of everything in it as a comment; None where it was not built."""
    script, licences = FOLDER / "niivue.umd.js", FOLDER / "niivue.LICENSES.txt"
    if not script.is_file() or not licences.is_file():
        return None
    comment = licences.read_text(encoding="utf-8").replace("*/", "* /")
    return f"/*!\n{comment}\n*/\n{script.read_text(encoding='utf-8')}"
