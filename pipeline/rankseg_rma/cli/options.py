"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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


class Unassigned(StrEnum):
    """What becomes of a voxel above no class's cutoff; see `RMADecoder`."""

    max_score = "max_score"
    background = "background"
    void = "void"


class EmptyPolicy(StrEnum):
    """How empty masks count."""

    kits = "kits"
    nnunet = "nnunet"
    monai = "monai"


class ProtocolName(StrEnum):
    """A challenge's way of scoring."""

    kits23 = "kits23"
    lits = "lits"
    nnunet = "nnunet"


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
UnassignedOption = Annotated[
    Unassigned,
    typer.Option(help="Voxels that no class claims: the class that gains most, background, or void (label 255)."),
]
References = Annotated[
    Path, typer.Option(help="Folder of reference label maps, paired by file name; or of CASE/segmentation.nii.gz.")
]
Dataset = Annotated[str | None, typer.Option(help="Data set whose card names the labels.")]
LabelNames = Annotated[
    str | None, typer.Option("--labels", help="Instead: names of the labels, as in 1=liver,2=tumour.")
]
Regions = Annotated[
    list[str] | None, typer.Option("--region", help="Union of labels, as in masses=2+3; may be repeated.")
]
Lesions = Annotated[
    str | None,
    typer.Option(help="Labels whose components are lesions, as in tumour,cyst; 'none'; default: by their names."),
]
Organ = Annotated[
    str | None, typer.Option(help="Labels of the tumour burden's organ, as in 1; default: the only one not a lesion.")
]
Slices = Annotated[
    bool | None,
    typer.Option(
        help="Score slices too. Default: compare does, since its folders may be decoded for either unit; evaluate does "
        "with --unit slice only, since slices make large tables."
    ),
]
Surface = Annotated[bool, typer.Option(help="Score surfaces: HD95, ASSD, RMSD, MSSD, surface Dice.")]
Tolerances = Annotated[str, typer.Option(help="Tolerances of surface Dice in mm, as in 1,2; 'none'.")]
EdgeIsInside = Annotated[
    bool,
    typer.Option("--edge-is-inside", help="No surface where a mask touches the volume's edge, as CHAOS counts."),
]
Connectivity = Annotated[int, typer.Option(help="Of lesions: 26 or 6.")]
Empty = Annotated[
    EmptyPolicy | None,
    typer.Option(help="How empty masks count: kits (both 1, one 0), nnunet (both undefined), monai. Default: kits."),
]
ProtocolOption = Annotated[ProtocolName | None, typer.Option(help="A challenge's labels, settings and files.")]
ReportMetric = Annotated[str, typer.Option("--metric", help="Score that the report is about.")]
Cluster = Annotated[
    str | None,
    typer.Option(help="Patient of a case: 'pair' (2k-1 and 2k), or a regular expression with one group."),
]
Datalist = Annotated[Path | None, typer.Option(help="datalist.json of a run: score only the cases of --part.")]
Part = Annotated[str, typer.Option(help="With --datalist: training, validation or test.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Score the first cases only; the result is marked partial.")]
Probabilities = Annotated[
    Path | None, typer.Option(help="Folder of probabilities of the same cases, to judge their calibration.")
]
Images = Annotated[Path | None, typer.Option(help="Folder of images, for the pictures and the viewer of the report.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core for large cohorts.")]
Report = Annotated[bool, typer.Option(help="Write report.html and figures.")]


def parse_axis(text: str) -> str | int:
    from rankseg_rma.grid import find_slice_axis

    axis = int(text) if text.lstrip("-").isdigit() else text
    find_slice_axis(None, axis)
    return axis
