"""The command that trains."""

from pathlib import Path
from typing import Annotated

import typer

from rankseg_rma.cli.options import OutFolder
from rankseg_rma.cli.outcome import reporting
from rankseg_rma.runs.outcome import Outcome


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
    from rankseg_rma.training.train import train_network

    entries = {
        "max_epochs": epochs, "max_iterations": iterations, "batch_size": batch_size, "seed": seed, "amp": amp,
        "accumulation_steps": accumulation_steps, "learning_rate": learning_rate, "ema_decay": ema_decay,
        "encoder_weights": encoder_weights, "num_workers": num_workers,
        "iterations_per_epoch": iterations_per_epoch, "cache_rate": cache_rate,
    }  # fmt: skip
    return train_network(
        root, out, dataset=dataset, recipe=recipe, network=network, loss=loss, fold=fold, entries=entries
    )  # fmt: skip
