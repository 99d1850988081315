"""The metric table: name, unit, better direction and function, in one place. Tables and pages read it.

Empty masks follow the policy "kits": both empty is a perfect score, one empty is the worst.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

from rankseg_rma.evaluation.overlap import Overlap

EMPTY_POLICY = "kits"


@dataclass(frozen=True)
class Metric:
    """A score of one case and label.

    Attributes:
        name: as in the CSV files.
        unit: unit of its value; "1" for a fraction.
        better: "higher" or "lower".
        by_slice: computed from the counts of every slice instead of those of the whole case.
        compute: from the counts (one `Overlap`, or one per slice) to the value; NaN where it is not defined.
    """

    name: str
    unit: str
    better: str
    by_slice: bool
    compute: Callable[[Sequence[Overlap]], float]


METRIC_TABLE: dict[str, Metric] = {}


def _metric(
    name: str, unit: str = "1", better: str = "higher", by_slice: bool = False
) -> Callable[..., Callable[..., float]]:
    def enter(compute: Callable[[Sequence[Overlap]], float]) -> Callable[[Sequence[Overlap]], float]:
        METRIC_TABLE[name] = Metric(name, unit, better, by_slice, compute)
        return compute

    return enter


def dice_of(counts: Overlap) -> float:
    """Dice of one pair of masks; both empty 1, one empty 0.

    Example:
        >>> dice_of(Overlap(tp=2, fp=1, fn=1)), dice_of(Overlap(0, 0, 0)), dice_of(Overlap(0, 5, 0))
        (0.6666666666666666, 1.0, 0.0)
    """
    size = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / size if size else 1.0


def iou_of(counts: Overlap) -> float:
    """Intersection over union of one pair of masks; both empty 1, one empty 0."""
    size = counts.tp + counts.fp + counts.fn
    return counts.tp / size if size else 1.0


@_metric("dice")
def dice(counts: Sequence[Overlap]) -> float:
    """Dice of the case."""
    return dice_of(counts[0])


@_metric("iou")
def iou(counts: Sequence[Overlap]) -> float:
    """IoU of the case."""
    return iou_of(counts[0])


@_metric("slice_dice", by_slice=True)
def slice_dice(counts: Sequence[Overlap]) -> float:
    """Mean Dice over the slices that contain the label in the reference, as the papers score; NaN without one."""
    return _mean([dice_of(part) for part in counts if part.num_reference])


@_metric("slice_iou", by_slice=True)
def slice_iou(counts: Sequence[Overlap]) -> float:
    """Mean IoU over the slices that contain the label in the reference; NaN without one."""
    return _mean([iou_of(part) for part in counts if part.num_reference])


@_metric("slice_dice_all", by_slice=True)
def slice_dice_all(counts: Sequence[Overlap]) -> float:
    """Mean Dice over every slice of the volume; a slice empty in both counts as 1, so false positives show."""
    return _mean([dice_of(part) for part in counts])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan
