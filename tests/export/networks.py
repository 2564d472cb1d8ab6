"""Networks that tests export: small, untrained, and with the operators that people's CNNs have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from edgeline_train.models.weights import WeightsInfo, weights_file_name, write_weights


class Rich(nn.Module):
    """float32 [N, 3, 16, 16] -> [N, 5]: a residual, a concatenation, two pools, normalisation, and four activations."""

    input_shape = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LeakyReLU(0.1))
        self.pool = nn.MaxPool2d(2)
        self.mix = nn.Sequential(nn.Conv2d(16, 12, 1), nn.Sigmoid(), nn.AvgPool2d(2))
        self.last = nn.Sequential(nn.Conv2d(12, 12, 3), nn.Tanh())
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.left(x))
        x = self.pool(torch.cat([x, self.depthwise(x)], dim=1))
        x = self.average(self.last(self.mix(x)))
        return torch.softmax(self.head(torch.flatten(x, 1)), dim=1)


def rich_module() -> Rich:
    """Return the network with weights and statistics that are not the initial ones."""
    torch.manual_seed(3)
    network = Rich()
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(32, 3, 16, 16) * 2 + 1)
    return network.eval()


def rich_graph() -> onnx.ModelProto:
    return graph_from_module(rich_module(), Rich.input_shape)


def written_by_hand() -> onnx.ModelProto:
    """float32 [N, 3, 16, 16] -> [N, 5], opset 13, with what other exporters write and torch's does not.

    BatchNormalization as it is, once behind a Conv and once behind a pool; GlobalAveragePool; Flatten; MatMul and Add;
    Clip by initializers; Concat; Softmax.
    """
    random = np.random.default_rng(5)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        return numpy_helper.from_array((random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)

    def statistics(name: str, size: int) -> list[onnx.TensorProto]:
        values = {"scale": random.uniform(0.5, 1.5, size), "shift": random.standard_normal(size) / 4,
                  "mean": random.standard_normal(size) / 4, "var": random.uniform(0.5, 2, size)}  # fmt: skip
        return [numpy_helper.from_array(v.astype(np.float32), f"{name}_{key}") for key, v in values.items()]

    def norm(name: str, source: str) -> onnx.NodeProto:
        inputs = [source, *(f"{name}_{key}" for key in ("scale", "shift", "mean", "var"))]
        return helper.make_node("BatchNormalization", inputs, [name], name)

    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c1"], "c1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        norm("n1", "c1"),
        helper.make_node("Clip", ["n1", "low", "high"], ["r1"], "r1"),
        helper.make_node("AveragePool", ["r1"], ["p1"], "p1", kernel_shape=[2, 2], strides=[2, 2]),
        norm("n2", "p1"),
        helper.make_node("Conv", ["n2", "w2", "b2"], ["c2"], "c2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["n2", "c2"], ["k"], "k", axis=1),
        helper.make_node("GlobalAveragePool", ["k"], ["g"], "g"),
        helper.make_node("Flatten", ["g"], ["f"], "f"),
        helper.make_node("MatMul", ["f", "w3"], ["m"], "m"),
        helper.make_node("Add", ["m", "b3"], ["a"], "a"),
        helper.make_node("Softmax", ["a"], ["logits"], "softmax", axis=1),
    ]
    tensors = [
        weights("w1", 8, 3, 3, 3), *statistics("n1", 8), *statistics("n2", 8), weights("w2", 6, 8, 3, 3),
        weights("b2", 6), weights("w3", 14, 5), weights("b3", 5),
        numpy_helper.from_array(np.float32(0), "low"), numpy_helper.from_array(np.float32(6), "high"),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("input", (3, 16, 16)), ("logits", (5,)))]  # fmt: skip
    graph = helper.make_graph(nodes, "by_hand", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def write_untrained(folder: Path, name: str, mean: float = 0.1313, std: float = 0.3089) -> Path:
    """Write the weights that a registered network is born with, as if digits had trained it."""
    torch.manual_seed(0)
    labels = tuple("0123456789")
    info = WeightsInfo(name, "mnist-10k", "best", 0, mean, std, labels, 1, 1, 0.1, 2.3, "test accuracy", {})
    path = folder / weights_file_name(name, "mnist-10k", "best")
    write_weights(path, MODELS[name].build().state_dict(), info)
    return path
