"""Multi-stream: queries of eight samples, one after another; the figure is the latency of a query.

Eight is MLPerf Inference's number. An engine that takes batches of eight answers a query with one call, a smaller one
with several: the query is answered when the last of them is.
"""

from __future__ import annotations

from edgeline.errors import InputError
from edgeline_bench.clock import Clock, measure
from edgeline_bench.scenarios.turn import Call, Setting, Turn

SAMPLES_PER_QUERY = 8
BATCHES = (1, 2, 4, 8)


def run(call: Call, setting: Setting, clock: Clock | None = None) -> Turn:
    """Answer queries until the slot is over, at least one. Raises InputError where 8 is no multiple of the batch."""
    if setting.batch not in BATCHES:
        raise InputError(f"a query of {SAMPLES_PER_QUERY} samples cannot be made of batches of {setting.batch}")
    calls = SAMPLES_PER_QUERY // setting.batch

    def query() -> None:
        for _ in range(calls):
            call()

    slot = measure(call if calls == 1 else query, setting.slot_s, clock, setting.last_s)
    return Turn(
        slot.samples_s,
        slot.calls,
        SAMPLES_PER_QUERY,
        slot.elapsed_s,
        slot.warmup_calls * calls,
        slot.clock_overhead_s,
    )
