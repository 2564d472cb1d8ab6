"""The ranges of a network's activations: collected on calibration samples, and cut by a method.

Each tensor gets a histogram of 8,192 bins over a symmetric range that doubles, two bins becoming one, whenever a larger
value comes: one pass over the samples, nothing kept but counts, and the same counts in any order of the samples.

Methods: `minmax` takes the largest magnitude; `percentile` the smallest one that holds 99.99 % of the magnitudes;
`entropy` the one whose 128 levels lose least information, after Migacz, "8-bit Inference with TensorRT", GTC 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeline.errors import GateError

METHODS = ("minmax", "entropy", "percentile")
BINS = 8192
PERCENTILE = 99.99
_LEVELS = 128
_CANDIDATE_STEP = 16  # bins between two thresholds that entropy tries


@dataclass(frozen=True, slots=True)
class TensorRange:
    """What calibration saw of one tensor. `counts` are int64 [BINS] over [-limit, limit]."""

    smallest: float
    largest: float
    limit: float
    counts: npt.NDArray[np.int64]

    @property
    def magnitude(self) -> float:
        """The largest absolute value seen."""
        return max(-self.smallest, self.largest, 0.0)

    def threshold(self, method: str) -> float:
        """Return the magnitude above which values saturate, by one of METHODS. 0 for a tensor of zeros."""
        if method == "minmax" or self.magnitude == 0.0:
            return self.magnitude
        folded = self.counts[BINS // 2 :] + self.counts[: BINS // 2][::-1]  # counts of magnitudes, [BINS // 2]
        width = self.limit / (BINS // 2)
        edge = _percentile_edge(folded) if method == "percentile" else _entropy_edge(folded)
        return min(edge * width, self.magnitude)


class RangeCollector:
    """Adds up one tensor's range and histogram, batch by batch."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._smallest, self._largest, self._limit = np.inf, -np.inf, 0.0
        self._counts = np.zeros(BINS, np.int64)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count a batch. Raises GateError, with the tensor's name, when a value is NaN or infinite."""
        smallest, largest = float(values.min()), float(values.max())
        if not np.isfinite(smallest) or not np.isfinite(largest):
            raise GateError(
                f"the activation '{self._name}' is NaN or infinite on calibration data; nothing was written"
            )
        self._smallest, self._largest = min(self._smallest, smallest), max(self._largest, largest)
        self._widen(max(abs(smallest), abs(largest)))
        if self._limit == 0.0:
            self._counts[BINS // 2] += values.size
            return
        scaled = values.ravel() * np.float32(BINS / 2 / self._limit) + np.float32(BINS / 2)
        index = np.clip(scaled.astype(np.int32), 0, BINS - 1)
        self._counts += np.bincount(index, minlength=BINS)

    def result(self) -> TensorRange:
        """Return what was seen so far."""
        return TensorRange(self._smallest, self._largest, self._limit, self._counts)

    def _widen(self, magnitude: float) -> None:
        if magnitude == 0.0 or magnitude <= self._limit:
            return
        if self._limit == 0.0:
            # A power of two: the bins are then the same whichever sample comes first.
            self._limit = float(2.0 ** np.ceil(np.log2(magnitude)))
            zeros, self._counts[:] = self._counts.sum(), 0
            self._counts[BINS // 2] = zeros
            return
        while self._limit < magnitude:
            paired = self._counts.reshape(BINS // 2, 2).sum(axis=1)
            self._counts = np.zeros(BINS, np.int64)
            self._counts[BINS // 4 : BINS // 4 + BINS // 2] = paired
            self._limit *= 2


def _percentile_edge(counts: npt.NDArray[np.int64]) -> int:
    """Return how many bins, from zero on, hold PERCENTILE of the values."""
    share = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(share, PERCENTILE / 100)) + 1


def _entropy_edge(counts: npt.NDArray[np.int64]) -> int:
    """Return how many bins to keep so that their distribution in 128 levels diverges least from the whole one."""
    counts = counts.copy()
    counts[0] = counts[1]  # zeros, half of what a ReLU gives, are exact at any threshold: they have no say
    used = int(np.nonzero(counts)[0][-1]) + 1
    best, least = used, np.inf
    for edge in _candidates(used):
        divergence = _divergence(counts, edge)
        if divergence < least:
            best, least = edge, divergence
    return best


def _candidates(used: int) -> Iterator[int]:
    yield from range(_LEVELS, used, _CANDIDATE_STEP)
    yield used


def _divergence(counts: npt.NDArray[np.int64], edge: int) -> float:
    """Kullback-Leibler divergence of the values clipped at `edge` from the same in 128 levels.

    The clipped values are added to the last bin of the reference and not to the levels: that is the price of clipping.
    """
    reference = counts[:edge].astype(np.float64)
    quantised = reference.copy()
    reference[-1] += counts[edge:].sum()
    level = np.minimum(np.arange(edge) * _LEVELS // edge, _LEVELS - 1)
    occupied = quantised > 0
    sums = np.bincount(level, weights=quantised, minlength=_LEVELS)
    spread = np.bincount(level, weights=occupied, minlength=_LEVELS)
    quantised = np.where(occupied, sums[level] / np.maximum(spread[level], 1), 0.0)
    p, q = reference / reference.sum(), quantised / max(quantised.sum(), 1.0)
    both = p > 0
    # A bin that the levels do not reach at all costs what the smallest probability costs, not infinity.
    return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))))
