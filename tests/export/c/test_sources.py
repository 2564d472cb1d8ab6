"""What holds for the generated text: the same bytes anywhere, C99 alone where it is asked for, every weight in use."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeline_export.c.emit import sources
from edgeline_export.c.header import Heading
from edgeline_export.c.targets import TARGETS
from edgeline_export.graph import OPSET
from tests.export.c.harness import build, compiler, program_of
from tests.export.c.suite import build_suite
from tests.export.networks import rich_graph, written_by_hand

HEADING = Heading("0" * 64, "edgeline", "a test")
GRAPHS = {
    "rich": rich_graph,
    "by_hand": lambda: onnx.version_converter.convert_version(written_by_hand(), OPSET),
}


@pytest.fixture(scope="module", params=["rich", pytest.param("by_hand", marks=pytest.mark.slow)])
def graph(request):
    return GRAPHS[request.param]()


# Run by a process of its own: prints the hash of what each target's text is.
_PRINT = """
import hashlib, sys, onnx
from edgeline_export.c.emit import sources
from edgeline_export.c.header import Heading
from edgeline_export.c.targets import TARGETS
from tests.export.c.harness import program_of
model = onnx.load(sys.argv[1])
for target in TARGETS.values():
    files = sources(program_of(model, target.name), target, Heading("0" * 64, "edgeline", "a test"))
    print(target.name, hashlib.sha256("".join(f"{k}{v}" for k, v in files.items()).encode()).hexdigest())
"""


def test_two_processes_write_the_same_bytes(graph, tmp_path):
    onnx.save(graph, tmp_path / "graph.onnx")
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), *sys.path])
    printed = [
        subprocess.run(
            [sys.executable, "-c", _PRINT, tmp_path / "graph.onnx"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    assert printed[0].count("\n") == len(TARGETS)
    own = sources(program_of(graph), TARGETS["generic"], HEADING)
    assert hashlib.sha256("".join(f"{k}{v}" for k, v in own.items()).encode()).hexdigest() in printed[0]


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("target", ["generic", "x86-64"])
def test_it_is_c99_alone(graph, tmp_path, target, cc):
    """Without GNU's extensions; a target with vectors too, once -DEDGELINE_SCALAR asks for none."""
    chosen = TARGETS[target]
    for file, content in sources(program_of(graph, target), chosen, HEADING).items():
        (tmp_path / file).write_bytes(content)
    scalar = [] if target == "generic" else ["-DEDGELINE_SCALAR"]
    warnings = ["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    done = subprocess.run(
        [compiler(cc), "-std=c99", *warnings, *scalar, "-O1", "-c", tmp_path / "net.c", "-o", tmp_path / "net.o"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:3000]


def test_it_asks_for_no_memory_and_writes_no_globals(graph, tmp_path):
    built = build(tmp_path, graph)
    subprocess.run([compiler("gcc"), "-std=c99", "-O1", "-c", "net.c", "-o", "net.o"], cwd=tmp_path, check=True)
    symbols = subprocess.run(["nm", tmp_path / "net.o"], capture_output=True, text=True, check=True).stdout.split("\n")
    kinds = {line.split()[-2]: line.split()[-1] for line in symbols if line}
    assert not {"B", "b", "D", "d", "C"} & set(kinds), kinds  # data that can be written
    wanted = {line.split()[-1] for line in symbols if " U " in line}
    assert wanted <= {"memset", "memcpy", "sqrtf", "expf", "powf", "_GLOBAL_OFFSET_TABLE_"}
    assert built.program.arena_bytes % 64 == 0


def changed(model, name):
    """A copy in which one number of an initializer is another: the largest, so that it is seen behind a Relu too."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    tensor = next(tensor for tensor in other.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    place = int(np.abs(values).argmax())
    values.reshape(-1)[place] = values.reshape(-1)[place] * 1.5 + 0.25
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return other


def test_every_weight_counts(graph, tmp_path):
    """One number of each parameter is changed: what comes out changes."""
    names = [tensor.name for tensor in graph.graph.initializer
             if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims]  # fmt: skip
    assert len(names) >= 10
    programs = {"net": program_of(graph, name="net")}
    programs |= {f"net{i}": program_of(changed(graph, name), name=f"net{i}") for i, name in enumerate(names)}
    built = build_suite(tmp_path, programs, flags=("-O0",))
    batch = 2 * np.random.default_rng(3).standard_normal((4, *programs["net"].input.shape[1:])).astype(np.float32)
    before = built["net"].run(batch)
    same = [name for i, name in enumerate(names) if np.array_equal(built[f"net{i}"].run(batch), before)]
    assert same == []
