"""The only clock of Edgeline: it warms an engine up, calls it, and keeps one sample per call.

It runs inside the worker, beside the engine. It computes no statistics beyond what it needs to stop warming up.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

# A block of warm-up calls is stable when its median is this close to that of the block before it.
_STABLE = 0.03
_BLOCK_S = 0.02
_MAX_WARMUP_SHARE = 0.5  # of the slot: an engine that never settles is measured all the same, and its spread shows it
MAX_SAMPLES = 2_000  # per slot; more calls than that are sampled evenly


@dataclass(frozen=True, slots=True)
class Slot:
    """One turn of an engine: seconds per recorded call, all calls made, and the time they took together."""

    samples_s: list[float]
    calls: int
    elapsed_s: float
    warmup_calls: int


def measure(call: Callable[[], object], slot_s: float) -> Slot:
    """Warm up until stable, then call for `slot_s` seconds, at least once.

    Of more than MAX_SAMPLES calls every k-th is recorded, k being fixed beforehand: none is picked by its time.
    """
    clock = time.perf_counter_ns
    warmup_calls, call_s = _warm_up(call, slot_s * _MAX_WARMUP_SHARE)
    every = int(slot_s / call_s // MAX_SAMPLES) + 1
    samples: list[int] = []
    calls = 0
    started = now = clock()
    end = started + int(slot_s * 1e9)
    while True:
        before = clock()
        call()
        now = clock()
        if calls % every == 0:
            samples.append(now - before)
        calls += 1
        if now >= end:
            break
    return Slot([round(s * 1e-9, 9) for s in samples], calls, (now - started) * 1e-9, warmup_calls)


def overhead_s() -> float:
    """Return what the clock itself adds to a sample: the median of timing a call that does nothing."""
    samples = []
    for _ in range(2_000):
        before = time.perf_counter_ns()
        _nothing()
        samples.append(time.perf_counter_ns() - before)
    return statistics.median(samples) * 1e-9


def _nothing() -> None:
    """The empty call."""


def _warm_up(call: Callable[[], object], limit_s: float) -> tuple[int, float]:
    """Call in blocks until two in a row agree or the time is up; return the calls made and seconds per call."""
    clock = time.perf_counter
    started, calls, previous = clock(), 0, 0.0
    while True:
        block: list[float] = []
        block_end = clock() + _BLOCK_S
        while not block or (clock() < block_end and len(block) < MAX_SAMPLES):
            before = clock()
            call()
            block.append(clock() - before)
        calls += len(block)
        median = statistics.median(block)
        if abs(median - previous) <= _STABLE * median or clock() - started >= limit_s:
            return calls, max(median, 1e-9)
        previous = median
