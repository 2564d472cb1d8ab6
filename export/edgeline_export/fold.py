"""A float graph made plain before it is quantised: what can be merged into weights is merged, what does nothing goes.

Constants become initializers, Identity and inference-time Dropout disappear, local functions are inlined, a MatMul and
the Add of its bias become one Gemm, and BatchNormalization and the alpha and beta of Gemm go into the weights before
them: their ranges are then those that the device computes with. Only exact rewrites: the result differs by rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeline.errors import InputError
from edgeline_export.graph import attributes_of, consumers_of, replace_input

_REARRANGES = ("Cast", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
# The attributes in which a Constant holds plain numbers, beside the tensor `value`.
_CONSTANT_KINDS = {
    "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a plain copy of a clean float graph; its inputs and outputs keep their names.

    Raises InputError for a Constant of texts or of a sparse tensor, by name.
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(onnx.inliner.inline_local_functions(model) if model.functions else model)
    _constants_to_initializers(plain.graph)
    _compute_constants(plain.graph)
    _drop_no_ops(plain.graph)
    _matmul_and_bias_to_gemm(plain.graph)
    for node in list(plain.graph.node):
        if node.op_type == "BatchNormalization":
            _fold_batch_normalization(plain.graph, node)
        elif node.op_type == "Gemm":
            _fold_gemm_factors(plain.graph, node)
    _drop_unused_initializers(plain.graph)
    return plain


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        values = attributes_of(node)
        tensor = values.get("value")
        if tensor is None:
            name, raw = next(iter(values.items()))
            if name not in _CONSTANT_KINDS:
                raise InputError(
                    f"the Constant '{node.name or node.output[0]}' holds {name}, where value or "
                    f"{', '.join(_CONSTANT_KINDS)} are taken; export this network in fp32"
                )
            tensor = numpy_helper.from_array(np.asarray(raw, _CONSTANT_KINDS[name]))
        constant = onnx.TensorProto()
        constant.CopyFrom(tensor)
        constant.name = node.output[0]
        graph.initializer.append(constant)
        graph.node.remove(node)


def _compute_constants(graph: onnx.GraphProto) -> None:
    """Replace a node that rearranges constants by its result: weights are then seen as such behind a Transpose."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type in _REARRANGES]:
        given = [name for name in node.input if name]
        if given and all(name in values for name in given):
            arrays = {name: numpy_helper.to_array(values[name]) for name in given}
            (result,) = ReferenceEvaluator(node).run(None, arrays)
            graph.initializer.append(numpy_helper.from_array(np.asarray(result), node.output[0]))
            values[node.output[0]] = graph.initializer[-1]
            graph.node.remove(node)


def _drop_no_ops(graph: onnx.GraphProto) -> None:
    """Identity, and Dropout outside training, hand their input on. One that makes a graph output stays."""
    outputs = {value.name for value in graph.output}
    for node in [n for n in graph.node if n.op_type in ("Identity", "Dropout")]:
        trains = node.op_type == "Dropout" and len(node.input) == 3
        unused_mask = len(node.output) == 1 or not consumers_of(graph, node.output[1])
        if node.output[0] not in outputs and not trains and unused_mask:
            for consumer in consumers_of(graph, node.output[0]):
                replace_input(consumer, node.output[0], node.input[0])
            graph.node.remove(node)


