"""The special builds of a library: with threads for large layers or many samples, and with the time of each layer."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeline_export.c.lower import conv_parts, convolution, matrix, memory, winograd
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
    for module in (conv_parts, convolution, matrix, memory, winograd):
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


@pytest.mark.parametrize(
    ("cc", "sanitizer"),
    [("gcc", ()), pytest.param("gcc", ("-fsanitize=thread", "-g"), marks=pytest.mark.slow)],
)
def test_threads_share_samples(tmp_path, monkeypatch, cc, sanitizer):
    """Three threads take samples in turn, of two calls at once, which give the same bits (runner.c)."""
    small = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(800, 30), nn.Tanh(),
        nn.Linear(30, 10),
    ).eval()  # fmt: skip
    graph = graph_from_module(small, SHAPE)
    macs = sum(step.macs for step in program_of(graph, "x86-64-v3").steps)
    monkeypatch.setattr(memory, "PARALLEL_MACS", 2 * macs + 1)
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    flags = (*OPTIMISED, *sanitizer)
    alone = build(tmp_path / "one", graph, "x86-64-v3", cc, flags)
    threads = build(tmp_path / "three", graph, "x86-64-v3", cc, (*flags, "-DEDGELINE_THREADS"))
    assert threads.program.shared_samples == 3
    for samples in (1, 2, 3, 5, 8, 9, 25, 64, 100):
        batch = np.random.default_rng(samples).standard_normal((samples, *SHAPE)).astype(np.float32)
        # The matrix kernel adds in another order where fewer samples are in a block.
        np.testing.assert_allclose(threads.run(batch), alone.run(batch), rtol=0, atol=1e-6)
        np.testing.assert_allclose(threads.run(batch), onnxruntime_outputs(graph, batch), rtol=0, atol=1e-5)


def test_what_threads_share():
    """Large layers where there are any, else samples, but for what has one sample or no work."""

    def shared(module, shape, target="x86-64-v3"):
        program = program_of(graph_from_module(module.eval(), shape), target)
        return program.shared_samples, sum(step.parallel for step in program.steps)

    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))  # 176 multiply-accumulates
    assert shared(conv, (1, 4, 4)) == (11916, 0)
    assert shared(nn.Linear(3000, 1000), (3000,)) == (0, 1)
    assert shared(nn.Linear(1400, 1400), (1400,)) == (2, 0)
    assert shared(nn.ReLU(), (5,)) == (0, 0)
    assert shared(conv, (1, 4, 4), "cortex-m4") == (0, 0)


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
