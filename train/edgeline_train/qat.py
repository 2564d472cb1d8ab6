"""Quantisation-aware fine-tuning: a trained network learns to live with the rounding that an int8 export brings.

After Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018: weights and activations are rounded in the forward pass and gradients go straight through. What is rounded, and
how, is what edgeline_export.quantise does in its layout `integer`, the stricter one: uint8 activations with zero point
0 where they are never negative and 128 elsewhere, symmetric weights per output channel, scales that float16 has. Left
out: the int32 biases, whose steps are far finer, and operators that are no modules (an addition in `forward`), whose
results are calibrated at the export as if there had been no QAT.

Fake quantisation is torch's own operators, put between the modules by torch.fx and on the weights by a parametrisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from edgeline.errors import InputError
from edgeline.files import sha256_of_file
from edgeline_train.models import Model
from edgeline_train.models.weights import QatRecord, load_weights, top_level
from edgeline_train.recipes import Recipe

_BITS = 8  # of activations, and of what holds a weight
_AVERAGE = 0.1  # the newest batch's share in the moving average of a range
_INPUT = "input_quantiser"
_OUTPUTS = "output_quantisers."
_MATRIX = (nn.Conv2d, nn.Linear)
# Modules whose operator computes on integers, as edgeline_export.quantise lists them.
_INTEGER = (
    *_MATRIX, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Dropout, nn.Flatten, nn.Identity, nn.LeakyReLU, nn.MaxPool2d,
    nn.ReLU, nn.ReLU6, nn.Sigmoid,
)  # fmt: skip
# Modules that move numbers and change none: their output is on their input's grid already.
_MOVING = (nn.Dropout, nn.Flatten, nn.Identity, nn.MaxPool2d)
_SATURATING = (nn.ReLU, nn.ReLU6)
_SMALLEST_SCALE = float(torch.finfo(torch.float16).smallest_normal) * 2.0**-10


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Finished float weights to start from, and to how many bits weights are rounded. `state` is a state dict."""

    weight_bits: int
    state: Mapping[str, Tensor]
    start_sha256: str
    float_accuracy: float

    def settings(self) -> dict[str, Any]:
        """Return what decides the result, as plain values."""
        return {"weight_bits": self.weight_bits, "start_sha256": self.start_sha256}

    def prepare(self, network: nn.Module, steps: int) -> nn.Module:
        """Load the float weights into a fresh network; return it fake-quantised, with ranges of `steps` batches."""
        network.load_state_dict(self.state)
        return fake_quantised(network, self.weight_bits, steps)

    def finish(self, network: nn.Module, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], QatRecord]:
        """Turn the state of what `prepare` returned into plain weights, with ordinary names, and what goes with them.

        `network` is a fresh one again. Each weight has the value that it had in the forward pass.
        """
        trained = self.prepare(network, 0)
        trained.load_state_dict(state)
        for module in network.modules():
            if isinstance(module, _MATRIX):
                _settle(module)
        ranges = {
            name: module.ends() for name, module in trained.named_modules() if isinstance(module, ActivationQuantiser)
        }
        outputs = {name.removeprefix(_OUTPUTS): ends for name, ends in ranges.items() if name != _INPUT}
        return network.state_dict(), QatRecord(self.weight_bits, ranges.get(_INPUT), outputs, self.float_accuracy)


def fine_tuning_from(path: Path, model: Model, classes: int, weight_bits: int, how_to_make: str) -> FineTuning:
    """Read the float weights to start from. Raises InputError when they are missing, damaged or another model's."""
    if not path.is_file():
        raise InputError(f"--qat goes on from finished float weights, and {path} is not there; make it: {how_to_make}")
    info = load_weights(path, model.build(classes), model)
    return FineTuning(weight_bits, load_file(path), sha256_of_file(path), info.accuracy)


