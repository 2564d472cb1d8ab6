"""The only clock of Edgeline: it warms an engine up, calls it, and keeps one sample per call.

It runs inside the worker, beside the engine. It computes no statistics beyond what it needs to stop warming up.

What the harness itself costs (reading the clock twice, calling a Python function) is in every sample. It is measured
in the same slot and given beside the samples, and never subtracted: for an engine slower than FAST_CALL_S it is no
matter, for a faster one its share of the median says how far a sample can be trusted. An engine with a C entry point
can be timed without Python: edgeline_bench.native_clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# A block of warm-up calls is stable when its median is this close to that of the block before it.
_STABLE = 0.03
_BLOCK_S = 0.02
_MAX_WARMUP_SHARE = 0.5  # of the slot: an engine that never settles is measured all the same, and its spread shows it
# A call of so long warms itself up: what a stopped process finds cold (caches, TLB) takes it milliseconds to fetch.
# Only an engine's first turn begins with one that is not timed: a run of calls of a minute would take twice as long.
_LONG_CALL_S = 1.0
MAX_SAMPLES = 2_000  # per slot; more calls than that are sampled evenly
FAST_CALL_S = 50e-6  # below it a report shows the harness's own overhead beside the figure
_OVERHEAD_CALLS = 1_000
# A sleep ends late, by 50 to 100 us on an idle Linux machine and by more under load; the end of a wait is spun through.
_SPIN_NS = 500_000


class Clock(Protocol):
    """What times are read from; tests pass one that they move themselves."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds since any fixed moment."""
        ...

    def wait_until_ns(self, moment_ns: int) -> None:
        """Return at `moment_ns` or as soon after it as can be."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def __init__(self) -> None:
        self.now_ns = time.perf_counter_ns

    def wait_until_ns(self, moment_ns: int) -> None:
        """Sleep for most of the time, then spin: a sleep alone overshoots by more than a fast engine takes."""
        now_ns = self.now_ns
        rest_ns = moment_ns - now_ns() - _SPIN_NS
        if rest_ns > 0:
            time.sleep(rest_ns * 1e-9)
        while now_ns() < moment_ns:
            pass


@dataclass(frozen=True, slots=True)
class Slot:
    """One turn of an engine: seconds per recorded call, all calls made, and the time they took together.

    `clock_overhead_s` is what timing a call that does nothing gave right after them.
    """

    samples_s: list[float]
    calls: int
    elapsed_s: float
    warmup_calls: int
    clock_overhead_s: float


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How many calls it took until blocks agreed (or the time was up), and seconds per call in the last block."""

    calls: int
    call_s: float


def measure(call: Callable[[], object], slot_s: float, clock: Clock | None = None, last_s: float | None = None) -> Slot:
    """Warm up until stable, then call for `slot_s` seconds, at least once.

    `last_s`: what a call took in the engine's turn before; where that is a second or more, there is no warm-up.
    Of more than MAX_SAMPLES calls every k-th is recorded, k being fixed beforehand: none is picked by its time.
    """
    clock = clock or SystemClock()
    now_ns = clock.now_ns
    if last_s is not None and last_s >= _LONG_CALL_S:
        warmup = WarmUp(0, last_s)
    else:
        warmup = warm_up(call, slot_s * _MAX_WARMUP_SHARE, clock)
    every = int(slot_s / warmup.call_s // MAX_SAMPLES) + 1
    samples: list[int] = []
    calls = 0
    started = now = now_ns()
    end = started + int(slot_s * 1e9)
    while True:
        before = now_ns()
        call()
        now = now_ns()
        if calls % every == 0:
            samples.append(now - before)
        calls += 1
        if now >= end:
            break
    return Slot(seconds_from_ns(samples), calls, (now - started) * 1e-9, warmup.calls, overhead_s(clock))


def warm_up(call: Callable[[], object], limit_s: float, clock: Clock) -> WarmUp:
    """Call in blocks until two in a row agree or the time is up, at least once."""
    now_ns = clock.now_ns
    end, calls, previous = now_ns() + int(limit_s * 1e9), 0, 0.0
    while True:
        block: list[int] = []
        block_end = now_ns() + int(_BLOCK_S * 1e9)
        while not block or (now_ns() < block_end and len(block) < MAX_SAMPLES):
            before = now_ns()
            call()
            block.append(now_ns() - before)
        calls += len(block)
        median = statistics.median(block)
        if abs(median - previous) <= _STABLE * median or now_ns() >= end:
            return WarmUp(calls, max(median * 1e-9, 1e-9))
        previous = median


def overhead_s(clock: Clock | None = None) -> float:
    """Return what the clock itself adds to a sample: the median of timing a call that does nothing."""
    now_ns = (clock or SystemClock()).now_ns
    samples = []
    for _ in range(_OVERHEAD_CALLS):
        before = now_ns()
        _nothing()
        samples.append(now_ns() - before)
    return statistics.median(samples) * 1e-9


def overhead_share(slot: Slot) -> float | None:
    """Return the overhead as a share of the median sample; None where calls are too slow for it to matter."""
    median = statistics.median(slot.samples_s)
    return slot.clock_overhead_s / median if 0 < median < FAST_CALL_S else None


def seconds_from_ns(samples_ns: list[int]) -> list[float]:
    """Convert samples; rounded, so that a report has 9 digits and not 17."""
    return [round(sample * 1e-9, 9) for sample in samples_ns]


def _nothing() -> None:
    """The empty call."""
