"""The ONNX graph itself: made clean, checked, and read for its inputs, outputs and precision.

One graph leaves this module in one form: opset 20, IR version 10, one file, no traces of the machine that made it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import onnx
from onnx import TensorProto, numpy_helper

from edgeline.errors import GateError, InputError
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
_PRECISION_OF: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """The share (0 to 1) of multiply-accumulates and of weights in each precision, in Conv, Gemm and MatMul."""

    macs: dict[str, float]
    weights: dict[str, float]


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


def coverage_of(model: onnx.ModelProto) -> Coverage:
    """Read from the graph in which precision its weights are stored and its multiply-accumulates are done."""
    producers = {name: node for node in model.graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes = {
        value.name: [max(d.dim_value, 1) for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]
    }
    macs: defaultdict[str, int] = defaultdict(int)
    weights: defaultdict[str, int] = defaultdict(int)
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        tensor = _weight(node.input[1], producers, initializers)
        if tensor is None:
            continue
        precision = _PRECISION_OF.get(tensor.data_type, "other")
        count = 1
        for size in tensor.dims:
            count *= size
        positions = 1
        if node.op_type == "Conv":
            for size in shapes.get(node.output[0], [1, 1])[2:]:
                positions *= size
        weights[precision] += count
        macs[precision] += count * positions
    return Coverage(_shares(macs), _shares(weights))


def check_precision(coverage: Coverage, asked: str) -> None:
    """Raise GateError unless every Conv, Gemm and MatMul holds its weights in the precision that was asked for."""
    others = {name: share for name, share in coverage.weights.items() if name != asked}
    if others:
        found = ", ".join(f"{share:.1%} {name}" for name, share in others.items())
        raise GateError(f"{asked} was asked for, but the graph's weights are {found}; nothing was written")


def _weight(
    name: str, producers: dict[str, onnx.NodeProto], initializers: dict[str, onnx.TensorProto]
) -> onnx.TensorProto | None:
    """Follow a weight operand back to its initializer, through Cast, DequantizeLinear and the like."""
    while name not in initializers:
        node = producers.get(name)
        if node is None or not node.input or node.op_type in ("Conv", "Gemm", "MatMul"):
            return None
        name = node.input[0]
    return initializers[name]


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items())} if total else {}


def one_line(error: Exception, limit: int = 300) -> str:
    """Return an exception's text on one line, cut to `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."