def fine_tuning_recipe(recipe: Recipe) -> Recipe:
    """Return how a recipe's own weights are fine-tuned: a fifth of its epochs, a tenth of its rate, falling to 0.

    At least two epochs, since ranges are found in the first. In float32: bfloat16 has too few digits for the grids.
    """
    epochs = {dataset: max(2, count // 5) for dataset, count in recipe.epochs.items()}
    return replace(recipe, epochs=epochs, lr=recipe.lr / 10, schedule="cosine", bf16=False)


def fake_quantised(network: nn.Module, weight_bits: int, steps: int) -> nn.Module:
    """Return the network with fake quantisation; weights and their names are shared with `network`, which is changed.

    The ranges of activations follow the first `steps` batches in train mode, and are fixed then.
    """
    graph = _Tracer().trace(network)
    modules = dict(network.named_modules())
    parts: dict[str, Any] = {str(node.target): modules[str(node.target)] for node in graph.nodes if _is_module(node)}
    for module in parts.values():
        if isinstance(module, _MATRIX):
            parametrize.register_parametrization(module, "weight", WeightQuantiser(weight_bits))
    for node in [node for node in graph.nodes if _is_quantised(node, modules)]:
        name = f"{_OUTPUTS}{node.target}" if _is_module(node) else _INPUT
        parts[name] = ActivationQuantiser(steps, averages=name != _INPUT)
        with graph.inserting_after(node):
            rounded = graph.call_module(name, (node,))
        node.replace_all_uses_with(rounded, delete_user_cb=lambda user, rounded=rounded: user is not rounded)
    return fx.GraphModule(parts, graph, f"FakeQuantised{type(network).__name__}")


class WeightQuantiser(nn.Module):
    """Rounds a weight, float32 [outputs, ...], to 2^bits - 1 levels per output channel; gradients go straight through.

    A step is a power of two times the step of int8 (QatRecord.weight_bits): the export rounds nothing again.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight on its grid."""
        top, coarseness = top_level(self._bits), 2 ** (_BITS - self._bits)
        magnitude = weight.detach().abs().flatten(1).amax(1)
        scale = _up_to_float16(magnitude / top) * coarseness
        zero = torch.zeros_like(scale, dtype=torch.int32)
        most = top // coarseness
        rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -most, most)
        return rounded


class ActivationQuantiser(nn.Module):
    """Rounds an activation of any shape to uint8's grid, whose ends are found in the first batches.

    By a moving average of each batch's smallest and largest value, or, for what comes in from outside and is not ours
    to cut, by the extremes themselves.
    """

    def __init__(self, steps: int, averages: bool) -> None:
        super().__init__()
        self._steps, self._averages = steps, averages
        self.low: Tensor
        self.high: Tensor
        self.seen: Tensor
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # batches; in a checkpoint, like the range

    def forward(self, x: Tensor) -> Tensor:
        """Return x on the grid; outside of its ends it saturates, and has no gradient."""
        if self.training:
            self._observe(x.detach())
        scale, zero = self._grid()
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 2**_BITS - 1)
        return rounded

    def ends(self) -> tuple[float, float]:
        """Return the smallest and the largest value on the grid, [-127, 127] steps where it is symmetric."""
        scale, zero = self._grid()
        step = float(scale)
        return (0.0, 255 * step) if int(zero) == 0 else (-127 * step, 127 * step)

    def _observe(self, x: Tensor) -> None:
        # Tensors all the way: to ask one for its value would wait for the device at each module.
        low, high = x.aminmax()
        share = torch.where(self.seen == 0, 1.0, _AVERAGE)
        if self._averages:
            low, high = self.low.lerp(low, share), self.high.lerp(high, share)
        else:
            low, high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        fixed = self.seen >= self._steps
        self.low.copy_(torch.where(fixed, self.low, low))
        self.high.copy_(torch.where(fixed, self.high, high))
        self.seen += 1

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Return scale, float32 [], and zero point, int32 []."""
        non_negative = self.low >= 0
        magnitude = torch.maximum(-self.low, self.high)
        scale = _up_to_float16(magnitude / torch.where(non_negative, 255.0, 127.0))
        return scale, torch.where(non_negative, 0, 128).to(torch.int32)


class _Tracer(fx.Tracer):
    """Looks into no module that has none inside, whoever wrote it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - torch's names
        """Tell a module that computes from one that holds others; parametrisations are no modules to us."""
        return all(name == "parametrizations" for name, _ in m.named_children())


def _is_module(node: fx.Node) -> bool:
    return node.op == "call_module"


def _is_quantised(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether the graph of layout `integer` rounds what this node makes to a grid of its own."""
    module = modules[str(node.target)] if _is_module(node) else None
    if node.op not in ("placeholder", "call_module") or isinstance(module, _MOVING):
        return False
    if any(reader.op == "output" for reader in node.users):
        return False
    readers = [modules[str(reader.target)] if _is_module(reader) else None for reader in node.users]
    if not any(isinstance(reader, _INTEGER) for reader in readers):
        return isinstance(module, _INTEGER) and not isinstance(module, nn.Linear)
    saturates = len(readers) == 1 and isinstance(readers[0], _SATURATING)
    return not (saturates and isinstance(module, _MATRIX))


def _settle(module: nn.Conv2d | nn.Linear) -> None:
    """Take the fake quantisation off a weight; what was parametrised before stays so."""
    value = module.weight.detach().clone()
    chain: Any = module.parametrizations.weight  # type: ignore[union-attr]  # a ModuleDict, by fake_quantised
    if len(chain) == 1:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    else:
        del chain[-1]
        module.weight = value  # through the right inverses of the others


def _up_to_float16(exact: Tensor) -> Tensor:
    """Round float32 numbers of at least 0 up to such as float16 has, as scale_for of the exporter does."""
    exact = exact.clamp_min(_SMALLEST_SCALE)
    near = exact.half()
    next_one = (near.view(torch.int16) + 1).view(torch.float16)  # of positive floats the bits are in order
    up = torch.where(near.float() < exact, next_one, near).float()
    return torch.where(up.isfinite(), up, exact)
