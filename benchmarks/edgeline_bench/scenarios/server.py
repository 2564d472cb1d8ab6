"""Server: queries of one sample arrive at random, wait, and are answered one at a time, first come first served.

The latency of a query runs from its arrival to its answer, so waiting is in it. Arrivals are a Poisson process, drawn
before the clock starts and from a seed: exponential gaps of mean 1, divided by the rate. The same pattern thus meets
every engine, and at a higher rate no query waits less (with the same service times), so that a search by bisection has
one answer to find.

Arrivals and engine share one thread. A query whose arrival has passed is served at once; before one that lies ahead
the thread sleeps, and spins through the last half millisecond, since a sleep overshoots by more than LeNet takes. An
arrival during a call is noticed when the call ends, which is when it could be served at the earliest. No batches are
formed of queries that wait.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from edgeline.errors import InputError
from edgeline_bench import clock as clocks
from edgeline_bench import units
from edgeline_bench.clock import Clock, SystemClock
from edgeline_bench.percentiles import MIN_SAMPLES, rank
from edgeline_bench.scenarios.turn import Call, Setting, Turn

PERCENT = 99
# The bound where none is given: ten times the engine's own single-stream median (a server of constant service time
# holds that up to about 80 % of its capacity), but no less than the 10 ms that LoadGen's rules begin with: an operating
# system takes the core away for milliseconds at a time, and a shorter bound would measure it and not the engine.
# Rates of two engines compare only under one bound in seconds.
DEFAULT_BOUND_IN_CALLS = 10
LEAST_DEFAULT_BOUND_S = 10e-3
RESOLUTION = 1.02  # the search ends when the lowest rate that failed is this close above the highest that held
_MIN_BOUNDS = 100  # a probe lasts this many latency bounds: in a shorter one a crowded queue has no time to grow
_MAX_HALVINGS = 10
_TRIES = 2  # of a rate before it counts as failed: one disturbance from outside fails a probe that lasts 1 s
_WARMUP_S = 1.0
_LEAD_NS = 1_000_000  # the arrivals' time zero lies this far ahead, so that the first one is not late


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that was tried: `p99_s` is None where it was given up, too many queries being over the bound already."""

    rate_per_s: float
    queries: int
    p99_s: float | None
    held: bool


@dataclass(frozen=True, slots=True)
class RateSearch:
    """The highest rate whose p99 stays within the bound, and how it was found.

    `rate_per_s` is None where none was found, and `why` says why. `failed_per_s` is the lowest rate that did not hold:
    the true limit lies between the two; `resolved` says whether they are within RESOLUTION of each other.
    """

    rate_per_s: float | None
    failed_per_s: float
    latency_bound_s: float
    call_s: float
    probes: list[Probe]
    resolved: bool
    why: str | None = None


def run(call: Call, setting: Setting, clock: Clock | None = None) -> Turn:
    """Serve the queries that arrive within the slot at `rate_per_s`, at least one.

    Of more than MAX_SAMPLES queries every k-th is recorded, k being fixed beforehand. Raises InputError for batches
    other than 1, or without a rate.
    """
    if setting.batch != 1:
        raise InputError(f"scenario server sends one sample a query, not batches of {setting.batch}: --batch 1")
    if setting.rate_per_s is None or not 0 < setting.rate_per_s < math.inf:
        raise InputError(f"scenario server needs a rate above 0, got {setting.rate_per_s}: --server-qps")
    clock = clock or SystemClock()
    arrivals = arrivals_within(setting.rate_per_s, setting.slot_s, setting.seed)
    warmup = clocks.warm_up(call, setting.slot_s / 2, clock)
    started = clock.now_ns() + _LEAD_NS
    latencies = serve(call, arrivals, started, clock)
    ended = clock.now_ns()
    every = len(latencies) // clocks.MAX_SAMPLES + 1
    return Turn(
        clocks.seconds_from_ns(latencies[::every]),
        len(latencies),
        1,
        max((ended - started) * 1e-9, setting.slot_s),  # of a slow rate, the time behind the last answer counts too
        warmup.calls,
        clocks.overhead_s(clock),
    )


