"""Scores from arrays: arrays in, rows out. No files, no MONAI."""

from rankseg_rma.metrics.lesions import IOU_THRESHOLDS, LesionMatch, match_lesions
from rankseg_rma.metrics.masks import as_label_map
from rankseg_rma.metrics.metric import (
    EMPTY_POLICIES,
    METRIC_GROUPS,
    METRIC_TABLE,
    Measured,
    Metric,
    find_metric,
    list_metrics,
)
from rankseg_rma.metrics.overlap import LabelPairs, Overlap, count_overlap, count_pairs
from rankseg_rma.metrics.size import longest_diameter_mm, recist_sum_mm
from rankseg_rma.metrics.surface import SurfaceDistances, measure_distances, surface_dice

__all__ = [
    "EMPTY_POLICIES",
    "IOU_THRESHOLDS",
    "METRIC_GROUPS",
    "METRIC_TABLE",
    "LabelPairs",
    "LesionMatch",
    "Measured",
    "Metric",
    "Overlap",
    "SurfaceDistances",
    "as_label_map",
    "count_overlap",
    "count_pairs",
    "find_metric",
    "list_metrics",
    "longest_diameter_mm",
    "match_lesions",
    "measure_distances",
    "recist_sum_mm",
    "surface_dice",
]
