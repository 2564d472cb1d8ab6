"""The run itself: all points in turn, round after round, so that drift of the machine hits all alike.

Only one worker runs at any time. The order is shuffled each round, from a fixed seed, so that no engine always follows
the same neighbour. What is not timed against others (the search for a server's rate, the profile of the layers,
MLPerf's LoadGen) is done before and after the rounds, worker by worker.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeline.command import note
from edgeline.errors import EdgelineError, InputError
from edgeline_bench import health, procfs
from edgeline_bench.points import Point, reference_point
from edgeline_bench.worker_handle import WorkerHandle

_REFERENCE_SLOT_S = 0.1
_SHUFFLE_SEED = 0
_SERVER_BOUNDS = 20
_PROFILE_TRIES, _PROFILE_OFF = 3, 0.10


@dataclass(frozen=True, slots=True)
class Loadgen:
    """What MLPerf's LoadGen is asked for: where its logs go, and seconds that shorten its own 600 (None: they stay)."""

    folder: Path
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run goes. `profile_s` (None: no layers) is for each worker, `search_s` and `latency_bound_s` for server."""

    rounds: int
    slot_s: float
    profile_s: float | None = None
    search_s: float = 120.0
    latency_bound_s: float | None = None
    loadgen: Loadgen | None = None


@dataclass(slots=True)
class Measured:
    """All that was measured of one point; a list of samples per round."""

    point: Point
    ready: dict[str, Any]
    rounds_s: list[list[float]] = field(default_factory=list)
    queries: int = 0
    samples: int = 0
    elapsed_s: float = 0.0
    clock_overheads_s: list[float] = field(default_factory=list)
    joules_per_call: list[float] = field(default_factory=list)
    memory_bytes: dict[str, int] | None = None
    busy_threads: int = 0
    server: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None
    gpu_stages: dict[str, list[float]] | None = None
    mlperf: dict[str, Any] | None = None

    @property
    def round_medians_s(self) -> list[float]:
        """The median sample of each round."""
        return [statistics.median(samples) for samples in self.rounds_s]

    def add(self, answer: dict[str, Any]) -> None:
        """Take in what a worker says of a turn."""
        self.rounds_s.append(answer["samples_s"])
        self.queries += answer["queries"]
        self.samples += answer["queries"] * answer["samples_per_query"]
        self.elapsed_s += answer["elapsed_s"]
        self.clock_overheads_s.append(answer["clock_overhead_s"])
        if answer["joules_per_call"] is not None:
            self.joules_per_call.append(answer["joules_per_call"])
        self.memory_bytes = answer["memory_bytes"]


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run: the points, the reference kernel, and how the machine was.

    `left_out` are optional points that did not start, and why. `foreign_load` is the CPU share (0 to 1 and more, 1
    being a core) that other processes took meanwhile; `before` and `after` are the processor's state after the first
    and the last round.
    """

    measured: list[Measured]
    reference: Measured
    foreign_load: float | None
    elapsed_s: float
    before: health.MachineState
    after: health.MachineState
    left_out: tuple[tuple[Point, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Sent before each start, search, turn, profile and LoadGen of a worker; `what` says which."""

    what: str
    point: Point
    done: int
    total: int


_Workers = list[tuple[WorkerHandle, Measured]]


def run_rounds(points: Sequence[Point], plan: Plan, report: Callable[[Step], None]) -> Run:
    """Start a worker per point, give each one slot in every round, and return what they measured.

    Raises what a worker raised, but for optional points that do not start. However it ends, no worker is left.
    """
    reference = reference_point(points[0].pinned)
    everyone = [*points, reference]
    steps = _Steps(report, len(everyone) * (plan.rounds + 1) + _extras(points, plan))
    with contextlib.ExitStack() as stack:
        workers: _Workers = []
        left_out: list[tuple[Point, str]] = []
        for point in everyone:
            steps.next("starting", point)
            try:
                worker = stack.enter_context(WorkerHandle(point))
            except EdgelineError as error:
                if not point.optional:
                    raise
                note(f"{point.title} is left out: {error}")
                left_out.append((point, str(error)))
                continue
            workers.append((worker, Measured(point, worker.ready)))
        if len(workers) == 1:  # the reference kernel's
            raise InputError(f"no engine started; the last one: {left_out[-1][1]}")
        workers = _search_rates(workers, plan, steps)
        load = _Load([worker.pid for worker, _ in workers])
        threads = [health.thread_times(worker.pid) for worker, _ in workers]
        shuffled = random.Random(_SHUFFLE_SEED)
        states: list[health.MachineState] = []
        for index in range(plan.rounds):
            order = workers[:]
            shuffled.shuffle(order)
            for worker, measured in order:
                point = measured.point
                steps.next(f"round {index + 1}/{plan.rounds}", point)
                slot_s = _slot_s(measured, plan)
                rate_per_s = (measured.server or {}).get("rate_per_s")
                measured.add(worker.ask("turn", slot_s=slot_s, seed=index, rate_per_s=rate_per_s))
            states.append(health.machine_state())
        foreign_load, elapsed_s = load.foreign()
        for (worker, measured), before in zip(workers, threads, strict=True):
            after = health.thread_times(worker.pid)
            measured.busy_threads = health.busy_threads(before, after, measured.elapsed_s)
        _time_gpu_stages(workers, plan, steps)
        _profile_layers(workers, plan, steps)
        _run_loadgen(workers, plan, steps)
    measured_points, of_reference = [m for _, m in workers[:-1]], workers[-1][1]
    return Run(measured_points, of_reference, foreign_load, elapsed_s, states[0], states[-1], tuple(left_out))


def _slot_s(measured: Measured, plan: Plan) -> float:
    """Return how long a turn lasts; a server's queue starts empty, and needs some latency bounds to fill."""
    if measured.point.host == "reference":
        return _REFERENCE_SLOT_S
    bound_s = (measured.server or {}).get("latency_bound_s") or 0.0
    return max(plan.slot_s, _SERVER_BOUNDS * bound_s)


class _Steps:
    """Counts the steps and sends them on."""

    def __init__(self, report: Callable[[Step], None], total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def next(self, what: str, point: Point) -> None:
        self._report(Step(what, point, self._done, self._total))
        self._done += 1


def _extras(points: Sequence[Point], plan: Plan) -> int:
    searches = sum(_wants_search(point) for point in points)
    profiles = 0 if plan.profile_s is None else sum(_wants_profile(point) for point in points)
    stages = sum(_has_gpu_stages(point) for point in points)
    return searches + stages + profiles + (sum(map(wants_loadgen, points)) if plan.loadgen else 0)


def _wants_search(point: Point) -> bool:
    return point.scenario == "server" and point.rate_per_s is None


def _wants_profile(point: Point) -> bool:
    return point.scenario == "single-stream"


def wants_loadgen(point: Point) -> bool:
    """MLPerf's single-stream has one sample a query, whatever our batch size."""
    return point.scenario != "single-stream" or point.batch == 1


def _search_rates(workers: _Workers, plan: Plan, steps: _Steps) -> _Workers:
    """Find each server's rate, unless it was given; return the workers without those for which there is none.

    Raises InputError where nothing else is left to measure.
    """
    kept: _Workers = []
    for worker, measured in workers:
        point = measured.point
        if point.scenario != "server":
            kept.append((worker, measured))
            continue
        if not _wants_search(point):
            measured.server = {"rate_per_s": point.rate_per_s, "latency_bound_s": plan.latency_bound_s, "given": True}
            kept.append((worker, measured))
            continue
        steps.next("rate", point)
        found = worker.ask("search", latency_bound_s=plan.latency_bound_s, budget_s=plan.search_s)
        if found["rate_per_s"] is None:
            missing = f"{point.title}: no rate was found: {found['why']}"
            note(f"{missing}; this row is left out")
            continue
        measured.server = {**found, "given": False}
        kept.append((worker, measured))
    if len(kept) == 1:  # the reference kernel's
        raise InputError(f"{missing}: give a longer --latency-bound, or a rate with --server-qps")
    return kept


def _has_gpu_stages(point: Point) -> bool:
    return point.engine == "tensorrt" and _wants_profile(point)


def _time_gpu_stages(workers: _Workers, plan: Plan, steps: _Steps) -> None:
    for worker, measured in workers:
        if _has_gpu_stages(measured.point):
            steps.next("stages", measured.point)
            try:
                measured.gpu_stages = worker.ask("stages", seconds=plan.slot_s)
            except EdgelineError as error:
                note(f"no stages: {error}")


def _profile_layers(workers: _Workers, plan: Plan, steps: _Steps) -> None:
    """Profile each row's layers; again where the machine was not as fast meanwhile as in the rounds."""
    if plan.profile_s is None:
        return
    for worker, measured in workers:
        if measured.point.host == "reference" or not _wants_profile(measured.point):
            continue
        steps.next("layers", measured.point)
        for _ in range(_PROFILE_TRIES):
            try:
                found = worker.ask("profile", seconds=plan.profile_s)
            except EdgelineError as error:  # the worker is gone; what the rounds measured stays
                found = {"record": None, "why": str(error)}
            if found["record"] is None:
                measured.profile = measured.profile or found
                break
            profiled_s = sum(g["time_s"] for g in (*found["record"]["groups"], *found["record"]["unmatched"]))
            if not profiled_s:
                measured.profile = {"record": None, "why": "its kernels are too short for the profiler's clock"}
                break
            found["off"] = abs(profiled_s / statistics.median(measured.round_medians_s) - 1)
            if measured.profile is None or found["off"] < measured.profile["off"]:
                measured.profile = found
            if found["off"] <= _PROFILE_OFF:
                break


def _run_loadgen(workers: _Workers, plan: Plan, steps: _Steps) -> None:
    if plan.loadgen is None:
        return
    for worker, measured in workers[:-1]:
        point = measured.point
        if not wants_loadgen(point):
            continue
        steps.next("LoadGen", point)
        name = f"{point.engine}-{point.name}-{point.scenario}-{point.batch}"
        request = {
            "scenario": point.scenario,
            "log": str(plan.loadgen.folder / name),
            "batch": point.batch,
            "min_duration_s": plan.loadgen.seconds,
            "min_queries": None if plan.loadgen.seconds is None else 1,
            "rate_per_s": (measured.server or {}).get("rate_per_s"),
            "latency_bound_s": (measured.server or {}).get("latency_bound_s"),
        }
        try:
            found = worker.ask("loadgen", request=request)
        except EdgelineError as error:  # hours of other rows must not go with this one
            found = {"scenario": point.scenario, "valid": False, "invalid_reason": str(error), "compliant": False,
                     "why_not_compliant": ["it did not come to its end"], "metric": {}}  # fmt: skip
        measured.mlperf = {**found, "log": name}  # beside the report, wherever it goes


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
