"""Explicit quantisation: a float graph with QuantizeLinear and DequantizeLinear where a compiler expects them.

Two layouts, from one calibration:

  fused    for TensorRT. Q/DQ before each Conv, Gemm and MatMul, on data and weights. Biases stay float, nothing stands
           between an operator and its activation or on the logits. Everything is symmetric (zero point 0).
  integer  for ONNX Runtime and C. Outputs are quantised as well, biases are int32, so that integers run from end to
           end; the sums of a last Gemm leave as floats. Activations are uint8, with zero point 0 where they are never
           negative (all 256 levels after a ReLU or a sigmoid, and ONNX Runtime then drops the ReLU itself) and 128,
           symmetric, elsewhere. uint8, because ONNX Runtime fuses only where an operator's input and output have one
           type, and on x86 it turns some int8 activations into uint8 by itself.

Weights are int8, per output channel, in [-127, 127]. Scales are rounded up to numbers that float16 has, so that the
same scales serve an fp16 graph. The operators and attributes are those of ONNX opset 20.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import InputError
from edgeline_export.fold import output_axis
from edgeline_export.graph import attributes_of, clean_graph, consumers_of, inputs_of, replace_input

LAYOUTS = ("fused", "integer")
_MATRIX_OPERATORS = ("Conv", "Gemm", "MatMul")
# Operators that compute on int8 in ONNX Runtime and in the C library; what they read and write is quantised, where it
# comes from a Conv, Gemm or MatMul or goes to one through such operators alone.
_INTEGER_OPERATORS = {
    *_MATRIX_OPERATORS, "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool",
    "Mul", "Relu", "Reshape", "Sigmoid", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
# Operators that move numbers and change none: their output has their input's scale.
MOVING_OPERATORS = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
# Activations that a quantised operator carries out by saturating its output.
_SATURATING_ACTIVATIONS = {"Relu", "Clip"}
_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_subnormal)


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """The range of one activation as calibration cut it: the magnitude that still fits, and whether it is never < 0."""

    threshold: float
    non_negative: bool


@dataclass(frozen=True, slots=True)
class _Parameters:
    scale: np.float32
    zero_point: npt.NDArray[Any]


def quantised(
    model: onnx.ModelProto, ranges: dict[str, ActivationRange], layout: str, weight_levels: int = 127
) -> onnx.ModelProto:
    """Return a folded float32 graph in int8, by one of LAYOUTS; `ranges` by tensor name.

    A channel's largest weight becomes the number `weight_levels`: weights on a grid of fewer bits stay what they are.
    Raises InputError when an activation that must be quantised has no range.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    editor = _Editor(copy.graph, ranges, layout, weight_levels)
    editor.quantise()
    return clean_graph(copy)


