"""The report of an evaluation: figures as files, pictures of cases, and the page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankseg_rma.files.names import match_cases
from rankseg_rma.files.volumes import list_volumes
from rankseg_rma.files.writing import replacing, write_text
from rankseg_rma.report.charts import CHARTS, figure_bytes
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.runs.progress import track
from rankseg_rma.tables.frames import Tables

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
    from rankseg_rma.report.examples import CohortFiles, choose_cases
    from rankseg_rma.report.page import PageChart, PageContent, render_page
    from rankseg_rma.report.pictures import find_pictures
    from rankseg_rma.report.viewer import load_viewer

    folder = outcome.out / "figures"
    charts = []
    for name, drawn in draw_charts(tables, CHARTS, folder).items():
        chart = CHARTS[name]
        charts.append(PageChart(name, chart.title, chart.caption, _as_url(drawn[0].read_bytes())))
        outcome.written += drawn
    images = match_cases(list_volumes(given.images), given.references) if given.images is not None else {}
    if images and not images.keys() & given.references.keys():
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


def draw_charts(tables: Tables, charts: Mapping[str, Any], folder: Path) -> dict[str, list[Path]]:
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
