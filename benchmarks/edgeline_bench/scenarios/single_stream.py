"""Single-stream: one query after another, each of one batch; the figure is the latency of a query."""

from __future__ import annotations

from edgeline_bench.clock import Clock, measure
from edgeline_bench.scenarios.turn import Call, Setting, Turn


def run(call: Call, setting: Setting, clock: Clock | None = None) -> Turn:
    """Call until the slot is over, at least once."""
    slot = measure(call, setting.slot_s, clock, setting.last_s)
    return Turn(slot.samples_s, slot.calls, setting.batch, slot.elapsed_s, slot.warmup_calls, slot.clock_overhead_s)
