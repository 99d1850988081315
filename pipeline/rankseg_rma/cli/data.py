"""``rankseg-rma data``: data sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rankseg_rma.cli.options import OutFolder, reporting, say
from rankseg_rma.workflows.outcome import Outcome

app = typer.Typer(no_args_is_help=True, help="Data sets: list, describe, make the phantom, check a folder.")
make_app = typer.Typer(no_args_is_help=True, help="Make a data set.")
app.add_typer(make_app, name="make")


@app.command("list")
@reporting
def list_datasets() -> None:
    """List the data sets that have a card."""
    from rankseg_rma.datasets import list_cards, load_card

    table = Table("name", "modality", "task", "licence", box=None)
    for name in list_cards():
        card = load_card(name)
        table.add_row(name, card.modality or "", card.task, card.licence)
    Console().print(table)


@app.command()
@reporting
def describe(name: Annotated[str, typer.Argument(help="Name of a data set, or path of a card.")]) -> None:
    """Show a data set's card."""
    from dataclasses import asdict

    import yaml

    from rankseg_rma.datasets import load_card

    card = asdict(load_card(name))
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in card.items()}
    say(yaml.safe_dump(plain, sort_keys=False, width=100).rstrip())


@make_app.command()
@reporting
def phantom(
    out: OutFolder,
    cases: Annotated[int, typer.Option(min=1, help="Number of cases.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cohort.")] = 0,
) -> Outcome:
    """Make a synthetic abdominal CT cohort with liver and tumours."""
    from rankseg_rma.workflows.data import make_phantom_cohort

    return make_phantom_cohort(out, cases, seed)


@app.command()
@reporting
def check(
    name: Annotated[str, typer.Argument(help="Name of a data set, or path of a card.")],
    root: Annotated[Path, typer.Option(help="The data set's folder.")],
) -> None:
    """Read every case: does it load, do image and label share a grid, are the labels those of the card?"""
    from rankseg_rma.workflows.data import check_dataset

    num_cases, faults = check_dataset(name, root)
    if faults:
        table = Table("case", "file", "problem", box=None)
        for fault in faults:
            table.add_row(*fault.values())
        Console(soft_wrap=True).print(table)
    bad = len({fault["case_id"] for fault in faults})
    say(f"{num_cases} cases, {num_cases - bad} good, {bad} with faults")
    if faults:
        raise typer.Exit(1)
