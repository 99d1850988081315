"""The commands of the paper's experiments. That of ``test`` has another name, which pytest does not take for a test."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rankseg_rma.checks import wrong
from rankseg_rma.cli.options import (
    Limit,
    MetricOption,
    OutFolder,
    Pruning,
    ScoreMetric,
    Unassigned,
    UnassignedOption,
)
from rankseg_rma.cli.outcome import reporting, say
from rankseg_rma.runs.outcome import Outcome


class TrialUnit(StrEnum):
    """What RMA decodes for."""

    image = "image"
    slice = "slice"
    volume = "volume"


@reporting
def trial(
    dataset: Annotated[str, typer.Option(help="Name of a data set (see data list), or path of a card.")],
    root: Annotated[Path, typer.Option(help="The data set's folder, or a slice store.")],
    bundle: Annotated[Path, typer.Option(help="Run folder. Its config runs as code: use only what you trust.")],
    out: OutFolder,
    decode: Annotated[str, typer.Option(help="argmax, rma, or both with a comma between.")] = "argmax,rma",
    metric: MetricOption = ScoreMetric.dice,
    unit: Annotated[
        TrialUnit | None,
        typer.Option(help="What RMA decodes for; default: image, volume, or for slices both slice and volume."),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="training, validation or test; default: test when the run has one.")
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            help="'none', a number or a temperature.json; default: the run's, unless it was fitted on tested cases."
        ),
    ] = None,
    limit: Limit = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA where there is one.")
    ] = None,
    ratios: Annotated[
        str | None, typer.Option(help="2D: scales that probabilities are averaged over, as in 0.75,1,1.25.")
    ] = None,
    flip: Annotated[bool | None, typer.Option(help="2D: average over mirrored images too.")] = None,
    stride_rate: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="2D: step between windows over their size.")
    ] = None,
    save_masks: Annotated[bool, typer.Option("--save-masks", help="Write the masks too.")] = False,
    pruning_prob: Pruning = 0.5,
    unassigned: UnassignedOption = Unassigned.max_score,
) -> Outcome:
    """Test a run: mean IoU and Dice in three forms, worst cases and calibration, argmax beside RMA, with intervals."""
    from rankseg_rma.cli.parsing import parse_names, parse_numbers
    from rankseg_rma.paper.score_run import TrialOptions, score_run

    views = {"ratios": ratios and list(parse_numbers("ratios", ratios)), "flip": flip, "stride_rate": stride_rate}
    options = TrialOptions(
        decoders=tuple(dict.fromkeys(parse_names(decode) or ())), metric=metric.value, unit=unit and unit.value,
        part=part, temperature=temperature, limit=limit, device=device, save_masks=save_masks,
        views=views, pruning_prob=pruning_prob, unassigned=unassigned.value,
    )  # fmt: skip
    return score_run(dataset, root, bundle, out, options)


@reporting
def reproduce(
    row: Annotated[
        str | None, typer.Argument(metavar="ROW", help="Row of the paper's tables; none lists them.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="The data set's folder; what data prepare wrote for LiTS, KiTS and PASCAL VOC."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List the rows with their published numbers.")] = False,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            help="Finished run to test, one for each fold, or a folder with fold_0, fold_1, ...; default: train. "
            "Its config runs as code: use only what you trust."
        ),
    ] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="This fold only; the result says so.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's length.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's length.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    crop_size: Annotated[
        str | None, typer.Option(help="Instead of the recipe's: height,width, or one number; also of the windows.")
    ] = None,
    encoder_weights: Annotated[str | None, typer.Option(help="'none', or a file with ImageNet's weights.")] = None,
    num_workers: Annotated[int | None, typer.Option(min=0, help="Processes that read samples.")] = None,
    limit: Limit = None,
    device: Annotated[
        str | None, typer.Option(help="Of the test: cpu, cuda, ...; default: CUDA where there is one, as in training.")
    ] = None,
) -> Outcome | None:
    """Run a row of the paper's tables: train unless there is a run, test with argmax and RMA, ours beside the paper's.

    An unfinished training in --out goes on. Whatever differs from the paper's data and settings is listed.
    """
    if show or row is None:
        _print_rows()
        return None
    from rankseg_rma.paper.reproduce import ReproduceOptions, check_root, reproduce_row
    from rankseg_rma.paper.rows import find_row

    found = find_row(row)
    if root is None or out is None:
        missing = "root" if root is None else "out"
        raise ValueError(wrong("reproduce", missing, "a folder", None, advice=f"Give --{missing}."))
    if bundle and any(value is not None for value in (epochs, iterations, batch_size, crop_size, encoder_weights)):
        raise ValueError(wrong("reproduce", "bundle", "given without settings of a training", "both"))
    # Training takes hours: what is missing in the data is said first.
    for warning in check_root(found, root):
        say(f"warning: {warning}", error=True)
    entries = {
        "max_epochs": epochs, "max_iterations": iterations, "batch_size": batch_size,
        "crop_size": _parse_size(crop_size), "encoder_weights": encoder_weights, "num_workers": num_workers,
    }  # fmt: skip
    return reproduce_row(found, root, out, ReproduceOptions(tuple(bundle or ()), fold, entries, limit, device))


def _print_rows() -> None:
    from rankseg_rma.paper.rows import list_rows
    from rankseg_rma.training.recipes import load_recipe

    table = Table("row", "", "argmax", "RMA", "data set", box=None)
    for column in table.columns:
        column.no_wrap = True
    for name, row in list_rows().items():
        numbers = (f"{row.published[decoder]:.2f}" for decoder in ("argmax", "rma"))
        table.add_row(name, row.title, *numbers, load_recipe(row.recipe).dataset)
    Console(soft_wrap=True).print(table)
    say("mIoU^I in points, published in " + "; ".join(dict.fromkeys(row.source for row in list_rows().values())))


def _parse_size(text: str | None) -> Any:
    """Height and width in pixels.

    Example:
        >>> _parse_size("512,1024"), _parse_size("64"), _parse_size(None)
        ([512, 1024], [64, 64], None)
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 2 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(wrong("reproduce", "crop-size", "height,width in pixels, or one number", repr(text)))
    sizes = [int(part) for part in parts]
    return sizes * 2 if len(sizes) == 1 else sizes
