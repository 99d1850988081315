"""The command ``test``; its function has another name, which pytest does not take for a test."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rankseg_rma.cli.options import Limit, MetricOption, OutFolder, ScoreMetric, reporting
from rankseg_rma.workflows.outcome import Outcome


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
) -> Outcome:
    """Test a run: mean IoU and Dice in three forms, worst cases and calibration, argmax beside RMA, with intervals."""
    from rankseg_rma.workflows.parsing import parse_names, parse_numbers
    from rankseg_rma.workflows.testing import TrialOptions, score_run

    views = {"ratios": ratios and list(parse_numbers("ratios", ratios)), "flip": flip, "stride_rate": stride_rate}
    options = TrialOptions(
        decoders=tuple(dict.fromkeys(parse_names(decode) or ())), metric=metric.value, unit=unit and unit.value,
        part=part, temperature=temperature, limit=limit, device=device, save_masks=save_masks,
        views=views,
    )  # fmt: skip
    return score_run(dataset, root, bundle, out, options)
