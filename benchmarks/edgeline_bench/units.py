"""Seconds, bytes and rates as people read them. Inside, all is seconds and bytes; this is the edge."""

from __future__ import annotations


def seconds(value: float | None) -> str:
    """Format seconds with a fitting unit: `31.4 us`, `2.44 s`; `-` for None."""
    if value is None:
        return "-"
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= factor:
            return f"{_digits(value / factor)} {unit}"
    return f"{_digits(value * 1e9)} ns"


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """Format bytes as MB (10^6 bytes); `-` for None."""
    if value is None:
        return "-"
    return f"{value / 1e6:,.2f} MB" if value < 1e7 else f"{value / 1e6:,.0f} MB"


def rate(value: float | None) -> str:
    """Format a number per second with thousands separators; `-` for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"


def counted(number: int, noun: str) -> str:
    """Format how many there are of something: `1 thread`, `2 threads`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def count(value: float) -> str:
    """Format a number of operations: `833 k`, `1.88 G`."""
    for unit, factor in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if value >= factor:
            return f"{_digits(value / factor)}{unit}"
    return f"{value:,.0f}"


def flops(value: float) -> str:
    """Format operations per second: `110 GFLOP/s`."""
    return f"{_digits(value / 1e9)} GFLOP/s"


def bandwidth(value: float) -> str:
    """Format bytes per second as GB/s (10^9 bytes)."""
    return f"{_digits(value / 1e9)} GB/s"
