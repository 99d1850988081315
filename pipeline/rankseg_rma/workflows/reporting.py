"""The report of an evaluation: figures as files, pictures of cases, and the page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.evaluation import find_metric
from rankseg_rma.report.charts import CHARTS, figure_bytes
from rankseg_rma.report.content import Tables
from rankseg_rma.volumes import list_volumes, replacing, write_text
from rankseg_rma.workflows.outcome import Outcome, read_rows, track

# Montages on a page; the first of them are in the viewer too.
_NUM_PICTURES, _NUM_VIEWER_CASES = 8, 4


@dataclass(frozen=True)
class ReportInput:
    """What a report needs beside the tables.

    Attributes:
        predictions: mask files by decoder and case id.
        references: reference files by case id.
        images: folder of images; None without.
        missing: case ids by what is missing.
        partial: why this is no full run; empty when it is.
        window: grey values shown as black and white; None chooses.
        title: heading of the page.
    """

    predictions: Mapping[str, Mapping[str, Path]]
    references: Mapping[str, Path]
    images: Path | None
    missing: Mapping[str, Sequence[str]]
    partial: str
    window: tuple[float, float] | None
    title: str


def write_report(tables: Tables, given: ReportInput, provenance: Mapping[str, Any], outcome: Outcome) -> None:
    """Write report.html, and every figure also to figures/ as PNG and SVG; ``provenance`` is shown at its end."""
    from rankseg_rma.report.page import PageChart, PageContent, render_page
    from rankseg_rma.report.viewer import load_viewer
    from rankseg_rma.workflows.pictures import CohortFiles, choose_cases, find_image, find_pictures

    folder = outcome.out / "figures"
    charts = []
    for name, files in _draw(tables, CHARTS, folder).items():
        chart = CHARTS[name]
        charts.append(PageChart(name, chart.title, chart.caption, _as_url(files[0].read_bytes())))
        outcome.written += files
    images = list_volumes(given.images) if given.images is not None else {}
    if images and not any(find_image(images, case_id) for case_id in given.references):
        outcome.notes.append(f"warning: no image in {given.images} has the name of a case, as {min(images)!r}")
    files = CohortFiles(given.references, given.predictions, images)
    choices = choose_cases(tables, _NUM_PICTURES)
    pictures = find_pictures(tables, choices, files, window=given.window, num_viewer_cases=_NUM_VIEWER_CASES)
    for number, picture in enumerate(pictures.montages, start=1):
        path = folder / f"case_{number}_{picture.kind}.png"
        with replacing(path) as temporary:
            temporary.write_bytes(base64.b64decode(picture.url.partition(",")[2]))
        outcome.written.append(path)
    content = PageContent(
        title=given.title, tables=tables, charts=charts, montages=pictures.montages,
        viewer_cases=pictures.viewer_cases, viewer_script=load_viewer() if pictures.viewer_cases else None,
        failed=dict(outcome.failed), missing=given.missing, partial=given.partial,
        empty_policy=str(tables.scores["empty_policy"].iloc[0]), notes=pictures.notes, provenance=provenance,
    )  # fmt: skip
    page = outcome.out / "report.html"
    write_text(page, render_page(content))
    outcome.written.append(page)
    outcome.last = f"Open the page: {page.resolve()}"


def _draw(tables: Tables, charts: Mapping[str, Any], folder: Path) -> dict[str, list[Path]]:
    """Files of every chart that the tables allow, PNG first."""
    found = {}
    for name, chart in track(charts.items(), "drawing", len(charts)):
        files = [folder / f"{name}.{format}" for format in ("png", "svg")]
        figure = chart.draw(tables)
        for path in files if figure is not None else ():
            with replacing(path) as temporary:
                temporary.write_bytes(figure_bytes(figure, path.suffix[1:]))
        if figure is not None:
            found[name] = files
    return found


def _as_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


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
    found = _draw(tables, wanted, out)
    outcome.written += [path for files in found.values() for path in files]
    for name in wanted:
        if names and name not in found:
            outcome.failed[name] = f"{folder} holds nothing to draw it from"
    return outcome
