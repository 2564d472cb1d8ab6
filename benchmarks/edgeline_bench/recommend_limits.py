"""What a recommended row must keep to, what breaks it, and which limit was the nearest miss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeline_bench import units
from edgeline_bench.recommend_candidates import Candidate
from edgeline_export.c.budgets import size_text
from edgeline_export.verify import max_drop_slack

_MIB = 1 << 20
_LEAST_LIMIT = 0.01  # a drop beyond a limit of 0 is measured against this, as a share of nothing is none


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a recommendation; None where there is none. Bytes, seconds, samples a second.

    A `max_drop` of 1 is no limit either: only then a row passes whose drop is not known.
    """

    max_drop: float = 0.01
    max_memory_bytes: int | None = None
    max_size_bytes: int | None = None
    max_latency_s: float | None = None
    min_throughput_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that a row breaks: its option, how, by which share, and the value that would let the row pass.

    `excess` and `enough` are None where the row's figure is not known: then no value would.
    """

    option: str
    text: str
    excess: float | None = None
    enough: str | None = None


@dataclass(frozen=True, slots=True)
class NearestMiss:
    """The row that came nearest to the limits, what it breaks, and the options that would let it pass."""

    candidate: Candidate
    violations: tuple[Violation, ...]
    options: str


def violations_of(candidate: Candidate, limits: Limits) -> tuple[Violation, ...]:
    """Return every limit that a row breaks. A figure that is not known breaks its limit: nothing passes unseen."""
    found = [
        _drop(candidate, limits.max_drop),
        _bytes("--max-memory", "peak", candidate.peak_bytes, limits.max_memory_bytes),
        _bytes("--max-size", "size", candidate.size_bytes, limits.max_size_bytes),
        _latency(candidate, limits.max_latency_s),
        _throughput(candidate, limits.min_throughput_per_s),
    ]
    return tuple(violation for violation in found if violation)


def nearest_miss(broken: Mapping[int, tuple[Violation, ...]], rows: Sequence[Candidate]) -> NearestMiss | None:
    """Return the row that breaks fewest limits, and of these by the least; None where the figures are not known.

    `broken` holds what each of `rows` breaks, by its number.
    """
    open_rows = [index for index, found in broken.items() if found and all(v.excess is not None for v in found)]
    if not open_rows:
        return None
    best = min(open_rows, key=lambda index: (len(broken[index]), sum(v.excess or 0.0 for v in broken[index])))
    options = " ".join(f"{violation.option} {violation.enough}" for violation in broken[best])
    return NearestMiss(rows[best], broken[best], options)


def _drop(candidate: Candidate, limit: float) -> Violation | None:
    option, drop = "--max-drop", candidate.drop
    if limit >= 1 or (drop is not None and drop <= max_drop_slack(limit)):
        return None
    if drop is None:
        what = "its accuracy" if candidate.row["accuracy"] is None else "the accuracy of its source"
        return Violation(option, f"{what} is not known")
    excess = (drop - limit) / max(limit, _LEAST_LIMIT)
    return Violation(option, f"drop {drop:.4f} > {limit:g}", excess, f"{math.ceil(drop * 1e4 - 1e-6) / 1e4:g}")


def _bytes(option: str, what: str, value: int | None, limit: int | None) -> Violation | None:
    if limit is None:
        return None
    if value is None:
        return Violation(option, f"its {what} is not known")
    if value <= limit:
        return None
    text = f"{what} {units.megabytes(value)} > {units.megabytes(limit)} ({option} {size_text(limit)})"
    unit = _MIB if value >= _MIB else 1024
    return Violation(option, text, value / limit - 1, size_text(math.ceil(value / unit) * unit))


def _latency(candidate: Candidate, limit: float | None) -> Violation | None:
    value = candidate.p50_s
    if limit is None or value <= limit:
        return None
    text = f"p50 {units.seconds(value)} > {units.seconds(limit)}"
    return Violation("--max-latency", text, value / limit - 1, _three_digits(value, 1))


def _throughput(candidate: Candidate, limit: float | None) -> Violation | None:
    value = candidate.throughput_per_s
    if limit is None or value >= limit:
        return None
    text = f"throughput {units.rate(value)} < {units.rate(limit)}"
    return Violation("--min-throughput", text, limit / value - 1, _three_digits(value, -1))


def _three_digits(value: float, step: int) -> str:
    """Return a figure in three digits that does not fall short of it (step 1) or does not exceed it (step -1)."""
    nearest = float(f"{value:.3g}")
    if (nearest - value) * step < 0:
        nearest += step * 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{nearest:g}"
