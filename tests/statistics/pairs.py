"""Paired differences with the defaults of these tests."""

import numpy as np

from rankseg_rma.statistics.differences import (
    compare_pairs,
)


def compare(first, second, clusters=None, better="higher", margins=(0.01, 0.05, 0.1), num_resamples=10_000, seed=0):
    return compare_pairs(
        first, second, clusters=clusters, better=better, margins=margins, num_resamples=num_resamples, seed=seed
    )


def compare_differences(difference, clusters=None, **options):
    return compare(np.zeros(len(difference)), difference, clusters, **options)
