"""Scores from arrays: arrays in, rows out. No files, no MONAI."""

from rankseg_rma.evaluation.lesions import IOU_THRESHOLDS, LesionMatch, match_lesions
from rankseg_rma.evaluation.metric import (
    EMPTY_POLICIES,
    METRIC_TABLE,
    Measured,
    Metric,
    find_metric,
    list_metrics,
)
from rankseg_rma.evaluation.overlap import LabelPairs, Overlap, as_label_map, count_overlap, count_pairs
from rankseg_rma.evaluation.paired import PairedDifference, adjust_holm, compare_pairs, stratify
from rankseg_rma.evaluation.size import longest_diameter_mm, recist_sum_mm
from rankseg_rma.evaluation.surface import SurfaceDistances, measure_distances, surface_dice

__all__ = [
    "EMPTY_POLICIES",
    "IOU_THRESHOLDS",
    "METRIC_TABLE",
    "LabelPairs",
    "LesionMatch",
    "Measured",
    "Metric",
    "Overlap",
    "PairedDifference",
    "SurfaceDistances",
    "adjust_holm",
    "as_label_map",
    "compare_pairs",
    "count_overlap",
    "count_pairs",
    "find_metric",
    "list_metrics",
    "longest_diameter_mm",
    "match_lesions",
    "measure_distances",
    "recist_sum_mm",
    "stratify",
    "surface_dice",
]
