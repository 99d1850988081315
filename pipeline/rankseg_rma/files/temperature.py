"""The file that holds a fitted temperature."""

import json
from pathlib import Path

from rankseg_rma.checks import DatasetError, wrong


def read_temperature(path: str | Path) -> float:
    """Read a temperature file.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is not JSON with a number ``temperature``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(wrong("read_temperature", "path", "an existing file", path))
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["temperature"])
    except (ValueError, KeyError, TypeError) as error:
        expected = "JSON with a number 'temperature'"
        raise DatasetError(
            wrong("read_temperature", "file", expected, f"{type(error).__name__}: {error}", path=path)
        ) from error
