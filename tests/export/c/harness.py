"""Generates C from a graph, compiles it with a runner, and runs it in a process of its own."""

import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeline_export.c.emit import sources
from edgeline_export.c.header import Heading
from edgeline_export.c.lower import lower
from edgeline_export.c.passes import prepared
from edgeline_export.c.pixels import pixels_for
from edgeline_export.c.read import network_from_onnx
from edgeline_export.c.targets import TARGETS, target_from_name
from edgeline_export.graph import clean_graph

RUNNER = Path(__file__).with_name("runner.c")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-DEDGELINE_UNROLL=")
# The flags with which the C format compiles its library (edgeline_export/c/toolchain.py).
OPTIMISED = ("-O3", "-ffp-contract=fast", "-fno-math-errno")


@dataclass(frozen=True)
class Built:
    """A compiled network: its program, and the executable that runs it."""

    program: object
    executable: Path
    emulator: tuple[str, ...] = ()

    def run(self, batch):
        """[n, ...] -> [n, ...], computed by the executable; fails the test when it crashes or returns a code."""
        return run_executable(self.program, [*self.emulator, self.executable], batch)

    def run_told(self, batch):
        """What run() returns, and what the executable says on stderr."""
        return run_executable_told(self.program, [*self.emulator, self.executable], batch)


def run_executable(program, command, batch, dtype=None):
    """Give an executable the batch, and return what it computes; `dtype` is another than that of the input."""
    return run_executable_told(program, command, batch, dtype)[0]


def run_executable_told(program, command, batch, dtype=None):
    """What run_executable() returns, and what the executable says on stderr."""
    n = len(batch) if program.free_batch else program.input.shape[0]
    out_bytes = program.output.bytes * (n if program.free_batch else 1)
    given = np.ascontiguousarray(batch, dtype or program.input.dtype).tobytes()
    done = subprocess.run(
        [*command, str(n), str(len(given)), str(out_bytes)], input=given, capture_output=True, check=False
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
    shape = (n, *program.output.shape[1:]) if program.free_batch else program.output.shape
    return np.frombuffer(done.stdout, program.output.dtype).reshape(shape), done.stderr.decode()


def compiler(name="gcc"):
    """The compiler's path; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return found


def sanitizers(cc):
    """The flags of a build that ends at the first undefined behaviour or wrong address; skips where cc has none."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.c"
        source.write_text("int main(void) { return 0; }\n")
        done = subprocess.run(
            [compiler(cc), *SANITIZERS, source, "-o", f"{folder}/empty"], capture_output=True, check=False
        )
    if done.returncode == 0:
        return SANITIZERS
    if cc == "clang":  # UndefinedBehaviour needs no library where it traps
        return ("-fsanitize=undefined", "-fsanitize-trap=all", "-g", "-DEDGELINE_UNROLL=")
    pytest.skip(f"{cc} has no sanitizers: apt-get install libasan8 libubsan1 (gcc)")


def runs_here(target):
    """Whether this CPU has what a target's first variant needs."""
    if target == "generic":
        return True
    if platform.machine() != "x86_64":
        return False
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return all(
        feature.replace("avx512vnni", "avx512_vnni") in flags for feature in TARGETS[target].variants[-1].features
    )


def program_of(model, target="generic", name="net"):
    return lower(prepared(network_from_onnx(clean_graph(model), name)), target_from_name(target))


def build(folder, model, target="generic", cc="gcc", flags=("-O1",), name="net", isa=None, preprocessing=None):
    """Generate, compile with all warnings as errors, and return what runs it.

    `isa`: the flags of another variant. `preprocessing`: that of infer_u8, which -DPIXELS among the flags calls.
    """
    chosen = target_from_name(target)
    program = program_of(model, target, name)
    pixels = pixels_for(program, preprocessing)
    for file, content in sources(program, chosen, Heading("0" * 64, "edgeline", "a test"), pixels).items():
        (folder / file).write_bytes(content)
    executable = folder / f"{name}-{cc}"
    definitions = [f'-DHEADER="{name}.h"', f"-DNAME(function)={name}_##function"]
    isa = chosen.variants[-1].flags if isa is None else isa
    done = subprocess.run(
        [compiler(cc), "-std=c99", *WARNINGS, *flags, *isa, *definitions, f"-I{folder}", RUNNER, folder / f"{name}.c",
         "-o", executable, "-lm", "-lpthread"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    return Built(program, executable)


def onnxruntime_outputs(model, batch):
    """What ONNX Runtime computes, without its own graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]