def find_rate(
    call: Call,
    latency_bound_s: float | None = None,
    budget_s: float = 120.0,
    seed: int = 0,
    clock: Clock | None = None,
) -> RateSearch:
    """Find the highest rate (queries/s) whose p99 latency stays within the bound.

    Bracket: at one query per single-stream median the queue has no steady state, which is the rate that fails; half of
    that is tried, and halved until it holds. Then bisect. A probe has the queries that p99 takes (662), or more
    where they would last less than 100 bounds; it is given up as soon as more than 1 % of them are over, and a rate
    fails when two of its probes do. The search ends early, unresolved, before a probe that `budget_s` seconds do not
    suffice for. It makes roughly 10,000 calls where the bound is ten of them.

    Raises InputError when the bound is not above 0.
    """
    if latency_bound_s is not None and not 0 < latency_bound_s < math.inf:
        raise InputError(f"the latency bound must be seconds above 0, got {latency_bound_s}")
    clock = clock or SystemClock()
    started = clock.now_ns()
    call_s = clocks.warm_up(call, _WARMUP_S, clock).call_s
    bound_s = latency_bound_s or max(DEFAULT_BOUND_IN_CALLS * call_s, LEAST_DEFAULT_BOUND_S)
    held, failed, probes = 0.0, 1 / call_s, list[Probe]()

    def result(why: str | None = None) -> RateSearch:
        resolved = 0 < failed <= held * RESOLUTION
        return RateSearch(held or None, failed, bound_s, call_s, probes, resolved, why)

    if bound_s < call_s:
        return result(f"one call takes {units.seconds(call_s)}, the latency bound is {units.seconds(bound_s)}")
    while failed > held * RESOLUTION:
        rate = (held + failed) / 2
        queries = max(MIN_SAMPLES[PERCENT], math.ceil(rate * bound_s * _MIN_BOUNDS))
        left_s = budget_s - (clock.now_ns() - started) * 1e-9
        if queries / rate > left_s:
            need = (
                f"{queries:,} queries at {rate:.3g}/s take {queries / rate:.3g} s, the search has {left_s:.3g} s left"
            )
            return result(need)
        for _ in range(_TRIES):
            probes.append(_try(call, rate, queries, bound_s, seed, clock))
            if probes[-1].held:
                break
        held, failed = (rate, failed) if probes[-1].held else (held, rate)
        if failed * 2**_MAX_HALVINGS < 1 / call_s:
            return result(f"p99 is above {bound_s:.3g} s at {failed:.3g} queries/s still")
    return result()


def _try(call: Call, rate_per_s: float, queries: int, bound_s: float, seed: int, clock: Clock) -> Probe:
    arrivals = poisson_arrivals_ns(rate_per_s, queries, seed)
    latencies = serve(call, arrivals, clock.now_ns() + _LEAD_NS, clock, bound_s)
    if len(latencies) < queries:
        return Probe(rate_per_s, len(latencies), None, held=False)
    p99_s = sorted(latencies)[rank(queries, PERCENT) - 1] * 1e-9
    return Probe(rate_per_s, queries, p99_s, held=p99_s <= bound_s)


def serve(
    call: Call, arrivals_ns: Sequence[int], started_ns: int, clock: Clock, bound_s: float = math.inf
) -> list[int]:
    """Serve every arrival in order; return the latencies in nanoseconds, from arrival to answer.

    Gives up, with fewer of them, once so many are above `bound_s` that p99 must be too.
    """
    now_ns, wait_until_ns = clock.now_ns, clock.wait_until_ns
    bound_ns = bound_s * 1e9
    may_be_over = len(arrivals_ns) - rank(len(arrivals_ns), PERCENT)
    latencies: list[int] = []
    for arrival in arrivals_ns:
        due = started_ns + arrival
        if now_ns() < due:
            wait_until_ns(due)
        call()
        latency = now_ns() - due
        latencies.append(latency)
        if latency > bound_ns:
            may_be_over -= 1
            if may_be_over < 0:
                break
    return latencies


def poisson_arrivals_ns(rate_per_s: float, count: int, seed: int) -> list[int]:
    """Return `count` arrival times of a Poisson process, in nanoseconds from its start."""
    gaps = random.Random(seed)
    times, now = [], 0.0
    for _ in range(count):
        now += gaps.expovariate(1.0)
        times.append(round(now / rate_per_s * 1e9))
    return times


def arrivals_within(rate_per_s: float, seconds: float, seed: int) -> list[int]:
    """Return the arrival times before `seconds`, in nanoseconds; the first one, where all would come later."""
    gaps = random.Random(seed)
    times: list[int] = []
    now = gaps.expovariate(1.0)
    while now < rate_per_s * seconds or not times:
        times.append(round(now / rate_per_s * 1e9))
        now += gaps.expovariate(1.0)
    return times
