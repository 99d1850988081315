"""Commands that make masks: infer, decode, demo."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Unassigned,
    UnassignedOption,
    UnitOption,
    parse_axis,
)
from rankseg_rma.cli.outcome import reporting
from rankseg_rma.cli.shared import spread
from rankseg_rma.runs.outcome import Outcome

if TYPE_CHECKING:
    from rankseg_rma.prediction.policy import DecodeOptions


@dataclass(frozen=True)
class DecodingOptions:
    """What `infer` and `decode` share, as it is typed; see `DecodeOptions`."""

    decode: DecodeOption = Decode.both
    metric: MetricOption = ScoreMetric.dice
    unit: UnitOption = ScoreUnit.volume
    slice_axis: SliceAxis = "axial"
    temperature: Temperature = None
    pruning_prob: Pruning = 0.5
    unassigned: UnassignedOption = Unassigned.max_score

    @property
    def decoders(self) -> tuple[str, ...]:
        return ("argmax", "rma") if self.decode is Decode.both else (self.decode.value,)

    def parse(self) -> "DecodeOptions":
        """The options as values; the temperature is chosen later, when the stored one is known."""
        from rankseg_rma.prediction.policy import DecodeOptions

        return DecodeOptions(
            self.metric.value, self.unit.value, parse_axis(self.slice_axis), self.pruning_prob, self.unassigned.value
        )


@reporting
@spread
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
    *,
    decoding: DecodingOptions,
    save_probabilities: Annotated[bool, typer.Option(help="Also write the probabilities, as 4D NIfTI.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA where there is one.")
    ] = None,
) -> Outcome:
    """Volumes or photographs in, masks on their own grid out, with one CSV row per case and label."""
    from rankseg_rma.checks import wrong
    from rankseg_rma.datasets import read_part
    from rankseg_rma.prediction.infer import infer_cases

    if (input is None) == (root is None):
        raise ValueError(wrong("infer", "input", "given by either --input or --root", "both" if input else "neither"))
    images: Any = input
    if root is not None:
        entries = read_part(bundle / "configs" / "datalist.json", part)
        if any("slice_index" in entry for entry in entries):
            advice = "Give whole volumes with --input, or score the stored slices with `rankseg-rma test`."
            raise ValueError(wrong("infer", "root", "of volumes or photographs", "a store of slices", advice=advice))
        images = {entry["case_id"]: root / entry["image"] for entry in entries}
    options, temperature = decoding.parse(), decoding.temperature
    return infer_cases(bundle, images or [], out, decoding.decoders, options, temperature, save_probabilities, device)


@reporting
@spread
def decode(
    probabilities: Annotated[list[Path], typer.Argument(help="4D NIfTI (x, y, z, class) files, or folders of them.")],
    out: OutFolder,
    decoding: DecodingOptions,
    multilabel: Annotated[
        bool | None,
        typer.Option(
            "--multilabel/--exclusive",
            help="Classes may overlap, as sigmoid gives them: a mask for each, as 4D NIfTI (x, y, z, class); or they "
            "exclude each other. Default: as infer says it beside the probabilities, else exclusive.",
        ),
    ] = None,
) -> Outcome:
    """Saved probabilities in, masks out."""
    from rankseg_rma.prediction.masks import decode_probabilities

    options, temperature = decoding.parse(), decoding.temperature
    return decode_probabilities(probabilities, out, decoding.decoders, options, temperature, multilabel)


@reporting
def demo(
    out: OutFolder = Path("demo-out"),
    cases: Annotated[int, typer.Option(min=2, help="Number of cases.")] = 12,
) -> Outcome:
    """The main job on a built-in cohort: synthetic CT, shipped weights, argmax and RMA masks, CSVs and a page."""
    from rankseg_rma.demo import make_demo

    return make_demo(out, cases)
