"""The metric table: name, unit, better direction, empty rule and function, in one place. Tables and pages read it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.metrics.lesions import LesionMatch
from rankseg_rma.metrics.overlap import Overlap, dice_of, iou_of
from rankseg_rma.metrics.surface import SurfaceDistances

# What a score between 0 and 1 counts where a mask is empty; evaluation programs disagree.
EMPTY_POLICIES: dict[str, dict[str, float]] = {
    "kits": {"both_empty": 1.0, "reference_empty": 0.0, "prediction_empty": 0.0},
    "nnunet": {"both_empty": nan, "reference_empty": 0.0, "prediction_empty": 0.0},
    "monai": {"both_empty": nan, "reference_empty": nan, "prediction_empty": 0.0},
}
NSD = "nsd_"


@dataclass(frozen=True)
class Measured:
    """What was measured of one case and label; metrics are derived from it.

    Attributes:
        overlap: voxels of the whole volume.
        voxel_ml: volume of a voxel.
        slices: voxels of every slice, when slices are scored.
        surface: distances between the surfaces, when surfaces are scored and neither mask is empty.
        surface_dice: surface Dice by tolerance in mm, likewise.
        lesions: matched components, when the label's components are lesions.
        recist_mm: sum of the largest axial diameters of reference and of prediction, likewise.
    """

    overlap: Overlap
    voxel_ml: float
    slices: Sequence[Overlap] = ()
    surface: SurfaceDistances | None = None
    surface_dice: Mapping[float, float] = field(default_factory=dict)
    lesions: LesionMatch | None = None
    recist_mm: tuple[float, float] | None = None


@dataclass(frozen=True)
class Metric:
    """A score of one case and label.

    Attributes:
        name: as in the CSV files.
        title: for people.
        unit: "1" for a fraction, "ml", "mm" or "count".
        better: "higher", "lower" or "" where neither is.
        group: "overlap", "slice", "surface", "lesion", "volume" or "size".
        empty: "score" (a value of `EMPTY_POLICIES` when a mask is empty), "loss" (1 minus that), or "own" (the
            function itself knows).
        compute: from the measurement to the value; NaN where it is not defined.
    """

    name: str
    title: str
    unit: str
    better: str
    group: str
    empty: str
    compute: Callable[[Measured], float]

    def value(self, measured: Measured, empty_policy: str) -> float:
        """The value, with empty masks counted as the policy says."""
        if self.empty == "own" or measured.overlap.status == "ok":
            return self.compute(measured)
        given = EMPTY_POLICIES[empty_policy][measured.overlap.status]
        return 1 - given if self.empty == "loss" else given


METRIC_TABLE: dict[str, Metric] = {}
_Compute = Callable[[Measured], float]


def _metric(name: str, title: str, unit: str, better: str, group: str, empty: str) -> Callable[[_Compute], _Compute]:
    def enter(compute: _Compute) -> _Compute:
        METRIC_TABLE[name] = Metric(name, title, unit, better, group, empty, compute)
        return compute

    return enter


def find_metric(name: str) -> Metric:
    """The metric of a name, also of surface Dice at any tolerance ("nsd_1.5mm").

    Raises:
        ValueError: there is none.
    """
    if name in METRIC_TABLE:
        return METRIC_TABLE[name]
    if name.startswith(NSD) and name.endswith("mm"):
        try:
            return _surface_dice_at(float(name[len(NSD) : -2]), name)
        except ValueError:
            pass
    require_one_of("find_metric", "metric", name, [*METRIC_TABLE, "nsd_1mm"])
    raise AssertionError


def metric_of_unit(metric: str, unit: str) -> str:
    """Name of the score that judges a decoder told to maximise "dice" or "iou" over "volume" or "slice".

    Example:
        >>> metric_of_unit("dice", "volume"), metric_of_unit("iou", "slice")
        ('dice', 'slice_iou')
    """
    return f"slice_{metric}" if unit == "slice" else metric


def list_metrics(groups: Iterable[str], tolerances_mm: Sequence[float]) -> list[Metric]:
    """Metrics of some groups, in the order of the table; surface Dice at each tolerance closes the surface group."""
    groups = set(groups)
    found = [metric for metric in METRIC_TABLE.values() if metric.group in groups]
    if "surface" in groups:
        found += [find_metric(f"{NSD}{tolerance:.12g}mm") for tolerance in tolerances_mm]
    return found


def _surface_dice_at(tolerance_mm: float, name: str) -> Metric:
    if not tolerance_mm >= 0:
        raise ValueError(wrong("find_metric", "tolerance", "at least 0 mm", tolerance_mm))
    title = f"surface Dice at {tolerance_mm:.4g} mm"

    def compute(measured: Measured) -> float:
        # A name holds twelve digits of its tolerance, which need not be the number that was scored.
        close = [value for key, value in measured.surface_dice.items() if abs(key - tolerance_mm) < 1e-9]
        return close[0] if close else nan

    return Metric(name, title, "1", "higher", "surface", "score", compute)


@_metric("dice", "Dice", "1", "higher", "overlap", "score")
def dice(measured: Measured) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return dice_of(measured.overlap)


@_metric("iou", "IoU", "1", "higher", "overlap", "score")
def iou(measured: Measured) -> float:
    """|A and B| / |A or B|, the Jaccard index."""
    return iou_of(measured.overlap)


@_metric("voe", "volume overlap error", "1", "lower", "overlap", "loss")
def voe(measured: Measured) -> float:
    """1 - IoU."""
    return 1 - iou_of(measured.overlap)


@_metric("rvd", "relative volume difference", "1", "", "overlap", "own")
def rvd(measured: Measured) -> float:
    """(prediction - reference) / reference, signed; NaN without a reference."""
    counts = measured.overlap
    return (counts.num_prediction - counts.num_reference) / counts.num_reference if counts.num_reference else nan


@_metric("avd_ml", "absolute volume difference", "ml", "lower", "volume", "own")
def avd_ml(measured: Measured) -> float:
    """|prediction - reference| in mL; always defined."""
    return abs(measured.overlap.num_prediction - measured.overlap.num_reference) * measured.voxel_ml


@_metric("slice_dice", "mean Dice of slices with reference", "1", "higher", "slice", "own")
def slice_dice(measured: Measured) -> float:
    """Mean Dice over the slices that contain the label in the reference, as the papers score; NaN without one."""
    return _mean([dice_of(part) for part in measured.slices if part.num_reference])


@_metric("slice_iou", "mean IoU of slices with reference", "1", "higher", "slice", "own")
def slice_iou(measured: Measured) -> float:
    """Mean IoU over the slices that contain the label in the reference; NaN without one."""
    return _mean([iou_of(part) for part in measured.slices if part.num_reference])


@_metric("slice_dice_all", "mean Dice of all slices", "1", "higher", "slice", "own")
def slice_dice_all(measured: Measured) -> float:
    """Mean Dice over every slice of the volume; a slice empty in both counts as 1, so false positives show."""
    return _mean([dice_of(part) if part.num_reference or part.num_prediction else 1.0 for part in measured.slices])


@_metric("hd95_mm", "HD95", "mm", "lower", "surface", "own")
def hd95_mm(measured: Measured) -> float:
    """Larger of the two directed 95th percentiles of border distances (MONAI's definition); NaN with an empty mask."""
    return measured.surface.hd95_mm if measured.surface else nan


@_metric("assd_mm", "ASSD", "mm", "lower", "surface", "own")
def assd_mm(measured: Measured) -> float:
    """Mean of all border distances, both directions pooled; NaN with an empty mask."""
    return measured.surface.assd_mm if measured.surface else nan


@_metric("rmsd_mm", "RMSD", "mm", "lower", "surface", "own")
def rmsd_mm(measured: Measured) -> float:
    """Root mean square of all border distances, both directions pooled; NaN with an empty mask."""
    return measured.surface.rmsd_mm if measured.surface else nan


@_metric("mssd_mm", "MSSD (Hausdorff distance)", "mm", "lower", "surface", "own")
def mssd_mm(measured: Measured) -> float:
    """Largest border distance of both directions; NaN with an empty mask."""
    return measured.surface.mssd_mm if measured.surface else nan


@_metric("lesion_dice", "lesion-wise Dice", "1", "higher", "lesion", "score")
def lesion_dice(measured: Measured) -> float:
    """Sum of Dice of matched lesions over lesions of the reference and false positives."""
    return measured.lesions.lesion_dice if measured.lesions else nan


@_metric("lesion_pq", "panoptic quality", "1", "higher", "lesion", "score")
def lesion_pq(measured: Measured) -> float:
    """Sum of IoU of lesions matched above 0.5 over TP + FP / 2 + FN / 2."""
    return measured.lesions.panoptic_quality if measured.lesions else nan


@_metric("lesion_f1", "lesion F1 at IoU > 0.1", "1", "higher", "lesion", "score")
def lesion_f1(measured: Measured) -> float:
    """2 TP / (2 TP + FP + FN) of lesions matched at IoU > 0.1."""
    return measured.lesions.f1(1) if measured.lesions else nan


@_metric("lesion_recall", "lesion recall at IoU > 0.1", "1", "higher", "lesion", "own")
def lesion_recall(measured: Measured) -> float:
    """Share of the reference's lesions found at IoU > 0.1; NaN without any."""
    return measured.lesions.recall(1) if measured.lesions else nan


@_metric("lesion_precision", "lesion precision at IoU > 0.1", "1", "higher", "lesion", "own")
def lesion_precision(measured: Measured) -> float:
    """Share of the predicted lesions that are true at IoU > 0.1; NaN without any."""
    return measured.lesions.precision(1) if measured.lesions else nan


@_metric("lesion_false_positives", "false lesions at IoU > 0.1", "count", "lower", "lesion", "own")
def lesion_false_positives(measured: Measured) -> float:
    """Predicted lesions without a partner at IoU > 0.1."""
    return float(measured.lesions.false_positives(1)) if measured.lesions else nan


@_metric("recist_error_mm", "error of the sum of longest diameters", "mm", "lower", "size", "own")
def recist_error_mm(measured: Measured) -> float:
    """|prediction - reference| of the sum of the largest axial diameters (at most 2 of the organ)."""
    if measured.recist_mm is None:
        return nan
    reference, prediction = measured.recist_mm
    return abs(prediction - reference)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if isfinite(value)]
    return sum(defined) / len(defined) if defined else nan


# Whatever scores or lists "everything" goes through these; a group is there as soon as a metric names it.
METRIC_GROUPS = tuple(dict.fromkeys(metric.group for metric in METRIC_TABLE.values()))
