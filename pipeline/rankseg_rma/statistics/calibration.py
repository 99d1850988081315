"""Calibration of a cohort as sums over its cases, so that pooled errors can be resampled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg_rma.metrics.calibration import BinTable, CalibrationCounts
from rankseg_rma.statistics.forms import case_means, weighted_means


@dataclass(frozen=True)
class CalibrationSums:
    """What pooled calibration is computed from. Of each bin only the gap matters, and gaps add up.

    Attributes:
        num_voxels, brier, nll: (case,) number of voxels, and sums over them.
        top: (case, bin) number of voxels that are so minus the sum of their probabilities, by the probability of
            the most probable class.
        classes: (case, class, bin) the same by the probability of each class.
        image_ece: (case,) mean over the images of the case of their own error; NaN without any.
    """

    num_voxels: Any
    brier: Any
    nll: Any
    top: Any
    classes: Any
    image_ece: Any


def sum_calibration(counts: Sequence[CalibrationCounts]) -> CalibrationSums:
    """The sums of one case, from the counts of its images."""
    pooled = counts[0]
    for other in counts[1:]:
        pooled = pooled + other
    # Not from the sums: an error of each image is an absolute value, which does not add up.
    eces = np.array([one.ece() for one in counts])
    return CalibrationSums(
        num_voxels=np.array([pooled.num_voxels], np.int64),
        brier=np.array([pooled.sum_brier]),
        nll=np.array([pooled.sum_nll]),
        top=_gaps(pooled.top)[None],
        classes=np.stack([_gaps(table) for table in pooled.classes])[None],
        image_ece=case_means(eces, np.zeros(len(eces), np.int64)),
    )


def stack_calibration(parts: Sequence[CalibrationSums]) -> CalibrationSums:
    """Sums of several cases, one after the other."""
    return CalibrationSums(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def score_calibration(sums: CalibrationSums, weights: Any) -> dict[str, Any]:
    """Calibration of rows of cases.

    Args:
        sums: of all cases.
        weights: (row, case) how often each row has each case.
    Returns:
        (row,) float64 by name: ece, class_ece, brier and nll of the pooled voxels, as `CalibrationCounts` has them, and
        ece_image, the mean over images (of a case, then over cases) of each image's own error. NaN without a voxel.
    """
    weights = np.asarray(weights, np.float64)
    num_voxels = weights @ sums.num_voxels
    share = np.divide(1.0, num_voxels, out=np.full(num_voxels.shape, np.nan), where=num_voxels > 0)
    num_cases, num_classes, num_bins = sums.classes.shape
    # The absolute value comes after pooling: gaps of opposite sign cancel within a bin.
    by_class = np.abs(weights @ sums.classes.reshape(num_cases, -1)).reshape(-1, num_classes, num_bins)
    return {
        "ece": np.abs(weights @ sums.top).sum(axis=1) * share,
        "ece_image": weighted_means(sums.image_ece, weights),
        "class_ece": by_class.sum(axis=2).mean(axis=1) * share,
        "brier": (weights @ sums.brier) * share,
        "nll": (weights @ sums.nll) * share,
    }


def _gaps(table: BinTable) -> Any:
    return np.array(table.correct, np.float64) - np.array(table.confidence, np.float64)
