"""Commands that score masks: evaluate, compare, advise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

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
from rankseg_rma.cli.shared import spread
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.runs.outcome import Outcome


@dataclass(frozen=True)
class ScoringOptions:
    """What `evaluate` and `compare` share, as it is typed; see `EvaluationOptions`."""

    dataset: Dataset = None
    label_names: LabelNames = None
    region: Regions = None
    lesions: Lesions = None
    organ: Organ = None
    slices: Slices = None
    slice_axis: SliceAxis = "axial"
    surface: Surface = EvaluationOptions.surface
    tolerances: Tolerances = "1,2"
    edge_is_inside: EdgeIsInside = EvaluationOptions.edge_is_inside
    connectivity: Connectivity = EvaluationOptions.connectivity
    empty: Empty = None
    protocol: ProtocolOption = None
    metric: ReportMetric = EvaluationOptions.metric
    cluster: Cluster = None
    datalist: Datalist = None
    part: Part = "test"
    limit: Limit = None
    probabilities: Probabilities = None
    images: Images = None
    workers: Workers = None
    report: Report = True

    def parse(self, slices: bool) -> EvaluationOptions:
        """The options as values; ``slices``: what the command makes of --slices."""
        from rankseg_rma.checks import wrong
        from rankseg_rma.cli.parsing import parse_labels, parse_names, parse_numbers, parse_regions
        from rankseg_rma.datasets import load_card, read_part

        if self.dataset and self.label_names:
            raise ValueError(wrong("evaluate", "labels", "given by either --dataset or --labels", "both"))
        card = load_card(self.dataset) if self.dataset else None
        names = getattr(card, "labels", None) or {} if card else parse_labels(self.label_names)
        only = {entry["case_id"] for entry in read_part(self.datalist, self.part)} if self.datalist else None
        return EvaluationOptions(
            label_names=names, regions=parse_regions(self.region or []) or getattr(card, "regions", None) or {},
            lesions=parse_names(self.lesions),
            organ=tuple(int(value) for value in parse_numbers("organ", self.organ)) if self.organ else None,
            surface=self.surface, slices=slices, slice_axis=parse_axis(self.slice_axis),
            tolerances_mm=parse_numbers("tolerances", self.tolerances), edge_is_inside=self.edge_is_inside,
            connectivity=self.connectivity, empty_policy=self.empty and self.empty.value,
            protocol=self.protocol and self.protocol.value, metric=self.metric, cluster=self.cluster, only=only,
            limit=self.limit, probabilities=self.probabilities, images=self.images, workers=self.workers,
            report=self.report,
        )  # fmt: skip


@reporting
@spread
def evaluate(
    predictions: Annotated[
        list[str],
        typer.Option(
            help="Folder of masks, folder written by infer, or NAME=FOLDER; may be repeated, the first is compared."
        ),
    ],
    references: References,
    out: OutFolder,
    unit: UnitOption = ScoreUnit.volume,
    *,
    scoring: ScoringOptions,
) -> Outcome:
    """Score masks against references: CSV tables and report.html; several decoders are compared with the first."""
    from rankseg_rma.evaluation.evaluate import evaluate_masks

    options = scoring.parse(slices=bool(scoring.slices) or unit is ScoreUnit.slice)
    return evaluate_masks(predictions, references, out, options)


@reporting
@spread
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Folder of masks, or NAME=FOLDER: what is used today.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder of masks, or NAME=FOLDER: what may replace it.")],
    references: References,
    out: OutFolder,
    arm: Annotated[
        list[str] | None, typer.Option(help="A further folder to compare with A, as NAME=FOLDER; may be repeated.")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="With --probabilities: folder of probabilities of validation cases, whose references are in "
            "--references too. Adds an arm with one threshold per label tuned on them."
        ),
    ] = None,
    *,
    scoring: ScoringOptions,
) -> Outcome:
    """Compare two folders of masks, case by case, with the downside shown."""
    from rankseg_rma.evaluation.compare import compare_folders

    options = scoring.parse(slices=scoring.slices is not False)
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
