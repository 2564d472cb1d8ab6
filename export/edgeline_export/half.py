"""Float16: the graph that ships, and the float32 graph that computes what it will compute.

`half` gives the strongly typed graph: weights and activations in float16, float32 at the ends. `rounded` gives its
twin for verification: float32 arithmetic with every weight and every activation rounded to float16 and back, because
ONNX Runtime's CPU provider runs a float16 graph in float32 from end to end and would hide both rounding and overflow.
A device multiplies in float16 and accumulates in float32; the twin rounds at the same places, after each node.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import InputError
from edgeline_export.graph import OPSET, attributes_of, clean_graph, inputs_of, replace_input

LARGEST_ACTIVATION = 16_000.0  # a quarter of float16's 65,504: room for inputs that calibration has not seen
_HALF_END = "_fp16"  # behind the name of an input, of an output: the same in float16
_LARGEST = float(np.finfo(np.float16).max)
# Inputs that ONNX types as float32 whatever the data's type.
_ALWAYS_FLOAT32 = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 graph in float16, with a Cast after each float32 input and before each float32 output.

    Raises InputError when an operator takes no float16, by node, or a weight is beyond float16, by name.
    """
    model = _copied(model)
    graph = model.graph
    kept = _kept_float32(graph)
    for node in graph.node:
        _check_takes_half(node)
        _cast_attributes(node)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(numpy_helper.from_array(_half_values(tensor), tensor.name))
    taken = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    ends = []
    for spec in inputs_of(model):
        if spec.dtype == "float32":
            inner = _free(f"{spec.name}{_HALF_END}", taken)
            for node in graph.node:
                replace_input(node, spec.name, inner)
            ends.append(_cast(spec.name, inner, TensorProto.FLOAT16))
    nodes = [*ends, *graph.node]
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            inner = _free(f"{value.name}{_HALF_END}", taken)
            for node in nodes:
                replace_input(node, value.name, inner)
                for index, name in enumerate(node.output):
                    if name == value.name:
                        node.output[index] = inner
            nodes.append(_cast(inner, value.name, TensorProto.FLOAT))
    _set_nodes(graph, nodes)
    return clean_graph(model)


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float32 graph with all weights and all activations rounded to float16 and back."""
    model = _copied(model)
    graph = model.graph
    kept = _kept_float32(graph)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            values = _half_values(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}
    nodes: list[onnx.NodeProto] = []
    for spec in inputs_of(model):
        if spec.dtype == "float32":
            for node in graph.node:
                replace_input(node, spec.name, f"{spec.name}_rounded")
            nodes += _round(spec.name, f"{spec.name}_rounded")
    for node in graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name and kinds.get(name) == TensorProto.FLOAT:
                node.output[index] = f"{name}_exact"
                nodes += _round(f"{name}_exact", name)
    _set_nodes(graph, nodes)
    return clean_graph(model)


def _round(source: str, target: str) -> list[onnx.NodeProto]:
    """ONNX Runtime keeps a pair of Casts that loses precision; a test holds it to that."""
    middle = f"{target}_half"
    return [_cast(source, middle, TensorProto.FLOAT16), _cast(middle, target, TensorProto.FLOAT)]


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}_Cast", to=kind)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _kept_float32(graph: onnx.GraphProto) -> set[str]:
    return {
        name
        for node in graph.node
        for index, name in enumerate(node.input)
        if name and (node.op_type, index) in _ALWAYS_FLOAT32
    }


def _check_takes_half(node: onnx.NodeProto) -> None:
    """Hold the node's data input against the operator's own list of types."""
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise InputError(f"fp16 does not reach into the sub-graphs of {node.op_type} (node '{node.name}')")
    try:
        schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
    except onnx.defs.SchemaError:
        where = f" of {node.domain}" if node.domain else ""
        raise InputError(
            f"{node.op_type}{where} (node '{node.name}') is no operator of ONNX: what it does in float16 is not known"
        ) from None
    takes = {kind for formal in schema.inputs[:1] for kind in formal.types}
    if takes and "tensor(float16)" not in takes and "tensor(float)" in takes:
        raise InputError(f"{node.op_type} (node '{node.name}') takes no float16; export this network in fp32 or int8")


def _cast_attributes(node: onnx.NodeProto) -> None:
    """A node that makes float32 by an attribute must make float16."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(_half_values(attribute.t), attribute.t.name))
    if node.op_type == "Constant" and {"value_float", "value_floats"} & set(attributes_of(node)):
        raise InputError(f"fp16: the Constant '{node.name}' holds its numbers in an attribute without a type")


def _half_values(tensor: onnx.TensorProto) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _LARGEST:
        raise InputError(f"the weight '{tensor.name}' holds {largest:.3g}, float16 ends at {_LARGEST:,.0f}")
    return values.astype(np.float16)


def _set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    new = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(new)
