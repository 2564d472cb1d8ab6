"""Percentiles of latencies: those that a sample can carry, and for the others how many queries they would take.

The limits are MLPerf Inference's early stopping at confidence 0.99 (MLCommons, "MLPerf Inference Rules", appendix on
early stopping): the smallest n of which one query may be slower than the percentile. The standard library alone: a
worker imports this before its engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# The median is told from the first sample on: it is a description, and no claim about a tail.
MIN_SAMPLES: dict[float, int] = {50: 1, 90: 64, 95: 130, 99: 662, 99.9: 6_636}


@dataclass(frozen=True, slots=True)
class Withheld:
    """A percentile that is not told: it takes `needed` queries, and there were `found`."""

    percent: float
    needed: int
    found: int

    def __str__(self) -> str:
        were = "was" if self.found == 1 else "were"
        return f"{percentile_name(self.percent)} needs {self.needed:,} queries, there {were} {self.found:,}"


def percentile(samples: Sequence[float], percent: float) -> float | Withheld:
    """Return the percentile (nearest rank) in the unit of `samples`, or Withheld where they are too few to tell it.

    `percent` is a key of MIN_SAMPLES.
    """
    needed = MIN_SAMPLES[percent]
    if len(samples) < needed:
        return Withheld(percent, needed, len(samples))
    return sorted(samples)[rank(len(samples), percent) - 1]


def percentile_s(samples_s: Sequence[float], percent: float) -> float | None:
    """Return `percentile`, with None for what is withheld: as report.json has it."""
    value = percentile(samples_s, percent)
    return None if isinstance(value, Withheld) else value


def rank(count: int, percent: float) -> int:
    """Return the nearest rank, counted from 1: the smallest whole number that is at least `percent` of `count`."""
    return -(-count * round(percent * 10) // 1000)  # whole tenths of a per cent: 99.9 % of 1,000 is 999 and no more


def percentile_name(percent: float) -> str:
    """Return the key of a percentile in reports: p50, p99.9."""
    return f"p{percent:g}"
