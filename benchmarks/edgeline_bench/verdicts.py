"""Faster, slower or the same: the statistics of a comparison, from nothing but the medians of two rows' rounds.

Rounds are the independent unit; calls within one share what happened to it. What rounds cannot show, by how much two
processes that run the same thing differ, is NOISE_FLOOR. No reports here: edgeline_bench.compare has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

MIN_ROUNDS = 20  # fewer, and neither interval nor verdict is given
# A process keeps its memory layout for all its rounds, so two runs of the same thing differ by more than the rounds of
# either show. docs/measuring.md has the runs that this comes from, docs/false-alarms.md what it leads to.
NOISE_FLOOR = 0.05
SIGNIFICANCE = 0.05
_RESAMPLES = 10_000
_SEED = 0

Rounds = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """New over old. `ratio` is of times (above 1: slower), `ci95` its interval, `p_value` after Holm's correction.

    `noise` is the share below which nothing is claimed, `rounds` the smaller number of rounds of the two. `word` is
    slower, faster, same or withheld; withheld (fewer than MIN_ROUNDS rounds) has neither interval nor p nor noise.
    """

    ratio: float
    ci95: tuple[float, float] | None
    p_value: float | None
    noise: float | None
    rounds: int
    word: str


def verdicts(
    rows: Sequence[tuple[Rounds, Rounds]], noise: float | None = None, machine: float | Sequence[float] = 0.0
) -> list[Verdict]:
    """Judge rows that were measured together; each is (old, new): the medians of its rounds, all above 0, any unit.

    A row is slower or faster when Mann and Whitney's U (two-sided; Ann. Math. Stat. 18, 1947) has p < SIGNIFICANCE
    after Holm's correction over `rows` (Scand. J. Stat. 6, 1979), and its ratio of medians lies beyond the noise: above
    1 + noise or below 1 / (1 + noise). Without a `noise` of the caller's it is what `noise_of` finds for each row, plus
    `machine`, the share by which the machine itself changed between the two runs, of all rows or of each.
    """
    arrays = [(np.asarray(old, np.float64), np.asarray(new, np.float64)) for old, new in rows]
    enough = [min(len(old), len(new)) >= MIN_ROUNDS for old, new in arrays]
    tested = [pair for pair, is_enough in zip(arrays, enough, strict=True) if is_enough]
    p_values = iter(holm([float(stats.mannwhitneyu(old, new).pvalue) for old, new in tested]))
    changes = [machine] * len(rows) if isinstance(machine, float | int) else machine
    found = []
    for (old, new), is_enough, change in zip(arrays, enough, changes, strict=True):
        ratio = float(np.median(new) / np.median(old))
        rounds = min(len(old), len(new))
        if not is_enough:
            found.append(Verdict(ratio, None, None, None, rounds, "withheld"))
            continue
        interval, p_value = ratio_interval(old, new), next(p_values)
        band = noise_of(old, new, interval) + change if noise is None else noise
        found.append(Verdict(ratio, interval, p_value, band, rounds, _word(ratio, p_value, band)))
    return found


def ratio_interval(old: Rounds, new: Rounds) -> tuple[float, float]:
    """Return the 95 % interval of median(new) / median(old): the percentile bootstrap over rounds, seed fixed."""
    random = np.random.default_rng(_SEED)
    before, after = np.asarray(old, np.float64), np.asarray(new, np.float64)
    draws = np.median(random.choice(after, (_RESAMPLES, len(after))), axis=1) / np.median(
        random.choice(before, (_RESAMPLES, len(before))), axis=1
    )
    low, high = (float(value) for value in np.percentile(draws, [2.5, 97.5]))
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values after Holm's step-down correction, in the order given."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def noise_of(old: Rounds, new: Rounds, interval: tuple[float, float]) -> float:
    """Return what two runs of the same thing may differ by: NOISE_FLOOR, plus what these rounds themselves show.

    That is half the width of the ratio's interval or, where it is more, the difference between the first and the second
    half of either run's rounds: the interval takes rounds for independent, and a slow drift would make it too narrow.
    """
    half_width = math.sqrt(interval[1] / interval[0]) - 1
    return NOISE_FLOOR + max(half_width, _halves_apart(old), _halves_apart(new))


def _halves_apart(rounds: Rounds) -> float:
    middle = len(rounds) // 2
    change = float(np.median(rounds[middle:]) / np.median(rounds[:middle]))
    return max(change, 1 / change) - 1


def _word(ratio: float, p_value: float, noise: float) -> str:
    if p_value >= SIGNIFICANCE or 1 / (1 + noise) <= ratio <= 1 + noise:
        return "same"
    return "slower" if ratio > 1 else "faster"
