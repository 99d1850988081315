"""The command line: parsing only. Heavy libraries are imported inside the commands, so that --help answers at once."""

import functools
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rankseg_rma import __version__
from rankseg_rma.workflows.outcome import Outcome

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Masks decoded for Dice or IoU, where argmax decodes for voxel accuracy. "
    "Exit codes: 0 all well, 1 some case failed, 2 wrong use.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: list, describe, make the phantom, check a folder.")
make_app = typer.Typer(no_args_is_help=True, help="Make a data set.")
app.add_typer(data_app, name="data")
data_app.add_typer(make_app, name="make")


class Decode(StrEnum):
    """Which masks to write."""

    rma = "rma"
    argmax = "argmax"
    both = "both"


class ScoreMetric(StrEnum):
    """The score that RMA maximises."""

    dice = "dice"
    iou = "iou"


class ScoreUnit(StrEnum):
    """What one score is computed over."""

    volume = "volume"
    slice = "slice"


OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")]
Temperature = Annotated[
    str | None,
    typer.Option(
        help="'none', a number or a temperature.json; default: the one stored with the model or probabilities."
    ),
]
DecodeOption = Annotated[Decode, typer.Option("--decode", help="Masks to write.")]
MetricOption = Annotated[ScoreMetric, typer.Option(help="Score that RMA maximises.")]
UnitOption = Annotated[ScoreUnit, typer.Option(help="What one score is computed over: take the unit that you report.")]
SliceAxis = Annotated[str, typer.Option(help="axial, coronal, sagittal or an array axis; for slice units.")]
Pruning = Annotated[
    float, typer.Option(min=0, max=1, help="A class whose largest probability is not above this is empty.")
]


def _print(text: str, error: bool = False) -> None:
    Console(stderr=error, soft_wrap=True, markup=False, highlight=False).print(text)


def _reporting(command: Callable[..., Outcome | None]) -> Callable[..., None]:
    """Print notes and failed cases; turn errors of use into one line and exit code 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            outcome = command(*args, **kwargs)
        except (ValueError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError) as error:
            _print(f"error: {error}", error=True)
            raise typer.Exit(2) from error
        if outcome is None:
            return
        for note in outcome.notes:
            _print(note, error=note.startswith("warning"))
        for path in outcome.written:
            _print(f"wrote {path}")
        if outcome.failed:
            _print(f"{len(outcome.failed)} failed:", error=True)
            for case_id, reason in outcome.failed.items():
                _print(f"  {case_id}: {reason}", error=True)
            raise typer.Exit(1)
        if outcome.last:
            _print(outcome.last)

    return run


def _show_version(value: bool) -> None:
    if value:
        _print(f"rankseg-rma {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Masks decoded for Dice or IoU, where argmax decodes for voxel accuracy."""


@data_app.command("list")
@_reporting
def list_datasets() -> None:
    """List the data sets that have a card."""
    from rankseg_rma.datasets import list_cards, load_card

    table = Table("name", "modality", "task", "licence", box=None)
    for name in list_cards():
        card = load_card(name)
        table.add_row(name, card.modality or "", card.task, card.licence)
    Console().print(table)


@data_app.command()
@_reporting
def describe(name: Annotated[str, typer.Argument(help="Name of a data set, or path of a card.")]) -> None:
    """Show a data set's card."""
    from dataclasses import asdict

    import yaml

    from rankseg_rma.datasets import load_card

    card = asdict(load_card(name))
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in card.items()}
    _print(yaml.safe_dump(plain, sort_keys=False, width=100).rstrip())


@make_app.command()
@_reporting
def phantom(
    out: OutFolder,
    cases: Annotated[int, typer.Option(min=1, help="Number of cases.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cohort.")] = 0,
) -> Outcome:
    """Make a synthetic abdominal CT cohort with liver and tumours."""
    from rankseg_rma.workflows.data import make_phantom_cohort

    return make_phantom_cohort(out, cases, seed)


@data_app.command()
@_reporting
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
    _print(f"{num_cases} cases, {num_cases - bad} good, {bad} with faults")
    if faults:
        raise typer.Exit(1)


