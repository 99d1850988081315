"""The file that holds a fitted temperature."""

from pathlib import Path
from typing import Any

from rankseg_rma.checks import DatasetError, require_number, wrong
from rankseg_rma.files.json_files import read_json


def read_temperature(path: str | Path) -> float:
    """Read a temperature file.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is not JSON with a number ``temperature`` that `scale_probabilities` takes.
    """
    from rankseg_rma.decoder.temperature import TEMPERATURE_RANGE

    low, high = TEMPERATURE_RANGE
    expected = f"JSON with a number 'temperature' in [{low:g}, {high:g}]"
    content = read_json("read_temperature", path, expected)
    given: Any = content.get("temperature", "none") if isinstance(content, dict) else repr(content)
    try:
        return require_number("read_temperature", "temperature", given, low, high)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(wrong("read_temperature", "file", expected, repr(given), path=path)) from error
