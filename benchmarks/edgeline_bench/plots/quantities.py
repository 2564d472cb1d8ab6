"""Rates and capacities as plots write them, and the unit that fits an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable

UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
_PREFIXES = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def operations_rate(value: float | None, precision: str) -> str:
    """Format operations/s: `115 GFLOP/s`, for integers `460 GOP/s`; `-` for None."""
    return "-" if value is None else f"{_scaled(value)}{'OP' if precision.startswith('int') else 'FLOP'}/s"


def bytes_rate(value: float | None) -> str:
    """Format bytes/s: `21 GB/s` (10^9); `-` for None."""
    return "-" if value is None else f"{_scaled(value)}B/s"


def percent(share: float | None) -> str:
    """Format a share: `45%`; `-` for None."""
    return "-" if share is None else f"{share:.0%}"


def ratio(value: float | None) -> str:
    """Format a quotient with three digits; `-` for None."""
    return "-" if value is None else f"{value:.3g}"


def capacity(value: float) -> str:
    """Format the size of a memory: `48 KiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value:.0f} B"


def count(value: float) -> str:
    """Format a count of operations or bytes, as `26.2 M`."""
    return _scaled(value).rstrip()


def time_unit(values_s: Iterable[float]) -> tuple[str, float]:
    """Return the unit, and its length in seconds, in which the largest of some times is read best."""
    largest = max(values_s)
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if largest >= factor:
            return unit, factor
    return "us", 1e-6


def log_ticks(values: Iterable[float]) -> tuple[list[float], list[str]]:
    """Return ticks for a logarithmic axis, each with its whole figure: 1, 2 and 5 of each decade, or its 1 alone."""
    known = list(values)
    low, high = min(known), max(known)
    steps = (1, 2, 5) if high < 300 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    shown = [tick for tick in ticks if low / 1.5 <= tick <= high * 1.5]
    return shown, [f"{tick:,.10g}" for tick in shown]


def _scaled(value: float) -> str:
    for prefix, factor in _PREFIXES:
        if value >= 0.9995 * factor:
            digits = value / factor
            return f"{digits:.3g} {prefix}" if digits < 999.5 else f"{digits:,.0f} {prefix}"
    return f"{value:.3g} "
