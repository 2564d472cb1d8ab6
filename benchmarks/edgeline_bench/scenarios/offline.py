"""Offline: all samples are at hand, and batches are run back to back; the figure is the throughput.

The loop is single-stream's, because one caller that never waits is both; what differs is the batch size that one gives
it, and that the throughput is told and no latency. Calls are not overlapped: a session that runs several at once, or a
GPU that copies while it computes, can do better than this.
"""

from __future__ import annotations

from edgeline_bench.clock import Clock
from edgeline_bench.scenarios import single_stream
from edgeline_bench.scenarios.turn import Call, Setting, Turn


def run(call: Call, setting: Setting, clock: Clock | None = None) -> Turn:
    """Call until the slot is over, at least once; a sample is the time of one batch."""
    return single_stream.run(call, setting, clock)
