"""The run itself: all points in turn, round after round, so that drift of the machine hits all alike.

Only one worker runs at any time. The order is shuffled each round, from a fixed seed, so that no engine always follows
the same neighbour.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeline_bench import procfs
from edgeline_bench.points import Point, reference_point
from edgeline_bench.worker_handle import WorkerHandle

_REFERENCE_SLOT_S = 0.1
_SHUFFLE_SEED = 0


@dataclass(slots=True)
class Measured:
    """All that was measured of one point; a list of samples per round."""

    point: Point
    ready: dict[str, Any]
    rounds_s: list[list[float]] = field(default_factory=list)
    calls: int = 0
    elapsed_s: float = 0.0
    memory_bytes: dict[str, int] | None = None

    @property
    def round_medians_s(self) -> list[float]:
        """The median sample of each round."""
        return [statistics.median(samples) for samples in self.rounds_s]


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run: the points, the reference kernel, and the CPU share (0 to 1) that other processes took meanwhile."""

    measured: list[Measured]
    reference: Measured
    foreign_load: float | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """Sent before each start (`round` 0) and each turn of a worker."""

    round: int
    rounds: int
    point: Point
    done: int
    total: int


def run_rounds(points: Sequence[Point], rounds: int, slot_s: float, report: Callable[[Step], None]) -> Run:
    """Start a worker per point, give each one slot in every round, and return what they measured.

    Raises what a worker raised. However it ends, no worker is left.
    """
    reference = reference_point(points[0].pinned)
    everyone = [*points, reference]
    total = len(everyone) * (rounds + 1)
    shuffled = random.Random(_SHUFFLE_SEED)
    with contextlib.ExitStack() as stack:
        workers: list[tuple[WorkerHandle, Measured]] = []
        for point in everyone:
            report(Step(0, rounds, point, len(workers), total))
            worker = stack.enter_context(WorkerHandle(point))
            workers.append((worker, Measured(point, worker.ready)))
        load = _Load([worker.pid for worker, _ in workers])
        for index in range(rounds):
            order = workers[:]
            shuffled.shuffle(order)
            for turn, (worker, measured) in enumerate(order):
                report(Step(index + 1, rounds, measured.point, len(everyone) * (index + 1) + turn, total))
                answer = worker.ask(_REFERENCE_SLOT_S if measured.point is reference else slot_s)
                measured.rounds_s.append(answer["samples_s"])
                measured.calls += answer["calls"]
                measured.elapsed_s += answer["elapsed_s"]
                measured.memory_bytes = answer["memory_bytes"]
        foreign_load, elapsed_s = load.foreign()
    return Run([m for _, m in workers[:-1]], workers[-1][1], foreign_load, elapsed_s)


class _Load:
    """How much of the machine others used since this was made."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._started = time.monotonic()
        self._busy, self._own = procfs.busy_seconds(), self._own_seconds()

    def foreign(self) -> tuple[float | None, float]:
        """Return the CPU time of others as a share of one core, and the seconds that passed."""
        elapsed = time.monotonic() - self._started
        busy = procfs.busy_seconds()
        if busy is None or self._busy is None:
            return None, elapsed
        others = (busy - self._busy) - (self._own_seconds() - self._own)
        return max(0.0, others / elapsed), elapsed

    def _own_seconds(self) -> float:
        return time.process_time() + sum(procfs.cpu_seconds_of(pid) for pid in self._pids)
