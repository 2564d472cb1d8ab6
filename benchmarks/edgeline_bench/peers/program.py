"""The C format without Python: its function against the machine's floor, and its program from start to logits."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.errors import EdgelineError, MissingCapabilityError
from edgeline_bench.c_compiler import compile_c
from edgeline_bench.inputs import batch_from_selftest, check_output
from edgeline_bench.layers.graph import read_graph
from edgeline_bench.layers.roof import speed_of_light
from edgeline_bench.native_clock import NativeClock
from edgeline_bench.points import Point
from edgeline_bench.roofline.ceilings import stability_reasons
from edgeline_bench.roofline.measure import measure_ceilings, remeasure
from edgeline_bench.worker_handle import WorkerHandle
from edgeline_export.c.compiler import find_compiler

_PROCESS_CLOCK = Path(__file__).parents[1] / "process_clock.c"
_FLAGS = ("-O3", "-std=c99")


@dataclass(frozen=True, slots=True)
class Floor:
    """The C function's medians, a round each, and the warm floor: the least time that the measured ceilings allow."""

    round_medians_s: tuple[float, ...]
    warm_s: float
    cold_s: float
    flops_per_s: float
    remarks: tuple[str, ...]

    @property
    def median_s(self) -> float:
        """The median of the rounds' medians."""
        return statistics.median(self.round_medians_s)

    @property
    def ratio(self) -> float:
        """How many times the floor the function takes."""
        return self.median_s / self.warm_s

    def to_record(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**asdict(self), "median_s": self.median_s, "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class Start:
    """An engine's way from the start of its process to first logits, a figure a start, and its peak memory then."""

    engine: str
    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def median_s(self) -> float:
        """The median start."""
        return statistics.median(self.seconds)


def measure_floor(artefact: Artefact, rounds: int, slot_s: float, core: int) -> Floor:
    """Time the library's function at batch 1 on one core, between two measurements of the machine's ceilings.

    Raises MissingCapabilityError where the artefact has no library, and what NativeClock and the probe raise.
    """
    library = library_of(artefact)
    batch = batch_from_selftest(artefact.folder, 1)
    tail = artefact.manifest.outputs[0].shape[1:]
    with _on_core(core):
        ceilings = measure_ceilings(1, (core,))
        with NativeClock(library, library.stem.removeprefix("lib"), batch, tail) as clock:
            check_output(artefact.folder, clock.first_output)
            medians = [statistics.median(clock.measure(slot_s).samples_s) for _ in range(rounds)]
        again = remeasure(ceilings)
    remarks = stability_reasons(ceilings.figures(), again)
    ceilings = ceilings.after(again)
    precision = artefact.manifest.precision
    light = speed_of_light(read_graph(onnx.load(artefact.file(GRAPH_FILE)), 1), precision, 1, ceilings)
    return Floor(tuple(medians), light.warm_s, light.cold_s, ceilings.peak(precision, 1), tuple(remarks))


def library_of(artefact: Artefact) -> Path:
    """Return the shared library of an artefact. Raises MissingCapabilityError where it has none."""
    found = sorted(artefact.folder.glob("lib*.so"))
    if len(found) != 1:
        raise MissingCapabilityError(f"{artefact.name} holds no shared library: --format c, with a C compiler")
    return found[0]


def program_start(artefact: Artefact, runs: int, core: int) -> Start:
    """Compile the artefact's main.c with its network, as its user would, and time the process `runs` times.

    The program classifies the self-test's 16 images before it ends, so that its time is an upper bound of the first
    logits'. Raises MissingCapabilityError where there is no main.c or no compiler, EdgelineError when it fails.
    """
    main = artefact.folder / "main.c"
    if not main.is_file():
        raise MissingCapabilityError(f"{artefact.name} holds no main.c: --format c")
    sources = ["main.c", *(f"{path.stem}.c" for path in sorted(artefact.folder.glob("*.h")))]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        command = [*find_compiler().command, *_FLAGS, *sources, "-o", str(program), "-lm"]
        made = subprocess.run(command, cwd=artefact.folder, capture_output=True, text=True)
        if made.returncode != 0:
            words = (made.stderr.strip().splitlines() or ["no word"])[0]
            raise EdgelineError(f"{artefact.name}: main.c does not compile: {words}")
        clock = compile_c(_PROCESS_CLOCK, ("-O2", "-std=c11"))
        with _on_core(core):
            done = subprocess.run(
                [clock, str(runs), program], cwd=artefact.folder, capture_output=True, text=True, check=False
            )
    found = json.loads(done.stdout)
    if "error" in found:
        raise EdgelineError(f"the program of {artefact.name}: {found['error']}")
    return Start("C program", tuple(found["seconds"]), found["peak_bytes"])


def engine_start(point: Point, runs: int) -> Start:
    """Start an engine's process `runs` times until it has its first logits. Raises what the engine raises."""
    seconds, peak = [], 0
    for _ in range(runs):
        with WorkerHandle(point) as worker:
            seconds.append(worker.ready["cold_start_s"]["total"])
            first = worker.ready["memory_bytes"]["stages"]["first"]
            peak = max(peak, first["peak"] if first else 0)
    return Start(point.engine, tuple(seconds), peak)


@contextlib.contextmanager
def _on_core(core: int) -> Iterator[None]:
    """Pin this process for a while; children that it starts meanwhile stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
