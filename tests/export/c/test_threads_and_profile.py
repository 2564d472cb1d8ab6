"""The special builds of a library: with threads for large layers, and with the time of each layer."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeline_export.c.lower import conv_parts, convolution, matrix, winograd
from edgeline_export.torch_source import graph_from_module
from tests.export.c.harness import OPTIMISED, build, onnxruntime_outputs, program_of

SHAPE = (3, 20, 20)


def network():
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(24, 70, 3, padding=1), nn.Sigmoid(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(70 * 25, 300), nn.Tanh(), nn.Linear(300, 10),
    ).eval()  # fmt: skip


@pytest.fixture
def every_layer_is_large(monkeypatch):
    for module in (conv_parts, convolution, matrix, winograd):
        monkeypatch.setattr(module, "PARALLEL_MACS", 1)


@pytest.mark.parametrize(
    ("cc", "sanitizer"),
    [("gcc", ()), ("clang", ()), pytest.param("gcc", ("-fsanitize=thread", "-g"), marks=pytest.mark.slow)],
)
def test_threads_give_the_same_bits(tmp_path, every_layer_is_large, cc, sanitizer):
    graph = graph_from_module(network(), SHAPE)
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    flags = (*OPTIMISED, *sanitizer)
    alone = build(tmp_path / "one", graph, "x86-64-v3", cc, flags)
    threads = build(tmp_path / "three", graph, "x86-64-v3", cc, (*flags, "-DEDGELINE_THREADS"))
    assert sum(step.parallel for step in threads.program.steps) == 4
    batch = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
    one = alone.run(batch)
    np.testing.assert_array_equal(threads.run(batch), one)
    np.testing.assert_allclose(one, onnxruntime_outputs(graph, batch), rtol=0, atol=1e-5)


def test_small_layers_have_no_threads():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
    program = program_of(graph_from_module(module, (1, 4, 4)), "x86-64-v3")
    assert not any(step.parallel for step in program.steps)


def test_profile_times_every_layer_and_names_every_node(tmp_path):
    graph = graph_from_module(network(), SHAPE)
    built = build(tmp_path, graph, "x86-64-v3", "gcc", (*OPTIMISED, "-DEDGELINE_PROFILE"))
    batch = np.random.default_rng(0).standard_normal((40, *SHAPE)).astype(np.float32)
    outputs, told = built.run_told(batch)
    np.testing.assert_allclose(outputs, onnxruntime_outputs(graph, batch), rtol=0, atol=1e-5)
    # A line a layer; the names of its nodes follow, each on a line of its own.
    layers = [line.split("|") for line in told.splitlines() if "|" in line]
    assert len(layers) == len(built.program.steps)
    assert all(float(seconds) > 0 for seconds, _, _ in layers)
    named = set(told.replace("|", "\n").splitlines())
    reshapes = {node.name for node in graph.graph.node if node.op_type in ("Reshape", "Flatten")}
    assert {node.name for node in graph.graph.node} - reshapes <= named
