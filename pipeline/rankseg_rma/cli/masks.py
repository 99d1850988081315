"""Commands that make masks: train, infer, decode, demo."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankseg_rma.cli.options import (
    Decode,
    DecodeOption,
    MetricOption,
    OutFolder,
    Pruning,
    ScoreMetric,
    ScoreUnit,
    SliceAxis,
    Temperature,
    UnitOption,
    parse_axis,
    reporting,
)
from rankseg_rma.workflows.outcome import Outcome


def decoders_of(decode: Decode) -> tuple[str, ...]:
    return ("argmax", "rma") if decode is Decode.both else (decode.value,)


def decode_options(metric: ScoreMetric, unit: ScoreUnit, slice_axis: str, pruning_prob: float) -> Any:
    from rankseg_rma.inference import DecodeOptions

    return DecodeOptions(metric.value, unit.value, parse_axis(slice_axis), pruning_prob)


@reporting
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


@reporting
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
    options = decode_options(metric, unit, slice_axis, pruning_prob)
    return infer_cases(bundle, input or [], out, decoders_of(decode), options, temperature, save_probabilities, device)


@reporting
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

    options = decode_options(metric, unit, slice_axis, pruning_prob)
    return decode_probabilities(probabilities, out, decoders_of(decode), options, temperature)


@reporting
def demo(
    out: OutFolder = Path("demo-out"),
    cases: Annotated[int, typer.Option(min=2, help="Number of cases.")] = 12,
) -> Outcome:
    """The main job on a built-in cohort: synthetic CT, shipped weights, argmax and RMA masks, CSVs and a page."""
    from rankseg_rma.workflows.demo import make_demo

    return make_demo(out, cases)
