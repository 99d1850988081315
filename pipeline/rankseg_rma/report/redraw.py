"""Figures drawn again from a finished evaluation."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.metrics import find_metric
from rankseg_rma.report.build import draw_charts
from rankseg_rma.report.charts import CHARTS
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.tables.frames import Tables
from rankseg_rma.tables.store import read_rows


def read_tables(folder: Path, first: str | None, second: str | None, metric: str) -> Tables:
    """The tables that an evaluation wrote.

    Args:
        folder: with cases.csv.
        first: decoder that is compared with; None takes the first of cases.csv.
        second: decoder compared with it; None takes the second.
        metric: score that the figures are about.
    Raises:
        FileNotFoundError: no cases.csv.
        ValueError: a decoder or metric that it does not hold.
    """
    file = folder / "cases.csv"
    if not file.is_file():
        raise FileNotFoundError(wrong("figures", "folder", "one that evaluate or compare wrote", folder))
    scores = read_rows(file)
    arms, metrics = list(dict.fromkeys(scores["decoder"])), list(dict.fromkeys(scores["metric"]))
    require_one_of("figures", "metric", find_metric(metric).name, metrics)
    first = require_one_of("figures", "first", first or arms[0], arms)
    second = require_one_of("figures", "second", second or (arms[1] if len(arms) > 1 else arms[0]), arms)
    tables = Tables(first, second, metric, scores)
    names = [field.name for field in fields(Tables) if field.name not in ("first", "second", "metric", "scores")]
    frames = {name: read_rows(folder / f"{name}.csv") for name in names if (folder / f"{name}.csv").is_file()}
    return replace(tables, **frames)


def draw_figures(
    folder: Path, out: Path, names: Sequence[str] | None, first: str | None, second: str | None, metric: str
) -> Outcome:
    """Draw figures of an evaluation again.

    Args:
        folder: what `evaluate` wrote.
        out: gets NAME.png and NAME.svg.
        names: figures; None draws all that the tables allow.
        first: as for `read_tables`.
        second: as for `read_tables`.
        metric: as for `read_tables`.
    """
    charts = CHARTS
    for name in names or ():
        require_one_of("figures", "name", name, charts)
    wanted = {name: charts[name] for name in names or charts}
    outcome = Outcome(out)
    tables = read_tables(folder, first, second, metric)
    found = draw_charts(tables, wanted, out)
    outcome.written += [path for files in found.values() for path in files]
    for name in wanted:
        if names and name not in found:
            outcome.failed[name] = f"{folder} holds nothing to draw it from"
    return outcome
