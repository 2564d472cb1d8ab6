"""The scenarios: how queries come to an engine, after MLPerf Inference. One module each, in a literal table.

Adding a scenario: its module here, its line in SCENARIOS, its test. They run inside the worker, beside the engine, and
import nothing but the standard library. `loadgen` is not one of them: it hands the same four to MLCommons' LoadGen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeline.errors import InputError, UnknownNameError
from edgeline_bench.clock import Clock
from edgeline_bench.scenarios import multi_stream, offline, server, single_stream
from edgeline_bench.scenarios.turn import Call, Setting, Turn

__all__ = ["SCENARIOS", "Call", "Scenario", "Setting", "Turn", "check_batch", "scenario_from_name"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table.

    `run` gives an engine one turn. `percent` is the percentile of the latency that MLPerf judges it by, None where that
    is the throughput. `batches` are the batch sizes that a query can be made of, None where all are.
    """

    run: Callable[[Call, Setting, Clock | None], Turn]
    percent: float | None
    batches: tuple[int, ...] | None = None


SCENARIOS = {
    "single-stream": Scenario(single_stream.run, percent=90),
    "multi-stream": Scenario(multi_stream.run, percent=99, batches=multi_stream.BATCHES),
    "server": Scenario(server.run, percent=99, batches=(1,)),
    "offline": Scenario(offline.run, percent=None),
}


def scenario_from_name(name: str) -> Scenario:
    """Return a row of SCENARIOS. Raises UnknownNameError."""
    if name not in SCENARIOS:
        raise UnknownNameError("scenario", name, SCENARIOS)
    return SCENARIOS[name]


def check_batch(name: str, batch: int) -> None:
    """Raise InputError where queries of the scenario cannot be made of calls with `batch` samples each."""
    batches = scenario_from_name(name).batches
    if batches is not None and batch not in batches:
        fitting = ",".join(map(str, batches))
        raise InputError(
            f"scenario {name} takes batches of {fitting.replace(',', ', ')}, not {batch}: --batch {fitting}"
        )
