"""Two classifiers on the same images: the figures that belong to paired outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

_Z95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


@dataclass(frozen=True, slots=True)
class PairedAccuracy:
    """Accuracy (0 to 1) of the reference and of the other one, the drop, its 95 % interval, and McNemar's exact p."""

    reference: float
    other: float
    drop: float
    drop_ci95: tuple[float, float]
    mcnemar_p: float


def paired_accuracy(reference_right: npt.NDArray[np.bool_], other_right: npt.NDArray[np.bool_]) -> PairedAccuracy:
    """Compare bool [N] (was the answer right) of two classifiers on the same N samples.

    The interval is Agresti and Min's adjusted Wald interval for paired proportions ("Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005): half an observation is added to
    each cell. The p value is McNemar's, exact: binomial over the samples on which the two differ.
    """
    count = len(reference_right)
    lost = int((reference_right & ~other_right).sum())
    won = int((~reference_right & other_right).sum())
    n, b, c = count + 2.0, lost + 0.5, won + 0.5
    centre = (b - c) / n
    half = _Z95 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    p = float(stats.binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0
    return PairedAccuracy(
        reference=float(reference_right.mean()),
        other=float(other_right.mean()),
        drop=(lost - won) / count,
        drop_ci95=(max(-1.0, centre - half), min(1.0, centre + half)),
        mcnemar_p=p,
    )
