"""Conv with the pixels of a row in the lanes: paddings, widths, strides and poolings, against ONNX Runtime."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeline_export.torch_source import graph_from_module
from tests.export.c.harness import OPTIMISED, build, onnxruntime_outputs
from tests.export.c.test_float_networks import runs_here

KERNEL = "conv2d_planar_f32"


def network(channels, kernel, padding, stride, pool):
    """A layer with few channels, and one behind it that reads its rows."""
    torch.manual_seed(kernel + padding)
    first = [nn.Conv2d(channels, 3, kernel, stride, padding), nn.Sigmoid(), *([pool] if pool else [])]
    return nn.Sequential(*first, nn.Conv2d(3, 20, 2), nn.Flatten(), nn.LazyLinear(4)).eval()


@pytest.mark.parametrize(
    ("target", "cc"),
    [
        pytest.param("generic", "gcc", marks=pytest.mark.slow),
        ("x86-64-v3", "clang"),
        pytest.param("x86-64-v4", "gcc", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("channels", "kernel", "padding", "stride", "width", "pool"),
    [
        (1, 5, 2, 1, 28, nn.AvgPool2d(2)),  # LeNet's
        (2, 4, 1, 1, 19, nn.MaxPool2d(2)),  # an odd padding, an odd width
        (1, 3, 3, 1, 41, nn.AvgPool2d(2)),  # more than one vector of columns, padding as wide as the filter
        (3, 3, 0, 2, 37, None),  # two phases without a pooling
        (1, 5, 1, 1, 33, nn.MaxPool2d(3)),  # three phases
    ],
)
def test_layer_equals_onnxruntime(tmp_path, target, cc, channels, kernel, padding, stride, width, pool):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    module, shape = network(channels, kernel, padding, stride, pool), (channels, width - 3, width)
    batch = np.random.default_rng(width).standard_normal((2, *shape)).astype(np.float32)
    with torch.no_grad():
        module(torch.from_numpy(batch))  # LazyLinear takes its size
    graph = graph_from_module(module, shape)
    built = build(tmp_path, graph, target, cc, OPTIMISED)
    assert KERNEL in [step.kernel for step in built.program.steps]
    np.testing.assert_allclose(built.run(batch), onnxruntime_outputs(graph, batch), rtol=0, atol=1e-5)
