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
import sys
import time
from typing import Any, TextIO

from edgeline_bench import clock, energy, nvml, procfs
from edgeline_bench.slowdown import slowed

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Host the engine until stdin closes."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    answers = _claim_stdout()
    _die_with_parent()
    if spec["pinned"]:
        os.sched_setaffinity(0, spec["pinned"])
    try:
        call, ready = _start(spec)
        _say(answers, {"ready": ready})
        meter = energy.meter_for(spec["device"])
        for line in sys.stdin:
            _say(answers, _turn(call, json.loads(line), meter))
    except Exception as error:  # noqa: BLE001 - the parent raises it again, as what it is
        _say(answers, {"error": str(error) or type(error).__name__, "kind": _kind(error)})
        return 1
    return 0


def _turn(call: Any, order: dict[str, Any], meter: energy.Meter | None) -> dict[str, Any]:
    """Measure the engine for one turn."""
    before = meter.read_j() if meter else None
    slot = clock.measure(call, order["slot_s"])
    used_j = meter.used_j(before, meter.read_j()) if meter else None
    memory = procfs.memory_of()
    return {
        "samples_s": slot.samples_s,
        "calls": slot.calls,
        "elapsed_s": slot.elapsed_s,
        "joules_per_call": None if used_j is None else used_j / (slot.calls + slot.warmup_calls),
        "meter": meter and meter.source,
        "memory_bytes": memory
        and {"peak": memory.peak, "anonymous": memory.anonymous, "file_backed": memory.file_backed},
    }


def _kind(error: Exception) -> str:
    """Return the class of edgeline.errors that says best what went wrong."""
    from edgeline.errors import EdgelineError

    if isinstance(error, EdgelineError):
        return type(error).__name__
    if isinstance(error, ImportError):
        return "MissingCapabilityError"
    return "ResourceError" if isinstance(error, OSError | MemoryError) else "EdgelineError"


def _start(spec: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Bring the engine up stage by stage; return its call and what each stage took."""
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
    stages = {"import": memory_imported, "load": memory_loaded, "first": memory_first}
    if spec["slowdown"]:
        call = slowed(call, spec["slowdown"])
    return call, {
        "cold_start_s": {
            "import": imported - spec["spawned_at"],
            "load": loaded - imported,
            "first": first - prepared,
            "total": imported - spec["spawned_at"] + loaded - imported + first - prepared,
        },
        "memory_bytes": {
            **{stage: memory and memory.resident for stage, memory in stages.items()},
            "stages": {stage: memory and dataclasses.asdict(memory) for stage, memory in stages.items()},
            "device": nvml.process_memory_bytes(os.getpid()) if spec["device"] == "cuda" else None,
        },
        "clock_overhead_s": clock.overhead_s(),
    }


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
