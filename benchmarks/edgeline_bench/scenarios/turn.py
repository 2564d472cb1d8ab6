"""What a scenario is told and what it returns: one turn of an engine, on either side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """What one turn is given.

    `batch`: samples of one call. `slot_s`: seconds of measuring. `seed`: of the arrivals; the round's number, so that
    the same arrivals meet every engine, and other ones in every round. `rate_per_s`: queries a second, for server only.
    `last_s`: what a query took in the engine's turn before (see edgeline_bench.clock.measure).
    """

    batch: int
    slot_s: float
    seed: int = 0
    rate_per_s: float | None = None
    last_s: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What was measured in one turn.

    `samples_s`: the latency of each recorded query. `queries`: all queries that were answered. `elapsed_s`: from the
    first query's start (server: arrival) to the last one's end. `clock_overhead_s`: see edgeline_bench.clock.
    """

    samples_s: list[float]
    queries: int
    samples_per_query: int
    elapsed_s: float
    warmup_calls: int
    clock_overhead_s: float

    @property
    def throughput_per_s(self) -> float:
        """Samples, not queries, per second."""
        return self.queries * self.samples_per_query / self.elapsed_s
