"""Figures from samples: spread and drift. Percentiles are in edgeline_bench.percentiles, verdicts in .verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def relative_spread(values: Sequence[float]) -> float:
    """Return the standard deviation as a share of the mean, from the median absolute deviation (robust)."""
    array = np.asarray(values, np.float64)
    middle = float(np.median(array))
    return float(1.4826 * np.median(np.abs(array - middle)) / middle)


def drift(values: Sequence[float]) -> float:
    """Return by how much the median of the last third is off that of the first, as a share; 0 for fewer than 3."""
    third = len(values) // 3
    if third == 0:
        return 0.0
    first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
    return last / first - 1
