"""JSON that other tools or people wrote: with a byte-order mark, with the names of labels either way round."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.files.listing import require_file


def read_json(function: str, path: str | Path, expected: str = "a JSON file") -> Any:
    """Content of a JSON file, with a byte-order mark or without.

    Args:
        function: who asks, for the message.
        path: the file.
        expected: what it should be, for the message.
    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is no JSON in UTF-8.
    """
    path = Path(path)
    require_file(function, path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        got = f"{type(error).__name__}: {error}"
        raise DatasetError(wrong(function, path.name, expected, got, path=path)) from error


def values_by_name(labels: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Values of each label or region, from ``{"1": "liver"}`` or, as nnU-Net writes it, ``{"liver": 1}``.

    A region of nnU-Net is a list of values; background and what is of one value are tuples of one.

    Raises:
        ValueError: it is neither; two labels have one name.
    Example:
        >>> values_by_name({"0": "background", "1": "liver"})
        {'background': (0,), 'liver': (1,)}
        >>> values_by_name({"background": 0, "whole": [1, 2], "core": 2})
        {'background': (0,), 'whole': (1, 2), 'core': (2,)}
    """
    found: dict[str, tuple[int, ...]] = {}
    for key, content in labels.items():
        if isinstance(content, str) and key.strip().isdecimal():
            name, values = content, (int(key),)
        else:
            name, values = key, tuple(content) if isinstance(content, list) else (content,)
        # In Python true is an int too.
        if not values or not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0
                                 for value in values):  # fmt: skip
            raise ValueError(f"label {key!r} with {content!r}")
        if not name.strip() or name in found:
            raise ValueError(f"label {key!r} with the name {name!r}" + (" again" if name in found else ""))
        found[name] = values
    return found
