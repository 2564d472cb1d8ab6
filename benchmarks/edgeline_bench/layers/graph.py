"""A network as the model of work sees it: nodes, tensors with their sizes at one batch size, and who reads what.

Views of the same nodes: `float_view` is the network without its Q/DQ pairs, as it was before it was quantised;
`widened` has float32 where the graph stores float16, as an engine keeps it that computes float16 in float32, `narrowed`
bfloat16 for float32, as an engine keeps it that computes in bfloat16. Nothing is counted here, and no values are read
but those that shapes depend on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from edgeline.errors import InputError
from edgeline_export.graph import one_line

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
# They move no number: a compiler makes them a change of the shape that is written beside the data.
SHAPE_ONLY = ("Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze")
MATRIX_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_LARGEST_FOR_SHAPES = 1_024  # elements; what shapes are computed from is smaller, weights need not be copied


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor at the graph's batch size; `constant` where no input of the network changes it."""

    shape: tuple[int, ...]
    dtype: str
    constant: bool

    @property
    def size(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return self.size * _itemsize(self.dtype)


@dataclass(frozen=True, slots=True)
class Node:
    """An operator. `name` is the ONNX node's, or its first output's where it has none."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: onnx.NodeProto


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes in topological order, and their tensors. Constant nodes are tensors here."""

    batch: int
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    producers: Mapping[str, Node]
    readers: Mapping[str, tuple[Node, ...]]

    def tensor(self, name: str) -> Tensor:
        """Return a tensor. Raises InputError where shape inference did not come to its shape."""
        if name not in self.tensors:
            raise InputError(f"the shape of tensor '{name}' cannot be inferred: the work of its layer is not known")
        return self.tensors[name]

    def is_constant(self, name: str) -> bool:
        """Say whether a tensor is a weight, or computed from weights alone."""
        return name in self.tensors and self.tensors[name].constant

    @property
    def names(self) -> frozenset[str]:
        """The names of all nodes."""
        return frozenset(node.name for node in self.nodes)


def read_graph(model: onnx.ModelProto, batch: int) -> Graph:
    """Return the graph of a model at a batch size, its shapes inferred anew.

    Raises InputError where the graph takes another batch size only, or shape inference fails.
    """
    model = onnx.inliner.inline_local_functions(model) if model.functions else model
    inferred = _inferred(model, batch)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors: dict[str, Tensor] = {}
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            shape = tuple(d.dim_value for d in kind.shape.dim)
            tensors[value.name] = Tensor(shape, _dtype(kind.elem_type), False)
    for name, weight in weights.items():
        tensors[name] = Tensor(tuple(weight.dims), _dtype(weight.data_type), True)
    nodes = []
    for proto in model.graph.node:
        if proto.op_type == "Constant" or all(
            not name or (name in tensors and tensors[name].constant) for name in proto.input
        ):
            tensors |= {name: replace(tensors[name], constant=True) for name in proto.output if name in tensors}
        if proto.op_type != "Constant":
            nodes.append(_node(proto))
    inputs = tuple(value.name for value in model.graph.input if value.name not in weights)
    return _graph(batch, nodes, tensors, inputs, tuple(value.name for value in model.graph.output))


def float_view(graph: Graph) -> Graph:
    """Return the network as eager PyTorch runs it: no Q/DQ, no Cast between floats, all weights and tensors float32.

    Node names stay. What computes on constants alone (a Transpose of weights) is gone too: its result is a constant.
    """
    tensors = dict(widened(graph).tensors)
    alias: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        source = alias.get(node.inputs[0], node.inputs[0]) if node.inputs else ""
        if all(graph.is_constant(name) for name in node.outputs):
            tensors |= {name: replace(tensors[name], dtype="float32") for name in node.outputs}
        elif node.operator in QUANTISERS or _is_float_cast(graph, node):
            alias[node.outputs[0]] = source
        else:
            proto = onnx.NodeProto()
            proto.CopyFrom(node.proto)
            proto.input[:] = [alias.get(name, name) for name in node.inputs]
            nodes.append(replace(_node(proto), name=node.name))
    outputs = tuple(alias.get(name, name) for name in graph.outputs)
    return _graph(graph.batch, nodes, tensors, graph.inputs, outputs)


def widened(graph: Graph) -> Graph:
    """Return the graph with float32 for float16."""
    tensors = {
        name: replace(tensor, dtype="float32") if tensor.dtype in ("float16", "bfloat16") else tensor
        for name, tensor in graph.tensors.items()
    }
    return replace(graph, tensors=tensors)


def narrowed(graph: Graph) -> Graph:
    """Return the graph with bfloat16 for float32, but at its own inputs and outputs."""
    ends = {*graph.inputs, *graph.outputs}
    tensors = {
        name: replace(tensor, dtype="bfloat16") if tensor.dtype == "float32" and name not in ends else tensor
        for name, tensor in graph.tensors.items()
    }
    return replace(graph, tensors=tensors)


def _is_float_cast(graph: Graph, node: Node) -> bool:
    ends = (node.inputs[0], node.outputs[0]) if node.operator == "Cast" else ()
    return bool(ends) and all(name in graph.tensors and graph.tensors[name].dtype in _FLOATS for name in ends)


def _graph(
    batch: int, nodes: Sequence[Node], tensors: Mapping[str, Tensor], inputs: Iterable[str], outputs: Iterable[str]
) -> Graph:
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)
    return Graph(
        batch,
        tuple(nodes),
        tensors,
        tuple(inputs),
        tuple(outputs),
        {name: node for node in nodes for name in node.outputs if name},
        {name: tuple(found) for name, found in readers.items()},
    )


def _node(proto: onnx.NodeProto) -> Node:
    return Node(proto.name or proto.output[0], proto.op_type, tuple(proto.input), tuple(proto.output), proto)


def _inferred(model: onnx.ModelProto, batch: int) -> onnx.GraphProto:
    """Infer all shapes at a batch size, on a copy whose large weights are inputs: only their shapes matter."""
    slim = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    graph = slim.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    for given in model.graph.input:
        if given.name in weights:
            continue
        value = graph.input.add()
        value.CopyFrom(given)
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].HasField("dim_value") and dims[0].dim_value != batch:
            raise InputError(f"the graph takes batches of {dims[0].dim_value} only, not {batch}")
        if dims:
            dims[0].dim_value = batch
    for given in model.graph.output:  # without its shape, which may name the free batch
        graph.output.append(helper.make_tensor_value_info(given.name, given.type.tensor_type.elem_type, None))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _LARGEST_FOR_SHAPES:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        return onnx.shape_inference.infer_shapes(slim, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"shapes at batch {batch} cannot be inferred: {one_line(error)}") from None


def _dtype(kind: int) -> str:
    name = str(onnx.TensorProto.DataType.Name(kind))
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
