"""Winograd's filtering: its matrices against a plain filter, its layers against ONNX Runtime, and when it is chosen."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeline_export.c.lower.winograd import TERMS, matrices
from edgeline_export.torch_source import graph_from_module
from tests.export.c.harness import OPTIMISED, build, onnxruntime_outputs, program_of
from tests.export.c.test_float_networks import runs_here

KERNEL = "conv2d_winograd_f32"


def kernels_of(module, shape, target="x86-64-v3"):
    torch.manual_seed(0)
    return [step.kernel for step in program_of(graph_from_module(module.eval(), shape), target).steps]


@pytest.mark.parametrize("outputs", [2, 4])
def test_products_give_the_filter(outputs):
    of_input, of_filter, of_products = matrices(outputs)
    taps = TERMS + 1 - outputs
    random = np.random.default_rng(outputs)
    signal, kernel = random.standard_normal(TERMS), random.standard_normal(taps)
    found = of_products @ ((of_filter @ kernel) * (of_input @ signal))
    np.testing.assert_allclose(found, np.correlate(signal, kernel, "valid"), rtol=0, atol=1e-13)


LAYERS = {
    "3 taps, channels last, no pooling": (
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 40, 3, padding=1), nn.Tanh()),
        (1, 12, 12),
    ),
    "3 taps, two pooling windows in four rows": (
        nn.Sequential(nn.Conv2d(9, 17, 3), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(17 * 36, 3)),
        (9, 14, 14),
    ),
    "5 taps, planar input, pooling": (
        nn.Sequential(nn.Conv2d(5, 21, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(21, 8, 3, padding=1)),
        (5, 12, 16),
    ),
    "5 taps, more channels than a tile": (nn.Sequential(nn.Conv2d(8, 100, 5, padding=2)), (8, 6, 7)),
}


@pytest.mark.parametrize(
    ("target", "cc"),
    [
        ("x86-64-v4", "gcc"),
        *(
            pytest.param(*other, marks=pytest.mark.slow)
            for other in [("x86-64-v3", "gcc"), ("x86-64-v3", "clang"), ("x86-64-v4", "clang")]
        ),
    ],
)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_onnxruntime(tmp_path, name, target, cc):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    module, shape = LAYERS[name]
    torch.manual_seed(1)
    graph = graph_from_module(module.eval(), shape)
    built = build(tmp_path, graph, target, cc, OPTIMISED)
    assert KERNEL in [step.kernel for step in built.program.steps]
    batch = np.random.default_rng(2).standard_normal((3, *shape)).astype(np.float32)
    np.testing.assert_allclose(built.run(batch), onnxruntime_outputs(graph, batch), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("module", "shape", "why"),
    [
        (nn.Conv2d(8, 16, 3, stride=2), (8, 13, 13), "a stride"),
        (nn.Conv2d(8, 16, 3, dilation=2), (8, 16, 16), "a dilation"),
        (nn.Conv2d(8, 16, 3, groups=2), (8, 14, 14), "groups"),
        (nn.Conv2d(8, 16, 3), (8, 13, 13), "11 rows are no multiple of 4"),
        (nn.Conv2d(8, 16, 7), (8, 14, 14), "7 taps"),
        (nn.Conv2d(2, 16, 3, padding=1), (2, 12, 12), "too few taps in a row"),
    ],
)
def test_other_layers_are_direct(module, shape, why):
    assert KERNEL not in kernels_of(nn.Sequential(module), shape), why


def test_generic_target_keeps_the_smaller_weights():
    module, shape = LAYERS["5 taps, more channels than a tile"]
    assert KERNEL in kernels_of(module, shape)
    assert KERNEL not in kernels_of(module, shape, "generic")
