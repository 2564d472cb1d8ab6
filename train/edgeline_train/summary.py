"""`train-model MODEL --summary`: each layer's output shape, parameters and multiply-accumulates, for one input.

A MAC is one multiplication with its addition, in Conv and Gemm; biases, activations, pooling, the coefficients of
LeNet-5's subsampling and its output units are not counted. Of a convolution with a connection table only connections
that exist count (150,000 in LeNet-5's C3); the graph that is exported multiplies the zeros as well (240,000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgeline_train.models import Model
from edgeline_train.models.lenet5 import PartialConv


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer. `output_shape` is batch-free: (C, H, W) or (features,)."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int


def summarise(model: Model, classes: int = 10) -> list[LayerSummary]:
    """Run a batch of one through the network, without memory or arithmetic (torch's meta device)."""
    with torch.device("meta"):
        network = model.build(classes).eval()
        example = torch.empty(1, *model.input_shape)
    rows: list[LayerSummary] = []
    for name, module in network.named_modules():
        inside = ".parametrizations" in f".{name}"
        if not inside and (parametrize.is_parametrized(module) or not list(module.children())):
            module.register_forward_hook(_recorder(rows, name))
    network(example)
    return rows


def _recorder(rows: list[LayerSummary], name: str) -> Any:
    def record(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = sum(p.numel() for p in module.parameters())
        shape = tuple(output.shape[1:])
        kind = parametrize.type_before_parametrizations(module).__name__
        rows.append(LayerSummary(name, kind, shape, parameters, _macs(module, output)))

    return record


def _macs(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, PartialConv):
        return output[0, 0].numel() * module.kernels.numel()
    if isinstance(module, nn.Conv2d):
        return output[0].numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return output[0].numel() * module.in_features
    return 0
