"""Commands that score masks: evaluate, compare, advise, figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankseg_rma.cli.options import (
    Cluster,
    Connectivity,
    Datalist,
    Dataset,
    EdgeIsInside,
    Empty,
    Images,
    LabelNames,
    Lesions,
    Limit,
    MetricOption,
    Organ,
    OutFolder,
    Part,
    Probabilities,
    ProtocolOption,
    References,
    Regions,
    Report,
    ReportMetric,
    ScoreMetric,
    ScoreUnit,
    SliceAxis,
    Slices,
    Surface,
    Tolerances,
    UnitOption,
    Workers,
    parse_axis,
)
from rankseg_rma.cli.outcome import reporting
from rankseg_rma.runs.outcome import Outcome


def _evaluation_options(
    dataset: str | None, label_names: str | None, region: list[str] | None, lesions: str | None, organ: str | None,
    tolerances: str, slice_axis: str, datalist: Path | None, part: str, **others: Any,
) -> Any:  # fmt: skip
    from rankseg_rma.checks import wrong
    from rankseg_rma.cli.parsing import parse_labels, parse_names, parse_numbers, parse_regions
    from rankseg_rma.datasets import load_card, read_part
    from rankseg_rma.evaluation.options import EvaluationOptions

    if dataset and label_names:
        raise ValueError(wrong("evaluate", "labels", "given by either --dataset or --labels", "both"))
    card = load_card(dataset) if dataset else None
    names = getattr(card, "labels", None) or {} if card else parse_labels(label_names)
    regions = parse_regions(region or []) or getattr(card, "regions", None) or {}
    only = {entry["case_id"] for entry in read_part(datalist, part)} if datalist else None
    return EvaluationOptions(
        label_names=names, regions=regions, lesions=parse_names(lesions),
        organ=tuple(int(value) for value in parse_numbers("organ", organ)) if organ else None,
        tolerances_mm=parse_numbers("tolerances", tolerances), slice_axis=parse_axis(slice_axis), only=only, **others,
    )  # fmt: skip


@reporting
def evaluate(
    predictions: Annotated[
        list[str],
        typer.Option(
            help="Folder of masks, folder written by infer, or NAME=FOLDER; may be repeated, the first is compared."
        ),
    ],
    references: References,
    out: OutFolder,
    dataset: Dataset = None,
    label_names: LabelNames = None,
    region: Regions = None,
    lesions: Lesions = None,
    organ: Organ = None,
    unit: UnitOption = ScoreUnit.volume,
    slices: Slices = False,
    slice_axis: SliceAxis = "axial",
    surface: Surface = True,
    tolerances: Tolerances = "1,2",
    edge_is_inside: EdgeIsInside = False,
    connectivity: Connectivity = 26,
    empty: Empty = None,
    protocol: ProtocolOption = None,
    metric: ReportMetric = "dice",
    cluster: Cluster = None,
    datalist: Datalist = None,
    part: Part = "test",
    limit: Limit = None,
    probabilities: Probabilities = None,
    images: Images = None,
    workers: Workers = None,
    report: Report = True,
) -> Outcome:
    """Score masks against references: CSV tables and report.html; several decoders are compared with the first."""
    from rankseg_rma.evaluation.evaluate import evaluate_masks

    options = _evaluation_options(
        dataset, label_names, region, lesions, organ, tolerances, slice_axis, datalist, part, surface=surface,
        slices=slices or unit is ScoreUnit.slice, edge_is_inside=edge_is_inside, connectivity=connectivity,
        metric=metric, cluster=cluster,
        empty_policy=empty and empty.value, protocol=protocol and protocol.value, limit=limit, images=images,
        probabilities=probabilities, workers=workers, report=report,
    )  # fmt: skip
    return evaluate_masks(predictions, references, out, options)


@reporting
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Folder of masks, or NAME=FOLDER: what is used today.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder of masks, or NAME=FOLDER: what may replace it.")],
    references: References,
    out: OutFolder,
    arm: Annotated[
        list[str] | None, typer.Option(help="A further folder to compare with A, as NAME=FOLDER; may be repeated.")
    ] = None,
    probabilities: Probabilities = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="With --probabilities: folder of probabilities of validation cases, whose references are in "
            "--references too. Adds an arm with one threshold per label tuned on them."
        ),
    ] = None,
    dataset: Dataset = None,
    label_names: LabelNames = None,
    region: Regions = None,
    lesions: Lesions = None,
    organ: Organ = None,
    slices: Slices = True,
    slice_axis: SliceAxis = "axial",
    surface: Surface = True,
    tolerances: Tolerances = "1,2",
    edge_is_inside: EdgeIsInside = False,
    connectivity: Connectivity = 26,
    empty: Empty = None,
    protocol: ProtocolOption = None,
    metric: ReportMetric = "dice",
    cluster: Cluster = None,
    datalist: Datalist = None,
    part: Part = "test",
    limit: Limit = None,
    images: Images = None,
    workers: Workers = None,
    report: Report = True,
) -> Outcome:
    """Compare two folders of masks, case by case, with the downside shown."""
    from rankseg_rma.evaluation.compare import compare_folders

    options = _evaluation_options(
        dataset, label_names, region, lesions, organ, tolerances, slice_axis, datalist, part, surface=surface,
        slices=slices, edge_is_inside=edge_is_inside, connectivity=connectivity,
        metric=metric, cluster=cluster, empty_policy=empty and empty.value,
        protocol=protocol and protocol.value, limit=limit, images=images, probabilities=probabilities,
        workers=workers, report=report,
    )  # fmt: skip
    return compare_folders([first, second, *(arm or [])], references, out, validation, options)


@reporting
def advise(
    probabilities: Annotated[
        list[Path], typer.Argument(help="Probabilities of validation cases, 4D NIfTI (x, y, z, class), or folders.")
    ],
    references: References,
    out: OutFolder,
    metric: MetricOption = ScoreMetric.dice,
    slice_axis: SliceAxis = "axial",
    cluster: Cluster = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of patients; each is judged with what the others gave.")] = 5,
) -> Outcome:
    """Before you switch: does RMA help on your validation cases, by how much, and which cases lose?"""
    from rankseg_rma.evaluation.advise import advise as give_advice

    return give_advice(probabilities, references, out, metric.value, parse_axis(slice_axis), cluster, folds)
