"""``rankseg-rma data``: data sets."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rankseg_rma.cli.options import OutFolder
from rankseg_rma.cli.outcome import reporting, say
from rankseg_rma.runs.outcome import Outcome

app = typer.Typer(no_args_is_help=True, help="Data sets: list, describe, check a folder, prepare it, make the phantom.")
make_app = typer.Typer(no_args_is_help=True, help="Make a data set.")


app.add_typer(make_app, name="make")


CardName = Annotated[str, typer.Argument(metavar="NAME", help="Name of a data set, or path of a card.")]


@app.command("list")
@reporting
def list_datasets() -> None:
    """List the data sets that have a card."""
    from rankseg_rma.datasets import list_cards, load_card

    table = Table("name", "kind", "modality", "task", "licence", box=None)
    for name in list_cards():
        card = load_card(name)
        table.add_row(name, card.kind, card.modality or "", card.task, card.licence)
    Console().print(table)


@app.command()
@reporting
def describe(name: CardName) -> None:
    """Show a data set's card."""
    from dataclasses import asdict

    import yaml

    from rankseg_rma.datasets import load_card

    card = load_card(name)
    facts = {"kind": card.kind, **{key: _plain(value) for key, value in asdict(card).items() if value is not None}}
    say(yaml.safe_dump(facts, sort_keys=False, width=100, allow_unicode=True, default_flow_style=None).rstrip())


def _plain(value: Any) -> Any:
    """Lists in place of tuples, without entries that are not set, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items() if entry is not None}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


@make_app.command()
@reporting
def phantom(
    out: OutFolder,
    cases: Annotated[int, typer.Option(min=1, help="Number of cases.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cohort.")] = 0,
) -> Outcome:
    """Make a synthetic abdominal CT cohort with liver and tumours."""
    from rankseg_rma.datasets.phantom import make_phantom_cohort

    return make_phantom_cohort(out, cases, seed)


@app.command()
@reporting
def check(
    name: CardName,
    root: Annotated[Path, typer.Option(help="The data set's folder, or what `prepare` made of it.")],
    labels_only: Annotated[bool, typer.Option("--labels-only", help="There are no images yet.")] = False,
) -> None:
    """Read every case: does it load, do image and label fit each other, are the labels those of the card?"""
    from rankseg_rma.datasets.check import check_dataset

    result = check_dataset(name, root, labels_only)
    if result.faults:
        table = Table("case", "file", box=None)
        table.add_column("problem", overflow="fold")
        for fault in result.faults:
            table.add_row(*fault.values())
        Console(soft_wrap=True).print(table)
    for note in result.notes:
        say(note)
    bad = len({fault["case_id"] for fault in result.faults})
    say(f"{result.num_cases} cases, {result.num_cases - bad} good, {bad} with faults")
    if result.faults:
        raise typer.Exit(1)


@app.command()
@reporting
def prepare(
    name: CardName,
    root: Annotated[Path, typer.Option(help="The original download, unpacked; it is only read.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; data sets that are read as they are need none.")
    ] = None,
    sbd: Annotated[Path | None, typer.Option(help="For pascal_voc: SBD's folder benchmark_RELEASE.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core for much data.")] = None,
) -> Outcome:
    """Make what 2D training needs: axial slices of volumes, or PASCAL VOC's trainaug masks. Resumable."""
    from rankseg_rma.datasets.prepare import prepare_dataset

    return prepare_dataset(name, root, out, sbd, workers)
