"""The command that draws figures again."""

from pathlib import Path
from typing import Annotated

import typer

from rankseg_rma.cli.options import OutFolder, ReportMetric
from rankseg_rma.cli.outcome import reporting
from rankseg_rma.runs.outcome import Outcome


@reporting
def figures(
    scores: Annotated[Path, typer.Argument(help="Folder that evaluate or compare wrote.")],
    out: OutFolder,
    name: Annotated[
        list[str] | None, typer.Option(help="Figure to draw; may be repeated. Default: all that the tables allow.")
    ] = None,
    first: Annotated[str | None, typer.Option(help="Decoder compared with; default: the first of the tables.")] = None,
    second: Annotated[str | None, typer.Option(help="Decoder compared; default: the second of the tables.")] = None,
    metric: ReportMetric = "dice",
) -> Outcome:
    """Draw single figures of an evaluation again, as PNG and SVG."""
    from rankseg_rma.report.redraw import draw_figures

    return draw_figures(scores, out, name, first, second, metric)
