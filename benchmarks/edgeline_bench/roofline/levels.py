"""From a sweep of read bandwidth over the working set to memory levels: their names, capacities and bandwidths.

The Empirical Roofline Toolkit's view: each plateau is a level. What sysfs says of the caches names the plateaus and
draws their borders towards itself, but a sweep that clearly shows another border wins: virtual machines report caches
that they share or do not have. Nothing is measured here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Sweep = Sequence[tuple[int, float]]  # (working set in bytes, bytes/s), of all threads together, in ascending order

SYSFS = Path("/sys/devices/system/cpu")
DRAM = "DRAM"
_MOST_CACHES = 3
# Costs of a division into levels, in natural logarithms of bandwidth summed over the sweep's points.
_OFF_HINT = 0.3  # for each octave that a border lies off what sysfs says
_NO_HINT = 1.0  # for each level that sysfs does not know
# What follows a level that only the sweep knows must be slower by this factor: the middle of a blurred border is not.
_LEAST_FALL = 1.3
# Of a level's range, where its own bandwidth shows: beyond twice the level below it (four times before DRAM, as large
# caches do not replace the oldest line first), and with room left for code, stacks and the page tables.
_ABOVE_LOWER, _ABOVE_LAST, _BELOW_OWN = 2, 4, 0.75


@dataclass(frozen=True, slots=True)
class Level:
    """A memory level for a number of threads together: capacity in bytes (None for DRAM), and read bandwidth.

    `seen_at_bytes` is the working set of the sweep that shows this bandwidth best.
    """

    name: str
    bytes_per_s: float
    capacity_bytes: int | None
    seen_at_bytes: int


def cache_capacities(cores: Sequence[int], root: Path = SYSFS) -> dict[str, int]:
    """Return the data caches' bytes by level ("L1" ...) that `cores` have together: private ones add up, shared once.

    Empty where sysfs tells nothing (many virtual machines and Arm boards).
    """
    found: dict[tuple[int, str], int] = {}
    for core in cores:
        for index in sorted((root / f"cpu{core}" / "cache").glob("index*")):
            try:
                number, kind, size, shared = (
                    (index / name).read_text(encoding="ascii").strip()
                    for name in ("level", "type", "size", "shared_cpu_list")
                )
                if kind != "Instruction":
                    found[int(number), shared] = _bytes_from_text(size)
            except (OSError, ValueError):
                continue
    totals: dict[str, int] = {}
    for (level, _), size_bytes in sorted(found.items()):
        totals[f"L{level}"] = totals.get(f"L{level}", 0) + size_bytes
    return {name: size_bytes for name, size_bytes in totals.items() if size_bytes > 0}


def levels_from_sweep(sweep: Sweep, capacities: Mapping[str, int]) -> tuple[Level, ...]:
    """Divide a sweep into levels, fastest first, DRAM last; `capacities` are sysfs's, and may be empty or wrong.

    The division is the one with the least sum of |log(bandwidth) - log(the level's median)| plus the costs above.
    """
    sizes = [size for size, _ in sweep]
    rates = _envelope([rate for _, rate in sweep])
    hints = [(name, size) for name, size in capacities.items() if sizes[0] < size < sizes[-1]][:_MOST_CACHES]
    divisions = [_divide(sizes, rates, hints, count) for count in range(len(hints), _MOST_CACHES + 1)]
    _, ends = min((division for division in divisions if division is not None), key=lambda found: found[0])
    borders = [
        (name, hint if hint and 0.5 <= sizes[end - 1] / hint <= 2 else sizes[end - 1])
        for (name, hint), end in zip(_names(hints, ends), ends, strict=True)
    ]
    return tuple(
        _level(sweep, rates, name, borders[index - 1][1] if index else 0, capacity)
        for index, (name, capacity) in enumerate([*borders, (DRAM, None)])
    )


def _envelope(rates: Sequence[float]) -> list[float]:
    """Return for each working set the best rate from there on: disturbance only ever lowers a rate."""
    best, falling = 0.0, []
    for rate in reversed(rates):
        best = max(best, rate)
        falling.append(best)
    return falling[::-1]


_Division = tuple[float, list[int]]  # what it costs, and at which point of the sweep each cache ends (exclusive)


def _divide(
    sizes: Sequence[int], rates: Sequence[float], hints: Sequence[tuple[str, int]], caches: int
) -> _Division | None:
    """Find the cheapest division into `caches` levels and DRAM; the last ones have no hint. None where it has none."""
    logs = [math.log(rate) for rate in rates]
    # best[end] is the cheapest division of the first `end` points into the levels so far.
    best: dict[int, _Division] = {0: (0.0, [])}
    for cache in range(caches):
        following: dict[int, _Division] = {}
        for start, (cost, ends) in best.items():
            for end in range(start + 1, len(sizes)):
                found = cost + _spread(logs[start:end]) + _border_cost(sizes, rates, start, end, hints[cache:])
                if found < following.get(end, (math.inf, []))[0]:
                    following[end] = (found, [*ends, end])
        best = following
    whole = [(cost + _spread(logs[start:]), ends) for start, (cost, ends) in best.items()]
    cheapest = min(whole, key=lambda found: found[0], default=(math.inf, []))
    return cheapest if math.isfinite(cheapest[0]) else None


def _border_cost(
    sizes: Sequence[int], rates: Sequence[float], start: int, end: int, hints: Sequence[tuple[str, int]]
) -> float:
    """Return the cost of a level from point `start` that ends before `end`; infinite where it may not."""
    if hints:
        return _OFF_HINT * abs(math.log2(sizes[end - 1] / hints[0][1]))
    falls = statistics.median(rates[start:end]) >= _LEAST_FALL * rates[end]
    return _NO_HINT if falls else math.inf


def _spread(logs: Sequence[float]) -> float:
    middle = statistics.median(logs)
    return sum(abs(value - middle) for value in logs)


def _names(hints: Sequence[tuple[str, int]], ends: Sequence[int]) -> list[tuple[str, int]]:
    """Return name and hinted size (0: none) of each cache: sysfs's own, then the numbers that follow."""
    last = int(hints[-1][0].removeprefix("L")) if hints else 0
    return [*hints, *((f"L{last + extra}", 0) for extra in range(1, len(ends) - len(hints) + 1))]


def _level(sweep: Sweep, rates: Sequence[float], name: str, lower_bytes: int, capacity_bytes: int | None) -> Level:
    """Read off a level between the capacity of the one below it and its own: the median of where it shows alone."""
    above = lower_bytes * (_ABOVE_LOWER if capacity_bytes else _ABOVE_LAST)
    below = capacity_bytes * _BELOW_OWN if capacity_bytes else math.inf
    inside = [index for index, (size, _) in enumerate(sweep) if above < size <= below]
    if not inside:  # a level hardly larger than the one below it: the point nearest to its middle
        middle = math.sqrt(max(lower_bytes, 1) * (capacity_bytes or sweep[-1][0]))
        inside = [min(range(len(sweep)), key=lambda index: abs(math.log(sweep[index][0] / middle)))]
    rate = statistics.median(rates[index] for index in inside)
    shown = min(inside, key=lambda index: abs(sweep[index][1] - rate))
    return Level(name, rate, capacity_bytes, sweep[shown][0])


def _bytes_from_text(text: str) -> int:
    """Parse sysfs's `48K`, `32M` or `512`."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG")) * factor
