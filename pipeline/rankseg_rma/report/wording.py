"""How the page writes numbers, and the blocks that its tables are built of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas

from rankseg_rma.metrics.metric import EMPTY_POLICIES, find_metric
from rankseg_rma.tables.frames import Tables

NONE = "–"
MEAN = "mean"
_UNITS = {"1": "points", "mm": "mm", "ml": "mL", "count": "lesions"}
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Cell:
    """Text of a cell, its look ("", "better", "worse", "mark") and the id of the row that it links to."""

    text: str
    look: str = ""
    target: str = ""


@dataclass(frozen=True)
class Interval:
    """A mean difference and its interval, as places from 0 (left end of the drawing) to 1."""

    text: str
    mean: float
    low: float
    high: float
    look: str


@dataclass(frozen=True)
class Table:
    """Headings (text, is_left), rows of cells, and an id per row (or "")."""

    headings: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Any]]
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Score:
    """How a metric is written. A fraction is written in points, 0 to 100."""

    name: str
    title: str
    unit: str
    better: str

    @property
    def unit_text(self) -> str:
        return _UNITS.get(self.unit, self.unit)

    @property
    def suffix(self) -> str:
        """Unit after a value in a sentence; nothing after a score in points."""
        return "" if self.unit == "1" else f" {self.unit_text}"

    def text(self, value: Any, signed: bool = False) -> str:
        return write_quantity(value, self.unit, signed)

    def gain(self, difference: float) -> float:
        """A difference, positive where it is for the better."""
        return -difference if self.better == "lower" else difference

    def look(self, difference: Any) -> str:
        """Whether a difference beyond one point (or one unit) is for the better."""
        gain = self.gain(difference) * (100 if self.unit == "1" else 1)
        if not self.better or np.isnan(gain):
            return ""
        # A difference of exactly one stays none, whatever its last bit says.
        return "better" if gain > 1 + 1e-9 else "worse" if gain < -1 - 1e-9 else ""

    def look_of_interval(self, low: float, high: float) -> str:
        """Whether an interval of a difference lies on the better or the worse side of none.

        The ends are taken as they are written, so that nobody reads "better" beside an interval from +0.00.
        """
        gains = sorted(self.gain(self.as_written(value)) for value in (low, high))
        return "" if not self.better else "better" if gains[0] > 0 else "worse" if gains[1] < 0 else ""

    def as_written(self, value: float) -> float:
        """A value with as many digits as the page shows."""
        return round(value, {"1": 4, "ml": 3}.get(self.unit, 2))


def score_of(name: str) -> Score:
    """How a metric of a given name is written; one that the metric table lacks is taken for a fraction."""
    if name.endswith("_global"):
        whole = score_of(name.removesuffix("_global"))
        return Score(name, f"{whole.title}, global", whole.unit, whole.better)
    try:
        metric = find_metric(name)
    except ValueError:
        return Score(name, name.replace("_", " "), "1", "higher")
    return Score(name, metric.title, metric.unit, metric.better)


def describe_score(tables: Tables) -> Score:
    """The score that a page is about."""
    return score_of(tables.metric)


def write_quantity(value: Any, unit: str, signed: bool = False) -> str:
    """A number as text: fractions in points, mL with three figures; a dash where it is not defined.

    Example:
        >>> write_quantity(0.8123, "1"), write_quantity(-0.02, "1", True), write_quantity(12.345, "ml")
        ('81.23', '-2.00', '12.3')
        >>> write_quantity(float("nan"), "mm")
        '–'
    """
    if value is None or isinstance(value, str) or not np.isfinite(value):
        return NONE
    # z: what rounds to zero is written without a minus.
    sign = "+z" if signed else "z"
    if unit == "ml":
        # 0 has no logarithm; below 0.01 mL three decimals are the most anyway.
        digits = int(np.clip(2 - np.floor(np.log10(max(abs(value), 0.01))), 0, 3))
        return format(float(value), f"{sign}.{digits}f")
    return format(100 * value if unit == "1" else float(value), f"{sign}.2f")


def write_interval(low: Any, high: Any, unit: str) -> str:
    """Ends of an interval of a difference, or why there is none."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "too few patients"
    return f"{write_quantity(low, unit, True)} to {write_quantity(high, unit, True)}"


def describe_doubt(row: Row) -> str:
    """Why an interval that excludes no difference does not settle it; empty when it does.

    A bootstrap of few cases is too sure when one of them carries the difference; the permutation test is not.
    """
    p = number(row, "p_permutation")
    return f", but a permutation test does not confirm it, p = {write_p(p)}" if p >= 0.05 else ""


def write_p(value: Any) -> str:
    """A p value with two figures, never as 0."""
    if value is None or not np.isfinite(value):
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def write_count(value: Any) -> str:
    return NONE if value is None or not np.isfinite(value) else f"{value:.0f}"


def write_plain(value: Any, digits: int = 3) -> str:
    return NONE if value is None or isinstance(value, str) or not np.isfinite(value) else f"{value:z.{digits}f}"


def write_policy(policy: str) -> str:
    """How empty masks count, in words; a text that names no policy is given back.

    Example:
        >>> write_policy("monai")
        'both empty left out, only the reference empty left out, only the prediction empty counts 0 (policy "monai")'
    """
    if policy not in EMPTY_POLICIES:
        return policy
    words = {"both_empty": "both", "reference_empty": "only the reference", "prediction_empty": "only the prediction"}
    counts = [
        f"{words[status]} empty {'left out' if np.isnan(value) else f'counts {value:g}'}"
        for status, value in EMPTY_POLICIES[policy].items()
    ]
    return f'{", ".join(counts)} (policy "{policy}")'


def number(row: Row, key: str) -> float:
    value = row.get(key)
    return float("nan") if value is None or isinstance(value, str) else float(value)


def text_of(key: str) -> Callable[[Row], str]:
    # NaN is not equal to itself.
    return lambda row: str(row[key]) if key in row and row[key] == row[key] else NONE


def count_of(key: str) -> Callable[[Row], str]:
    return lambda row: write_count(number(row, key))


def plain_of(key: str, digits: int = 3) -> Callable[[Row], str]:
    return lambda row: write_plain(number(row, key), digits)


def quantity_of(key: str, unit: str, signed: bool = False) -> Callable[[Row], str]:
    return lambda row: write_quantity(number(row, key), unit, signed)


def share_of(key: str) -> Callable[[Row], str]:
    return lambda row: write_plain(100 * number(row, key), 1)


Column = tuple[str, bool, Callable[[Row], Any]]


def left(heading: str, write: Callable[[Row], Any]) -> Column:
    return heading, True, write


def right(heading: str, write: Callable[[Row], Any]) -> Column:
    return heading, False, write


def build(rows: Iterable[Row] | pandas.DataFrame, columns: Sequence[Column], ids: Sequence[str] = ()) -> Table | None:
    """Rows through columns; None without a row."""
    found = rows.to_dict("records") if isinstance(rows, pandas.DataFrame) else list(rows)
    if not found:
        return None
    headings = [(heading, is_left) for heading, is_left, _ in columns]
    return Table(headings, [[_as_cell(write(row)) for _, _, write in columns] for row in found], ids)


def _as_cell(value: Any) -> Any:
    return Cell(value) if isinstance(value, str) else value
