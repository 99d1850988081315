"""Scores from arrays: arrays in, rows out. No files, no MONAI."""

from rankseg_rma.evaluation.metric import METRIC_TABLE, Metric
from rankseg_rma.evaluation.overlap import Overlap, as_label_map, count_overlap, count_overlap_by_slice
from rankseg_rma.evaluation.paired import PairedDifference, compare_pairs

__all__ = [
    "METRIC_TABLE",
    "Metric",
    "Overlap",
    "PairedDifference",
    "as_label_map",
    "compare_pairs",
    "count_overlap",
    "count_overlap_by_slice",
]
