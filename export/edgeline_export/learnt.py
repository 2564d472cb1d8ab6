"""What quantisation-aware training fixed, brought to the names of the ONNX graph.

torch's exporter writes into each node the modules that it came from. A module's output is the tensor that its nodes
make and that is read outside of it; where there is none such, or several, the module is left to calibration.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from edgeline_export.quantise import MOVING_OPERATORS, ActivationRange
from edgeline_train.models.weights import QatRecord, top_level

_SCOPES = "pkg.torch.onnx.name_scopes"  # a Python list as text: the path of each module around a node, "" the network


@dataclass(frozen=True, slots=True)
class Learnt:
    """The ranges of activations by tensor name, and of how many bits the weights are.

    `weight_levels` is the largest int8 number among the weights: with it the steps of their grids are found again.
    """

    weight_bits: int
    ranges: Mapping[str, ActivationRange]

    @property
    def weight_levels(self) -> int:
        """127 of 8 bits."""
        return top_level(self.weight_bits)

    def within(self, plain: onnx.ModelProto) -> Learnt:
        """Return what a folded graph has of it; what operators that move numbers make has their input's range."""
        names = {value.name for value in plain.graph.input} | {
            name for node in plain.graph.node for name in node.output
        }
        ranges = {name: found for name, found in self.ranges.items() if name in names}
        for node in plain.graph.node:
            if node.op_type in MOVING_OPERATORS and node.input[0] in ranges:
                ranges.setdefault(node.output[0], ranges[node.input[0]])
        return Learnt(self.weight_bits, ranges)


def learnt_from(record: QatRecord, exported: onnx.ModelProto) -> Learnt:
    """Bring a record of weights to the tensors of a graph that torch exported and nothing has cleaned yet."""
    tensors = module_outputs(exported)
    ends = {tensors[path]: pair for path, pair in record.outputs.items() if path in tensors}
    if record.input is not None:
        ends[exported.graph.input[0].name] = record.input
    ranges = {name: ActivationRange(max(-low, high), low >= 0.0) for name, (low, high) in ends.items()}
    return Learnt(record.weight_bits, ranges)


def module_outputs(exported: onnx.ModelProto) -> dict[str, str]:
    """Return the tensor that each module of a torch export makes, by the module's path, where it makes one."""
    scopes = {name: _scopes(node) for node in exported.graph.node for name in node.output}
    outputs = {value.name for value in exported.graph.output}
    found: dict[str, set[str]] = {}
    for name, around in scopes.items():
        readers = [_scopes(node) for node in exported.graph.node if name in node.input]
        for path in around:
            if name in outputs or any(path not in reader for reader in readers):
                found.setdefault(path, set()).add(name)
    return {path: names.pop() for path, names in found.items() if path and len(names) == 1}


def _scopes(node: onnx.NodeProto) -> tuple[str, ...]:
    """Return the paths of the modules that a node came from; the last entry names the operation, and is no module."""
    text = next((prop.value for prop in node.metadata_props if prop.key == _SCOPES), "[]")
    return tuple(str(path) for path in ast.literal_eval(text)[:-1])
