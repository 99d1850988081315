"""The rows of the paper's tables, as configs/reproduce.yaml lists them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.files.resources import resource_dir


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's tables, from configs/reproduce.yaml.

    Attributes:
        recipe: name of the recipe; it names the data set.
        part: part of the data that is tested.
        metric: "iou" or "dice", which RMA maximises.
        score: the published score, as test_summary.csv names it.
        unit: "image" or "slice", for which RMA decodes and scores are averaged.
        folds: folds whose cases are tested, each by its own network; None where the parts are official.
        published: points of "argmax" and "rma".
        source: where they are published.
    """

    name: str
    title: str
    recipe: str
    part: str
    metric: str
    score: str
    unit: str
    folds: tuple[int, ...] | None
    published: Mapping[str, float]
    source: str

    @property
    def decoders(self) -> dict[str, str]:
        """Name in the tables of `test` by decoder."""
        return {"argmax": "argmax", "rma": "rma" if self.unit == "image" else f"rma_{self.unit}"}


def list_rows() -> dict[str, PaperRow]:
    """All rows by name.

    Raises:
        DatasetError: configs/reproduce.yaml has missing, unknown or contradicting entries.
    """
    path = resource_dir("configs") / "reproduce.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: _build_row(name, entry, path) for name, entry in content.items()}


def _build_row(name: str, entry: Any, path: Path) -> PaperRow:
    needed = {field.name for field in fields(PaperRow)} - {"name"}
    expected = f"a mapping of {', '.join(sorted(needed))}, with folds for slices and none for images"
    if not isinstance(entry, dict) or set(entry) != needed or (entry["unit"] == "slice") != bool(entry["folds"]):
        raise DatasetError(wrong("reproduce", f"row {name}", expected, entry, path=path))
    return PaperRow(**{"name": name, **entry, "folds": tuple(entry["folds"]) if entry["folds"] else None})


def find_row(name: str) -> PaperRow:
    """The row of a name.

    Raises:
        ValueError: there is none; a likely spelling is named.
    """
    rows = list_rows()
    if name not in rows:
        close = difflib.get_close_matches(name, rows, n=1)
        advice = f"Did you mean {close[0]!r}?" if close else "`rankseg-rma reproduce --list` shows them."
        raise ValueError(wrong("reproduce", "row", "one of " + ", ".join(rows), repr(name), advice=advice))
    return rows[name]