def _matmul_and_bias_to_gemm(graph: onnx.GraphProto) -> None:
    """Join x W + b, as other exporters write a linear layer, where x is [n, k], W [k, m] and b [m] or [1, m]."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in [*graph.input, *graph.value_info]}
    outputs = {value.name for value in graph.output}
    for matmul in [n for n in graph.node if n.op_type == "MatMul"]:
        readers = consumers_of(graph, matmul.output[0])
        weight = values.get(matmul.input[1])
        if len(readers) != 1 or readers[0].op_type != "Add" or weight is None or len(weight.dims) != 2:
            continue
        add = readers[0]
        bias = values.get(add.input[1] if add.input[0] == matmul.output[0] else add.input[0])
        is_row = bias is not None and list(bias.dims) in ([weight.dims[1]], [1, weight.dims[1]])
        if bias is not None and is_row and ranks.get(matmul.input[0]) == 2 and matmul.output[0] not in outputs:
            matmul.op_type = "Gemm"
            matmul.input.append(bias.name)
            matmul.output[0] = add.output[0]
            graph.node.remove(add)


def _fold_batch_normalization(graph: onnx.GraphProto, norm: onnx.NodeProto) -> None:
    """Merge (x - mean) / sqrt(var + epsilon) * scale + shift into the Conv or Gemm that makes x, where it can be."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    before = next((n for n in graph.node if norm.input[0] in n.output), None)
    outputs = {value.name for value in graph.output}
    if (
        before is None
        or before.op_type not in ("Conv", "Gemm")
        or len(consumers_of(graph, norm.input[0])) != 1
        or norm.input[0] in outputs
        or any(name not in values for name in [*norm.input[1:], *before.input[1:]])
    ):
        return
    if before.op_type == "Gemm":
        _fold_gemm_factors(graph, before)
        values = {tensor.name: tensor for tensor in graph.initializer}
    scale, shift, mean, variance = (numpy_helper.to_array(values[n]).astype(np.float64) for n in norm.input[1:5])
    factor = scale / np.sqrt(variance + attributes_of(norm).get("epsilon", 1e-5))
    weight = numpy_helper.to_array(values[before.input[1]]).astype(np.float64)
    along = output_axis(before)
    bias = numpy_helper.to_array(values[before.input[2]]).astype(np.float64) if len(before.input) > 2 else 0.0
    _set_weight(graph, before, weight * _along(factor, weight.ndim, along))
    _set_bias(graph, before, (bias - mean) * factor + shift)
    before.output[0] = norm.output[0]
    graph.node.remove(norm)


def _fold_gemm_factors(graph: onnx.GraphProto, gemm: onnx.NodeProto) -> None:
    """Merge alpha and beta into constant weights and bias."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    attributes = attributes_of(gemm)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    has_bias = len(gemm.input) > 2
    if (alpha, beta) == (1.0, 1.0) or gemm.input[1] not in values or (has_bias and gemm.input[2] not in values):
        return
    _set_weight(graph, gemm, numpy_helper.to_array(values[gemm.input[1]]) * alpha)
    if has_bias:
        _set_bias(graph, gemm, numpy_helper.to_array(values[gemm.input[2]]) * beta)
    for name in ("alpha", "beta"):
        for attribute in [a for a in gemm.attribute if a.name == name]:
            gemm.attribute.remove(attribute)


def output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a Conv's, Gemm's or MatMul's weight that runs over the output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attributes_of(node).get("transB", 0) else 1
    return -1


def _along(vector: npt.NDArray[Any], dimensions: int, axis: int) -> npt.NDArray[Any]:
    shape = [1] * dimensions
    shape[axis] = -1
    return vector.reshape(shape)


def _set_weight(graph: onnx.GraphProto, node: onnx.NodeProto, values: npt.NDArray[Any]) -> None:
    node.input[1] = _add(graph, f"{node.input[1]}_folded", values)


def _set_bias(graph: onnx.GraphProto, node: onnx.NodeProto, values: npt.NDArray[Any]) -> None:
    name = f"{node.input[2] if len(node.input) > 2 else node.input[1] + '_bias'}_folded"
    added = _add(graph, name, values)
    if len(node.input) > 2:
        node.input[2] = added
    else:
        node.input.append(added)


def _add(graph: onnx.GraphProto, name: str, values: npt.NDArray[Any]) -> str:
    """Add an initializer under a name that is free: weights may be shared by several nodes."""
    taken = {tensor.name for tensor in graph.initializer}
    while name in taken:
        name += "_"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
    return name


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        used |= {name for a in node.attribute if a.HasField("g") for n in a.g.node for name in n.input}
    keep = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(keep)
