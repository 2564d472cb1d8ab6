"""Networks that tests export: small, untrained, and with the operators that people's CNNs have."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from edgeline_export.torch_source import graph_from_module


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
