"""Figures from samples: intervals from rounds, verdicts on two runs. Percentiles are in edgeline_bench.percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeline_bench.percentiles import MIN_SAMPLES as MIN_SAMPLES
from edgeline_bench.percentiles import percentile_s as percentile_s

MIN_ROUNDS_FOR_VERDICT = 6  # fewer, and a bootstrap over rounds has too few values to draw from
_RESAMPLES = 10_000
_SEED = 0


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """New over old: the ratio of times, its 95 % interval, the noise below which nothing is claimed, and the word."""

    ratio: float
    ci95: tuple[float, float] | None
    noise: float
    word: str


def verdict(old: Sequence[float], new: Sequence[float], noise: float) -> Verdict:
    """Compare two rows, each given as its rounds' medians divided by the reference kernel's time in that round.

    The ratio is that of the medians; its interval is the percentile bootstrap over rounds (rounds are the independent
    unit, calls within one are not). "slower" or "faster" is said only where the whole interval lies outside the noise.
    From fewer than MIN_ROUNDS_FOR_VERDICT rounds there is neither interval nor verdict.
    """
    if min(len(old), len(new)) < MIN_ROUNDS_FOR_VERDICT:
        return Verdict(float(np.median(new) / np.median(old)), None, noise, "too few rounds")
    before, after = np.asarray(old, np.float64), np.asarray(new, np.float64)
    random = np.random.default_rng(_SEED)
    draws = np.median(random.choice(after, (_RESAMPLES, len(after))), axis=1) / np.median(
        random.choice(before, (_RESAMPLES, len(before))), axis=1
    )
    low, high = (float(v) for v in np.percentile(draws, [2.5, 97.5]))
    ratio = float(np.median(after) / np.median(before))
    word = "slower" if low > 1 + noise else "faster" if high < 1 / (1 + noise) else "same"
    return Verdict(ratio, (low, high), noise, word)
