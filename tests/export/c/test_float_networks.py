"""Whole float networks as C, against ONNX Runtime: each target that this CPU runs, gcc and clang."""

import functools
import subprocess

import numpy as np
import onnx
import pytest

from edgeline_export.c.emit import sources
from edgeline_export.c.header import Heading
from edgeline_export.c.passes import prepared
from edgeline_export.c.read import network_from_onnx
from edgeline_export.c.targets import target_from_name
from edgeline_export.graph import OPSET, clean_graph
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from tests.export.c.harness import OPTIMISED, build, compiler, onnxruntime_outputs, program_of, runs_here, sanitizers
from tests.export.c.suite import build_suite
from tests.export.networks import rich_graph, written_by_hand

TARGETS = ["generic", "x86-64-v3", "x86-64-v4"]
QUICK = [name for name in MODELS if name != "alexnet"]  # test_every_network.py has it
OWN = ["rich", "by_hand"]


@functools.cache
def graph_of(name):
    if name == "rich":
        return rich_graph()
    if name == "by_hand":
        return onnx.version_converter.convert_version(written_by_hand(), OPSET)
    model = MODELS[name]
    return graph_from_module(model.build().eval(), model.input_shape)


def check(name, built, n=11):
    """The network computes what ONNX Runtime computes, on more samples than a block has."""
    graph = graph_of(name)
    batch = np.random.default_rng(1).standard_normal((n, *built.program.input.shape[1:])).astype(np.float32)
    expected = onnxruntime_outputs(graph, batch)
    np.testing.assert_allclose(built.run(batch), expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.fixture(scope="module", params=["generic", "x86-64-v4"])
def suite(request, tmp_path_factory):
    """All of them, quickly compiled."""
    if not runs_here(request.param):
        pytest.skip(f"this CPU does not run {request.param}")
    programs = {
        name: program_of(graph_of(name), request.param, name) for name in [*QUICK, *OWN] if "alexnet" not in name
    }
    return build_suite(tmp_path_factory.mktemp("suite"), programs, request.param)


@pytest.mark.parametrize("name", [name for name in [*QUICK, *OWN] if "alexnet" not in name])
def test_network_equals_onnxruntime(suite, name):
    check(name, suite[name])


@pytest.mark.slow
@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*QUICK, *OWN])
def test_network_as_it_is_shipped(tmp_path, name, target, cc):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    check(name, build(tmp_path, graph_of(name), target, cc, OPTIMISED))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["-O0", "-O3"])
@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("target", TARGETS)
def test_no_wrong_address_and_no_undefined_behaviour(tmp_path, target, cc, level):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    name = "lenet"
    check(name, build(tmp_path, graph_of(name), target, cc, (*sanitizers(cc), level)))


@pytest.mark.parametrize(("target", "most"), [("generic", 1.5), ("x86-64", 4.5), ("x86-64-v3", 8.5), ("x86-64-v4", 15)])
def test_the_stack_is_what_the_guide_says(tmp_path, target, most):
    """docs/c.md gives these figures, in KB, for float networks."""
    chosen, graph = target_from_name(target), graph_of("lenet")
    for file, content in sources(program_of(graph, target), chosen, Heading("0" * 64, "edgeline", "a test")).items():
        (tmp_path / file).write_bytes(content)
    flags = (*OPTIMISED, *([] if target == "x86-64" else chosen.variants[-1].flags), "-fstack-usage")
    command = [compiler("gcc"), "-std=c99", *flags, "-c", "net.c", "-o", "net.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "unrecognized" in done.stderr or "unknown" in done.stderr:
        pytest.skip(f"gcc is for another CPU than {target}")
    assert done.returncode == 0, done.stderr[:2000]
    frames = [int(line.split("\t")[1]) for line in (tmp_path / "net.su").read_text().splitlines()]
    assert 100 < max(frames) <= 1024 * most


def operators(name):
    """What each operation of a network is, with what is merged into it."""
    network = prepared(network_from_onnx(clean_graph(graph_of(name)), name))
    return [" ".join(o.operator for o in (operation, *operation.fused)) for operation in network.operations]


# By hand: what of each network remains as a layer of its own.
LAYERS = {
    "lenet": [*["Conv Sigmoid AveragePool"] * 2, "Reshape", "Gemm Sigmoid", "Gemm Sigmoid", "Gemm"],
    # The maximum first: a quarter of the sigmoids.
    "lenet-maxpool": [*["Conv MaxPool Sigmoid"] * 2, "Reshape", "Gemm Sigmoid", "Gemm Sigmoid", "Gemm"],
    # 2/3 goes into the weights before, 1.7159 into those behind or into the coefficient.
    "lenet5": ["Conv Tanh AveragePool", "Affine Tanh", "Conv Tanh AveragePool", "Affine Tanh", "Conv Tanh", "Reshape",
               "Gemm Tanh", "Gemm"],
    "lenet5-c3-rbf": ["Conv Tanh AveragePool", "Affine Tanh", "Conv Tanh AveragePool", "Affine Tanh", "Conv Tanh",
                      "Reshape", "Gemm Tanh Scale", "Reshape", "Sub Square", "ReduceSum Scale"],
}  # fmt: skip


def test_what_is_between_convolutions_keeps_their_layout():
    """The residual and the activations copy nothing: but for the input's padding, Concat alone moves numbers."""
    kernels = [step.kernel for step in program_of(graph_of("rich")).steps]
    assert kernels == [
        "copy_f32", "conv2d_f32", "conv2d_f32", "elementwise_f32", "depthwise_f32", "copy_f32", "copy_f32", "pool_f32",
        "conv2d_f32", "conv2d_f32", "pool_f32", "gemm_f32", "axis_f32",
    ]  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_merged(name):
    assert operators(name) == LAYERS[name]
