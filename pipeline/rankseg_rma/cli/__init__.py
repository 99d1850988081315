"""The command line: parsing only. Heavy libraries are imported inside the commands, so that --help answers at once."""

from typing import Annotated

import typer

from rankseg_rma import __version__
from rankseg_rma.cli import datasets, evaluation, paper, prediction, report, training
from rankseg_rma.cli.outcome import say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Masks decoded for Dice or IoU, where argmax decodes for voxel accuracy. "
    "Exit codes: 0 all well, 1 some case failed, 2 wrong use.",
)
app.add_typer(datasets.app, name="data")
for command in (
    training.train, prediction.infer, prediction.decode, evaluation.evaluate, evaluation.compare, evaluation.advise,
    report.figures, prediction.demo,
):  # fmt: skip
    app.command()(command)
app.command("test")(paper.trial)
app.command()(paper.reproduce)


def _show_version(value: bool) -> None:
    if value:
        say(f"rankseg-rma {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Masks decoded for Dice or IoU, where argmax decodes for voxel accuracy."""


def main() -> None:
    """Entry point of ``rankseg-rma``."""
    app()
