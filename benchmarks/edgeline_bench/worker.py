"""A worker: a process that hosts one engine at one batch size, and measures it when told to.

Started by edgeline_bench.worker_handle as `python -m edgeline_bench.worker`, with the spec as JSON in its argument.
It speaks JSON, a line each: first `{"ready": ...}`, then an answer to each order on stdin. It imports nothing but the
standard library before it is pinned, so that a pool of threads which a package starts on import is pinned too; and what
it reports as import time runs from the start of the process until the engine's packages, numpy among them, are there.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from edgeline_bench import clock, energy, nvml, procfs
from edgeline_bench.slowdown import slowed

if TYPE_CHECKING:
    from edgeline_bench.engines import Call, Engine

_PR_SET_PDEATHSIG = 1
_ANSWERS_AT_ONCE = 64


def main() -> int:
    """Host the engine until stdin closes."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    answers = _claim_stdout()
    _die_with_parent()
    if spec["pinned"]:
        os.sched_setaffinity(0, spec["pinned"])
    try:
        host, ready = _start(spec)
        _say(answers, {"ready": ready})
        for line in sys.stdin:
            order = json.loads(line)
            _say(answers, _ORDERS[order.pop("do")](host, **order))
    except Exception as error:  # noqa: BLE001 - the parent raises it again, as what it is
        _say(answers, {"error": str(error) or type(error).__name__, "kind": _kind(error)})
        return 1
    return 0


@dataclasses.dataclass(slots=True)
class _Host:
    """The engine, ready; `call` runs its batch once. `last_s`: what a query took in the turn before."""

    spec: dict[str, Any]
    engine: Engine
    call: Call
    meter: energy.Meter | None
    last_s: float | None = None


def _turn(host: _Host, slot_s: float, seed: int, rate_per_s: float | None) -> dict[str, Any]:
    """Measure the engine for one turn of its scenario."""
    from edgeline_bench import scenarios

    setting = scenarios.Setting(host.spec["batch"], slot_s, seed, rate_per_s, host.last_s)
    before = host.meter.read_j() if host.meter else None
    turn = scenarios.scenario_from_name(host.spec["scenario"]).run(host.call, setting, None)
    used_j = host.meter.used_j(before, host.meter.read_j()) if host.meter else None
    host.last_s = statistics.median(turn.samples_s)
    calls = turn.queries * turn.samples_per_query / host.spec["batch"] + turn.warmup_calls
    memory = procfs.memory_of()
    return {
        **dataclasses.asdict(turn),
        "joules_per_call": None if used_j is None else used_j / calls,
        "memory_bytes": memory
        and {"peak": memory.peak, "anonymous": memory.anonymous, "file_backed": memory.file_backed},
    }


def _search(host: _Host, latency_bound_s: float | None, budget_s: float) -> dict[str, Any]:
    """Find the highest rate of queries that the engine serves within the bound."""
    from edgeline_bench.scenarios.server import find_rate

    return dataclasses.asdict(find_rate(host.call, latency_bound_s, budget_s))


def _profile(host: _Host, seconds: float) -> dict[str, Any]:
    """Take the time of each layer, or say why it cannot be told."""
    try:
        return {"record": host.engine.profile(seconds).to_record(), "why": None}
    except Exception as error:  # noqa: BLE001 - a profiler's fault must not take the rounds' times along
        return {"record": None, "why": f"{type(error).__name__}: {error}"}


def _stages(host: _Host, seconds: float) -> dict[str, Any]:
    """Time enqueue, compute and end to end apart, on a GPU."""
    return host.engine.stages(seconds)


def _loadgen(host: _Host, request: dict[str, Any]) -> dict[str, Any]:
    """Let MLPerf's LoadGen drive the engine."""
    from edgeline_bench.scenarios.library import samples_from_artefact
    from edgeline_bench.scenarios.loadgen import Request, run_loadgen

    samples = samples_from_artefact(Path(host.spec["folder"]))
    wanted = Request(**{**request, "log": Path(request["log"])})
    return run_loadgen(host.engine.infer, samples, wanted)


def _answers(host: _Host, count: int, out: str) -> dict[str, Any]:
    """Run the first `count` samples of the test split, and save the float32 logits as a .npy file."""
    import numpy as np

    from edgeline_bench.scenarios.library import samples_from_artefact

    samples = samples_from_artefact(Path(host.spec["folder"]), count)
    step = max(_ANSWERS_AT_ONCE, host.spec["batch"])  # eager holds all activations of what it is given
    found = [host.engine.infer(samples[start : start + step]) for start in range(0, len(samples), step)]
    np.save(out, np.concatenate(found))
    return {}


_ORDERS: dict[str, Callable[..., dict[str, Any]]] = {
    "turn": _turn,
    "search": _search,
    "profile": _profile,
    "stages": _stages,
    "loadgen": _loadgen,
    "answers": _answers,
}


def _kind(error: Exception) -> str:
    """Return the class of edgeline.errors that says best what went wrong."""
    from edgeline.errors import EdgelineError

    if isinstance(error, EdgelineError):
        return type(error).__name__
    if isinstance(error, ImportError):
        return "MissingCapabilityError"
    return "ResourceError" if isinstance(error, OSError | MemoryError) else "EdgelineError"


def _start(spec: dict[str, Any]) -> tuple[_Host, dict[str, Any]]:
    """Bring the engine up stage by stage; return it and what each stage took."""
    from edgeline_bench.engines import engine_from_spec

    engine = engine_from_spec(spec)
    engine.import_packages()
    imported, memory_imported = time.monotonic(), procfs.memory_of()
    engine.load()
    loaded, memory_loaded = time.monotonic(), procfs.memory_of()
    call = engine.prepare()
    prepared = time.monotonic()
    output = call()
    first, memory_first = time.monotonic(), procfs.memory_of()
    engine.check(output)
    if spec["slowdown"]:
        call = slowed(call, spec["slowdown"])
    start_s = {"import": imported - spec["spawned_at"], "load": loaded - imported, "first": first - prepared}
    stages = {"import": memory_imported, "load": memory_loaded, "first": memory_first}
    meter = energy.meter_for(spec["device"])
    ready = {
        "cold_start_s": {**start_s, "total": sum(start_s.values())},
        "memory_bytes": {
            **{stage: memory and memory.resident for stage, memory in stages.items()},
            "stages": {stage: memory and dataclasses.asdict(memory) for stage, memory in stages.items()},
            "engine": engine.own_memory(),
            "device": nvml.process_memory_bytes(os.getpid()) if spec["device"] == "cuda" else None,
        },
        "meter": meter and meter.source,
        "clock_overhead_s": clock.overhead_s(),
    }
    return _Host(spec, engine, call, meter), ready


def _claim_stdout() -> TextIO:
    """Keep stdout for answers: what an engine prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, record: dict[str, Any]) -> None:
    answers.write(json.dumps(record) + "\n")
    answers.flush()


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies: a stopped worker would not notice by itself."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    raise SystemExit(main())