def quantisable_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the Conv, Gemm and MatMul nodes with constant float32 weights."""
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    weights = ranks.keys()
    return [
        node
        for node in graph.node
        if node.op_type in _MATRIX_OPERATORS
        and ranks.get(node.input[1], 0) >= 2
        and node.input[0] not in weights
        and not attributes_of(node).get("transA", 0)
    ]


def quantised_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """Return the activations that a graph quantises, by the names they have in the float graph."""
    inputs = {spec.name for spec in inputs_of(model)}
    casts = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Cast" and n.input[0] in inputs}
    names = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return frozenset(casts.get(name, name) for name in names)


def _takes_integers(node: onnx.NodeProto, weights: Collection[str]) -> bool:
    """Whether ONNX Runtime has a kernel of integers for a node.

    Its AveragePool of integers knows no dilations, and its Add and Mul take two activations: a coefficient or a bias
    would have to be quantised for it, and its rounding be paid for.
    """
    if node.op_type == "AveragePool" and any(step != 1 for step in attributes_of(node).get("dilations", ())):
        return False
    if node.op_type in ("Add", "Mul") and any(name in weights for name in node.input):
        return False
    return node.op_type in _INTEGER_OPERATORS


def _integer_nodes(graph: onnx.GraphProto) -> set[str]:
    """Return what runs in integers, by first output: matrix products, and what integers reach from there.

    An operator between float ones alone stays float: integers would cost it a conversion each way, and precision.
    """
    weights = {tensor.name for tensor in graph.initializer}
    able = {node.output[0]: node for node in graph.node if _takes_integers(node, weights)}
    reached = {name for name, node in able.items() if node.op_type in _MATRIX_OPERATORS}
    waiting = list(reached)
    while waiting:
        node = able[waiting.pop()]
        beside = [name for name in node.input if name in able]
        beside += [reader.output[0] for reader in consumers_of(graph, node.output[0]) if reader.output[0] in able]
        waiting += [name for name in dict.fromkeys(beside) if name not in reached]
        reached.update(beside)
    return reached


def scale_for(magnitude: npt.NDArray[np.float64] | float, levels: int) -> npt.NDArray[np.float32]:
    """Return magnitude / levels, rounded up to a float16: nothing that fitted saturates. Never 0.

    A scale beyond float16 stays float32: only fp16 cannot have it, and says so.
    """
    exact = np.maximum(np.asarray(magnitude, np.float64) / levels, _SMALLEST_SCALE)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float16)
        up = np.where(near < exact, np.nextafter(near, np.float16(np.inf)), near).astype(np.float32)
    return np.where(np.isfinite(up), up, exact.astype(np.float32))


class _Editor:
    """One pass over one graph. Nodes are inserted in front of their first reader, so that order stays topological."""

    def __init__(
        self, graph: onnx.GraphProto, ranges: dict[str, ActivationRange], layout: str, weight_levels: int
    ) -> None:
        self._graph = graph
        self._ranges = ranges
        self._integer = layout == "integer"
        self._weight_levels = weight_levels
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output}
        self._outputs = {value.name for value in graph.output}
        self._parameters: dict[str, _Parameters] = {}
        self._integers = _integer_nodes(graph) if self._integer else set()

    def quantise(self) -> None:
        matrix_nodes = quantisable_nodes(self._graph)
        names = self._activations_to_quantise(matrix_nodes)
        for name in names:
            self._parameters_of(name)  # now: a pair gives what a moving operator reads another name
        for node in matrix_nodes:
            self._quantise_weight(node)
            if self._integer and len(node.input) > 2 and node.input[2]:
                self._quantise_bias(node)
        for name in names:
            self._insert_pair(name)
        self._drop_unused()

    def _activations_to_quantise(self, matrix_nodes: list[onnx.NodeProto]) -> list[str]:
        if not self._integer:
            return list(dict.fromkeys(node.input[0] for node in matrix_nodes))
        names = []
        for node in self._graph.node:
            names += [name for name in [*node.input, *node.output] if self._is_integer_activation(name)]
        return list(dict.fromkeys(names))

    def _is_integer_activation(self, name: str) -> bool:
        """Whether integers meet at this tensor: an integer operator reads it, or makes it for a float one."""
        if name not in self._ranges or name in self._weights or name in self._outputs:
            return False
        producer, readers = self._producers.get(name), consumers_of(self._graph, name)
        if not readers:
            return False
        if not any(reader.output[0] in self._integers for reader in readers):
            # For a float operator: an integer operator's dequantised output, or the sums of a Gemm as they are.
            return (
                producer is not None
                and producer.op_type not in ("Gemm", "MatMul")
                and producer.output[0] in self._integers
            )
        return not (
            producer is not None
            and producer.op_type in (*_MATRIX_OPERATORS, "Add")
            and len(readers) == 1
            and self._saturates(readers[0])
        )

    def _saturates(self, node: onnx.NodeProto) -> bool:
        """Whether saturation of the quantised output does what this activation does, so that it needs no node."""
        if node.op_type not in _SATURATING_ACTIVATIONS or node.output[0] not in self._ranges:
            return False
        return node.output[0] not in self._outputs and self._ranges[node.output[0]].non_negative

    def _parameters_of(self, name: str) -> _Parameters:
        if name not in self._parameters:
            self._parameters[name] = self._new_parameters(name)
        return self._parameters[name]

    def _new_parameters(self, name: str) -> _Parameters:
        producer = self._producers.get(name)
        moves = self._integer and producer is not None and producer.op_type in MOVING_OPERATORS
        if producer is not None and moves and self._is_integer_activation(producer.input[0]):
            return self._parameters_of(producer.input[0])
        if name not in self._ranges:
            raise InputError(f"calibration saw no values of '{name}', which int8 needs; nothing was written")
        seen = self._ranges[name]
        if not self._integer:
            return _Parameters(np.float32(scale_for(seen.threshold, 127)), np.asarray(0, np.int8))
        if seen.non_negative:
            return _Parameters(np.float32(scale_for(seen.threshold, 255)), np.asarray(0, np.uint8))
        return _Parameters(np.float32(scale_for(seen.threshold, 127)), np.asarray(128, np.uint8))

    def _quantise_weight(self, node: onnx.NodeProto) -> None:
        """Replace a float weight by an int8 one and a DequantizeLinear, one scale per output channel."""
        name = node.input[1]
        values = numpy_helper.to_array(self._weights[name]).astype(np.float64)
        axis = output_axis(node) % values.ndim
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = scale_for(np.abs(values).max(axis=others, initial=0.0), self._weight_levels)
        if self._integer and len(node.input) > 2 and node.input[2] in self._weights:
            scale = self._room_for_bias(node, scale)
        shape = [1] * values.ndim
        shape[axis] = -1
        levels = np.clip(np.rint(values / scale.reshape(shape)), -127, 127).astype(np.int8)
        stem = self._free(f"{name}_int8")
        self._add(f"{stem}", levels)
        node.input[1] = self._dequantise(node, stem, scale, np.zeros(len(scale), np.int8), axis)

    def _room_for_bias(self, node: onnx.NodeProto, scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Raise a channel's scale until its bias, in steps of input scale times weight scale, fits 31 bits."""
        tensor = self._weights[node.input[2]]
        if not _is_per_channel(tensor, scale.size):
            return scale
        bias = np.abs(numpy_helper.to_array(tensor).astype(np.float64)).reshape(-1)
        step = float(self._parameters_of(node.input[0]).scale)
        return np.maximum(scale, scale_for(bias / step / 2**30, 1))

    def _quantise_bias(self, node: onnx.NodeProto) -> None:
        """Replace a float bias by int32 in steps of input scale times weight scale: it adds to the sums as it is."""
        tensor = self._weights.get(node.input[2])
        weight_scale = self._scale_of_weight(node)
        if tensor is None or not _is_per_channel(tensor, weight_scale.size):
            return
        scale = (weight_scale * self._parameters_of(node.input[0]).scale).astype(np.float32)
        values = numpy_helper.to_array(tensor).astype(np.float64).reshape(-1)
        stem = self._free(f"{tensor.name}_int32")
        self._add(stem, np.rint(values / scale).astype(np.int32))
        node.input[2] = self._dequantise(node, stem, scale, np.zeros(len(scale), np.int32), 0)

    def _scale_of_weight(self, node: onnx.NodeProto) -> npt.NDArray[np.float32]:
        dequantise = self._producers[node.input[1]]
        return np.asarray(numpy_helper.to_array(self._weights[dequantise.input[1]]), np.float32)

    def _dequantise(
        self, reader: onnx.NodeProto, stem: str, scale: npt.NDArray[np.float32], zero: npt.NDArray[Any], axis: int
    ) -> str:
        inputs = [stem, self._add(f"{stem}_scale", scale), self._add(f"{stem}_zero_point", zero)]
        output = f"{stem}_dequantized"
        node = helper.make_node("DequantizeLinear", inputs, [output], f"{stem}_DequantizeLinear", axis=axis)
        self._insert_before(reader, node)
        return output

    def _insert_pair(self, name: str) -> None:
        """Put QuantizeLinear and DequantizeLinear on an activation; every reader reads what comes out."""
        parameters, readers = self._parameters_of(name), consumers_of(self._graph, name)
        scale = self._add(f"{name}_scale", np.asarray(parameters.scale, np.float32))
        zero = self._add(f"{name}_zero_point", parameters.zero_point)
        quantise = helper.make_node(
            "QuantizeLinear", [name, scale, zero], [f"{name}_quantized"], f"{name}_QuantizeLinear"
        )
        dequantise = helper.make_node(
            "DequantizeLinear", [f"{name}_quantized", scale, zero], [f"{name}_dequantized"], f"{name}_DequantizeLinear"
        )
        if not self._integer:
            quantised = {id(node) for node in readers if self._reads_quantised(node, name)}
            readers = [node for node in readers if id(node) in quantised]
        self._insert_before(readers[0], quantise, dequantise)
        for reader in readers:
            replace_input(reader, name, f"{name}_dequantized")

    def _reads_quantised(self, node: onnx.NodeProto, name: str) -> bool:
        """In the fused layout, only operators with quantised weights read quantised data."""
        weight = self._producers.get(node.input[1]) if node.op_type in _MATRIX_OPERATORS else None
        return node.input[0] == name and weight is not None and weight.op_type == "DequantizeLinear"

    def _insert_before(self, reader: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
        position = next(i for i, node in enumerate(self._graph.node) if node.output[0] == reader.output[0])
        for offset, node in enumerate(nodes):
            self._graph.node.insert(position + offset, node)
            self._producers[node.output[0]] = self._graph.node[position + offset]

    def _add(self, name: str, values: npt.NDArray[Any]) -> str:
        name = self._free(name)
        self._graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)
        )
        self._weights[name] = self._graph.initializer[-1]
        return name

    def _free(self, name: str) -> str:
        while name in self._weights or name in self._producers:
            name += "_"
        return name

    def _drop_unused(self) -> None:
        used = {name for node in self._graph.node for name in node.input} | self._outputs
        keep = [tensor for tensor in self._graph.initializer if tensor.name in used]
        kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in keep]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def _is_per_channel(bias: onnx.TensorProto, channels: int) -> bool:
    """Whether a bias has a number for each output channel; a Gemm may have one for each row of a fixed batch."""
    return int(np.prod(bias.dims)) == channels and (not bias.dims or bias.dims[-1] == channels)
