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
    root: Annotated[Path, typer.Option(help="The data set's folder, or what data prepare wrote.")],
    out: OutFolder,
    dataset: Annotated[
        str | None, typer.Option(help="Name of a data set (see data list), or path of a card; default: the recipe's.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of configs/recipes, or a YAML file.")] = None,
    network: Annotated[
        str | None,
        typer.Option(help="Network of configs/networks, or a YAML file with network_def; default: the recipe's."),
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold that is validation.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training cases.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Instead: number of batches.")] = None,
    iterations_per_epoch: Annotated[
        int | None, typer.Option(min=1, help="With --iterations: report and store every so many; default: 1000.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="ce, dice_ce, dice, jaccard or focal. RMA wants calibrated probabilities: ce, the default."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of all processes together.")] = None,
    accumulation_steps: Annotated[int | None, typer.Option(min=1, help="Batches per step of the optimiser.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="At its highest.")] = None,
    ema_decay: Annotated[
        float | None, typer.Option(min=0, max=1, help="Keep a moving average of the weights, for example 0.999.")
    ] = None,
    encoder_weights: Annotated[
        str | None, typer.Option(help="'imagenet', 'none' or a file; for networks of the extra natural.")
    ] = None,
    amp: Annotated[bool | None, typer.Option(help="Mixed precision; default: on CUDA.")] = None,
    cache_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the prepared volumes kept in memory; default: all.")
    ] = None,
    num_workers: Annotated[int | None, typer.Option(min=0, help="Processes that read samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of samples, augmentation and weights.")] = None,
) -> Outcome:
    """Train a network with cross-entropy, then fit its temperature on the validation cases.

    Settings not given are the recipe's, or those of configs/train.yaml. The run folder is a MONAI bundle. A killed run
    goes on from its last epoch when the command is given again. With several GPUs or processes:
    torchrun --nproc_per_node=N -m rankseg_rma train ...
    """
    from rankseg_rma.workflows.training import train_network

    entries = {
        "max_epochs": epochs, "max_iterations": iterations, "batch_size": batch_size, "seed": seed, "amp": amp,
        "accumulation_steps": accumulation_steps, "learning_rate": learning_rate, "ema_decay": ema_decay,
        "encoder_weights": encoder_weights, "num_workers": num_workers,
        "iterations_per_epoch": iterations_per_epoch, "cache_rate": cache_rate,
    }  # fmt: skip
    return train_network(
        root, out, dataset=dataset, recipe=recipe, network=network, loss=loss, fold=fold, entries=entries
    )  # fmt: skip


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
    """Volumes or photographs in, masks on their own grid out, with one CSV row per case and label."""
    from rankseg_rma.checks import wrong
    from rankseg_rma.datasets import read_part
    from rankseg_rma.workflows.inference import infer_cases

    if (input is None) == (root is None):
        raise ValueError(wrong("infer", "input", "given by either --input or --root", "both" if input else "neither"))
    images: Any = input
    if root is not None:
        entries = read_part(bundle / "configs" / "datalist.json", part)
        if any("slice_index" in entry for entry in entries):
            advice = "Give whole volumes with --input, or score the stored slices with `rankseg-rma test`."
            raise ValueError(wrong("infer", "root", "of volumes or photographs", "a store of slices", advice=advice))
        images = {entry["case_id"]: root / entry["image"] for entry in entries}
    options = decode_options(metric, unit, slice_axis, pruning_prob)
    return infer_cases(bundle, images or [], out, decoders_of(decode), options, temperature, save_probabilities, device)


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
