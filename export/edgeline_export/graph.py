"""The ONNX graph itself: made clean, checked, and read for its inputs, outputs and precision.

One graph leaves this module in one form: opset 20, IR version 10, one file, no traces of the machine that made it.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from edgeline.errors import InputError
from edgeline.manifest import TensorSpec

OPSET = 20
IR_VERSION = 10
_MAX_BYTES = 2**31 - 1  # protobuf's limit for one message
_BATCH = "batch"

_DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}


def clean_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without metadata, doc strings and producer versions, checked in full.

    Exporters leave stack traces with absolute paths in a graph; without them the same weights give the same bytes
    anywhere. Shapes are inferred anew. Raises InputError when onnx.checker refuses the graph.
    """
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    # No version here: a new release must not turn the same network into another graph.
    clean.producer_name, clean.producer_version = "edgeline", ""
    clean.doc_string, clean.domain, clean.model_version = "", "", 0
    clean.ir_version = IR_VERSION
    del clean.metadata_props[:]
    _strip(clean.graph)
    for function in clean.functions:
        _strip(function)
    del clean.graph.value_info[:]
    # IR 3 lists weights among the inputs; a compiler would ask for them at every call.
    weights = {tensor.name for tensor in clean.graph.initializer}
    for value in [value for value in clean.graph.input if value.name in weights]:
        clean.graph.input.remove(value)
    if clean.ByteSize() > _MAX_BYTES:
        raise InputError(f"the graph has {clean.ByteSize() / 1e9:.1f} GB; one ONNX file holds at most 2 GB")
    try:
        clean = onnx.shape_inference.infer_shapes(clean, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(clean, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"the graph does not pass onnx.checker: {one_line(error)}") from None
    return clean


def _strip(body: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Take metadata and doc strings from a graph or function, the bodies of its If and Loop nodes included."""
    graph_parts = [*body.input, *body.output, *body.initializer] if isinstance(body, onnx.GraphProto) else []
    for item in [body, *body.node, *body.value_info, *graph_parts]:
        del item.metadata_props[:]
        item.doc_string = ""
    for node in body.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                _strip(inner)


def inputs_of(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs, without those that have an initializer (IR 3 lists weights as inputs)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(_spec(value) for value in model.graph.input if value.name not in weights)


def outputs_of(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the graph's outputs."""
    return tuple(_spec(value) for value in model.graph.output)


def check_ends(model: onnx.ModelProto, what: str) -> None:
    """Raise InputError unless the graph has one input and one output; `what` is how people know it."""
    inputs, outputs = len(inputs_of(model)), len(model.graph.output)
    if (inputs, outputs) != (1, 1):
        raise InputError(
            f"{what} has {inputs} input{'s' * (inputs != 1)} and {outputs} output{'s' * (outputs != 1)}; "
            "edgeline takes networks with one of each"
        )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    if kind.elem_type not in _DTYPES:
        name = TensorProto.DataType.Name(kind.elem_type)
        raise InputError(f"'{value.name}' has the type {name}; edgeline takes {', '.join(_DTYPES.values())}")
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    if -1 in shape[1:] or not shape:
        raise InputError(
            f"'{value.name}' has the shape {list(shape)}: only the first dimension, the batch, may be free"
        )
    return TensorSpec(value.name, shape, _DTYPES[kind.elem_type], "NCHW" if len(shape) == 4 else None)


def with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose inputs and outputs have a free first dimension, Reshape targets included.

    A Reshape whose constant target begins with the old batch size gets 0 there (keep the dimension). Whether the graph
    then computes the same at every batch size is for the gate to find out.
    """
    free = onnx.ModelProto()
    free.CopyFrom(model)
    old = {spec.shape[0] for spec in inputs_of(free)}
    for value in [*free.graph.input, *free.graph.output]:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    targets = {node.input[1] for node in free.graph.node if node.op_type == "Reshape"}
    constants = [node for node in free.graph.node if node.op_type == "Constant" and node.output[0] in targets]
    for tensor in [
        *(tensor for tensor in free.graph.initializer if tensor.name in targets),
        *(attribute.t for node in constants for attribute in node.attribute if attribute.name == "value"),
    ]:
        shape = numpy_helper.to_array(tensor).copy()
        if shape.size and int(shape[0]) in old:
            shape[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    del free.graph.value_info[:]
    return free


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name; texts as bytes, tensors as TensorProto, as onnx gives them."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def consumers_of(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """Return the nodes that read a tensor."""
    return [node for node in graph.node if name in node.input]


def replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node read `new` wherever it reads `old`."""
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new


def one_line(error: Exception, limit: int = 300) -> str:
    """Return an exception's text on one line, cut to `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."
