"""What a profiler of an engine hands back, and the statistics that all of them share.

A profiler disturbs what it measures, and leaves out what happens between two kernels. So its times are scaled: calls
with and without it are made in turn, in one process, and the kernels' times are multiplied by the factor that brings
their sum to the unprofiled median. The factor is part of the result.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_TURNS = 6  # of unprofiled and profiled calls each
_MAX_CALLS = 300  # profiled: a profiler keeps a record per kernel and call
WARMUP_CALLS = 3  # the first profiled calls, which a profiler drops


@dataclass(frozen=True, slots=True)
class TimedGroup:
    """Nodes that one kernel carried out, or several kernels beside each other; scaled seconds a call.

    `kernels` are the profiler's own names; `algorithm` is "winograd" where the engine says so, otherwise None.
    """

    nodes: tuple[str, ...]
    time_s: float
    kernels: tuple[str, ...] = ()
    algorithm: str | None = None


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """Time per group of ONNX nodes. `scale` is unprofiled p50 / sum of the profiled kernels, over `calls` calls.

    `unmatched` are kernels that could be assigned to no node (with no nodes in them), `uncovered` operators that no
    kernel could be assigned to: where either is not empty, the table of layers is not to be trusted.
    """

    method: str
    scale: float
    calls: int
    groups: tuple[TimedGroup, ...]
    unmatched: tuple[TimedGroup, ...] = ()
    uncovered: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return the profile as plain JSON, as it crosses the pipe between worker and parent."""
        return asdict(self)


def profile_from_record(record: Mapping[str, Any]) -> LayerProfile:
    """Return what to_record() has written."""

    def groups(key: str) -> tuple[TimedGroup, ...]:
        return tuple(
            TimedGroup(tuple(g["nodes"]), g["time_s"], tuple(g["kernels"]), g["algorithm"]) for g in record[key]
        )

    return LayerProfile(
        record["method"],
        record["scale"],
        record["calls"],
        groups("groups"),
        groups("unmatched"),
        tuple(record["uncovered"]),
    )


def midmean(values: Sequence[float]) -> float:
    """Return the mean of the middle half.

    A median of whole microseconds has no finer steps than they have; a mean of all is at the mercy of one interrupt.
    """
    ordered = sorted(values)
    cut = len(ordered) // 4
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def in_turn(call: Callable[[], object], profiled: Callable[[int], object], seconds: float) -> list[float]:
    """Make blocks of unprofiled and profiled calls in turn; return the unprofiled calls' seconds.

    `profiled` is told how many calls to make; what it measures it keeps. The first call of each unprofiled block is
    not counted: a profiler has just been in the caches.
    """
    clock = time.perf_counter
    for _ in range(WARMUP_CALLS):
        before = clock()
        call()
        call_s = clock() - before
    profiled(WARMUP_CALLS)
    calls = max(2, min(int(seconds / (2 * _TURNS * max(call_s, 1e-9))), _MAX_CALLS // _TURNS))
    samples = []
    for _ in range(_TURNS):
        call()
        for _ in range(calls):
            before = clock()
            call()
            samples.append(clock() - before)
        profiled(calls)
    return samples


def scale_of(unprofiled_s: Sequence[float], kernels_s: Iterable[float]) -> float:
    """Return the factor that brings the kernels' sum to the median unprofiled call."""
    return statistics.median(unprofiled_s) / max(sum(kernels_s), 1e-12)