@app.command()
@_reporting
def train(
    dataset: Annotated[str, typer.Option(help="Name of a data set (see data list), or path of a card.")],
    root: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: OutFolder,
    network: Annotated[
        str, typer.Option(help="Network of configs/networks, or a YAML file with network_def.")
    ] = "unet3d",
    fold: Annotated[int, typer.Option(min=0, help="Fold that is validation.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: as in configs/train.yaml.")] = None,
    loss: Annotated[
        str, typer.Option(help="ce, dice_ce, dice or focal. RMA wants calibrated probabilities: ce.")
    ] = "ce",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default: as in configs/train.yaml.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Default: as in configs/train.yaml.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: as in configs/train.yaml.")] = None,
) -> Outcome:
    """Train a network with cross-entropy, then fit its temperature on the validation cases.

    The run folder is a MONAI bundle. A killed run goes on from its last epoch when the command is given again.
    """
    from rankseg_rma.workflows.training import train_network

    entries = {"max_epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    return train_network(dataset, root, out, network, loss, fold, entries)


def _decoders(decode: Decode) -> tuple[str, ...]:
    return ("argmax", "rma") if decode is Decode.both else (decode.value,)


def _decode_options(metric: ScoreMetric, unit: ScoreUnit, slice_axis: str, pruning_prob: float) -> Any:
    from rankseg_rma.inference import DecodeOptions

    return DecodeOptions(metric.value, unit.value, _axis(slice_axis), pruning_prob)


def _axis(text: str) -> str | int:
    from rankseg_rma.volumes import find_slice_axis

    axis = int(text) if text.lstrip("-").isdigit() else text
    find_slice_axis(None, axis)
    return axis


@app.command()
@_reporting
def infer(
    bundle: Annotated[
        Path, typer.Option(help="Run folder or bundle. Its config runs as code: use only what you trust.")
    ],
    out: OutFolder,
    input: Annotated[list[Path] | None, typer.Option("--input", "-i", help="Image or folder; may be repeated.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Instead of --input: the folder of the data set of the run.")
    ] = None,
    part: Annotated[str, typer.Option(help="With --root: training, validation or test.")] = "test",
    decode: DecodeOption = Decode.both,
    metric: MetricOption = ScoreMetric.dice,
    unit: UnitOption = ScoreUnit.volume,
    slice_axis: SliceAxis = "axial",
    temperature: Temperature = None,
    pruning_prob: Pruning = 0.5,
    save_probabilities: Annotated[bool, typer.Option(help="Also write the probabilities, as 4D NIfTI.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA where there is one.")
    ] = None,
) -> Outcome:
    """Images in, masks on their own grid out, with one CSV row per case and label."""
    from rankseg_rma.checks import wrong
    from rankseg_rma.datasets import read_part
    from rankseg_rma.workflows.inference import infer_cases

    if (input is None) == (root is None):
        raise ValueError(wrong("infer", "input", "given by either --input or --root", "both" if input else "neither"))
    if root is not None:
        input = [root / entry["image"] for entry in read_part(bundle / "configs" / "datalist.json", part)]
    options = _decode_options(metric, unit, slice_axis, pruning_prob)
    return infer_cases(bundle, input or [], out, _decoders(decode), options, temperature, save_probabilities, device)


@app.command()
@_reporting
def decode(
    probabilities: Annotated[list[Path], typer.Argument(help="4D NIfTI (x, y, z, class) files, or folders of them.")],
    out: OutFolder,
    decode: DecodeOption = Decode.both,
    metric: MetricOption = ScoreMetric.dice,
    unit: UnitOption = ScoreUnit.volume,
    slice_axis: SliceAxis = "axial",
    temperature: Temperature = None,
    pruning_prob: Pruning = 0.5,
) -> Outcome:
    """Saved probabilities in, masks out."""
    from rankseg_rma.workflows.inference import decode_probabilities

    options = _decode_options(metric, unit, slice_axis, pruning_prob)
    return decode_probabilities(probabilities, out, _decoders(decode), options, temperature)


@app.command()
@_reporting
def evaluate(
    predictions: Annotated[
        list[str],
        typer.Option(
            help="Folder of masks, folder written by infer, or NAME=FOLDER; may be repeated, the first is compared."
        ),
    ],
    references: Annotated[Path, typer.Option(help="Folder of reference label maps, paired by file name.")],
    out: OutFolder,
    dataset: Annotated[str | None, typer.Option(help="Data set whose card names the labels.")] = None,
    unit: UnitOption = ScoreUnit.volume,
    slice_axis: SliceAxis = "axial",
    cluster: Annotated[
        str | None,
        typer.Option(help="Patient of a case: 'pair' (2k-1 and 2k), or a regular expression with one group."),
    ] = None,
    datalist: Annotated[
        Path | None, typer.Option(help="datalist.json of a run: score only the cases of --part.")
    ] = None,
    part: Annotated[str, typer.Option(help="With --datalist: training, validation or test.")] = "test",
) -> Outcome:
    """Score masks against references: per case and label, and decoder against decoder."""
    from rankseg_rma.datasets import load_card, read_part
    from rankseg_rma.volumes import case_id_of
    from rankseg_rma.workflows.evaluation import evaluate_masks

    names = (load_card(dataset).labels or {}) if dataset else {}
    axis = _axis(slice_axis) if unit is ScoreUnit.slice else None
    only = {case_id_of(entry["image"]) for entry in read_part(datalist, part)} if datalist else None
    return evaluate_masks(predictions, references, out, names, axis, cluster, only)


@app.command()
@_reporting
def demo(
    out: OutFolder = Path("demo-out"),
    cases: Annotated[int, typer.Option(min=2, help="Number of cases.")] = 12,
) -> Outcome:
    """The main job on a built-in cohort: synthetic CT, shipped weights, argmax and RMA masks, CSVs and a page."""
    from rankseg_rma.workflows.demo import make_demo

    return make_demo(out, cases)


def main() -> None:
    """Entry point of ``rankseg-rma``."""
    app()
