"""An ONNX graph as a Network: constants folded, shapes fixed, every operator's attributes made whole.

What cannot become C is refused here, with the operator, the node and the reason, before anything is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgeline.errors import InputError
from edgeline_export.c.ir import C_TYPES, Network, Operation, Tensor
from edgeline_export.c.operators import OPERATORS, Given
from edgeline_export.fold import folded
from edgeline_export.graph import attributes_of, check_ends, inputs_of, one_line, outputs_of

_BATCHES = (2, 3)  # a free batch is followed through the graph by two sizes that no layer is likely to have


def network_from_onnx(model: onnx.ModelProto, name: str) -> Network:
    """Read a clean graph (edgeline_export.graph.clean_graph) with one input and one output.

    Raises InputError for an operator, an attribute or a type that the generator does not take, a free dimension other
    than the batch, an operator that mixes the samples of a batch, and a weight that is NaN or infinite.
    """
    check_ends(model, name)
    _refuse_unknown(model.graph)
    plain = folded(model)
    spec = inputs_of(plain)[0]
    free_batch = spec.shape[0] == -1
    shapes = _shapes_per_sample(plain) if free_batch else _shapes(plain)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    _check_constants(plain.graph, constants)
    dtypes = _dtypes(plain)
    operations, tensors = [], {spec.name: Tensor(spec.name, shapes[spec.name], _checked_dtype(spec.name, spec.dtype))}
    for node in plain.graph.node:
        operations.append(_operation(Given(node, attributes_of(node), shapes, constants, free_batch)))
        output = node.output[0]
        tensors[output] = Tensor(output, shapes[output], _checked_dtype(output, dtypes[output]))
    result = outputs_of(plain)[0].name
    return Network(name, spec.name, result, free_batch, tuple(operations), tensors, constants)


def _operation(given: Given) -> Operation:
    try:
        return OPERATORS[given.node.op_type](given)
    except InputError as error:
        raise InputError(f"{_title(given.node)}: {error}; the C format does not take it") from None


def _title(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name or node.output[0]}'"


def _refuse_unknown(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            known = ", ".join(sorted(OPERATORS))
            raise InputError(
                f"the C format has no operator {operator} (node '{node.name or node.output[0]}'); it has {known}"
            )


def _checked_dtype(name: str, dtype: str) -> str:
    if dtype not in C_TYPES:
        raise InputError(f"'{name}' is {dtype}; the C format takes {', '.join(C_TYPES)}")
    return dtype


def _check_constants(graph: onnx.GraphProto, constants: Mapping[str, npt.NDArray[Any]]) -> None:
    for node in graph.node:
        for name in node.input:
            values = constants.get(name)
            if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
                count = int((~np.isfinite(values)).sum())
                raise InputError(f"{_title(node)}: {count} of its weights '{name}' are NaN or infinite")


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"the shapes of the graph cannot be told: {one_line(error)}") from None
    found = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
        kind = value.type.tensor_type
        if not kind.HasField("shape") or any(not d.HasField("dim_value") for d in kind.shape.dim):
            raise InputError(
                f"the shape of '{value.name}' is not fixed: the C format plans its memory ahead, and only the batch "
                "may be free"
            )
        found[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    for node in model.graph.node:
        if node.output[0] not in found:
            raise InputError(f"{_title(node)}: the shape of its output cannot be told")
    return found


def _shapes_per_sample(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes at batch 1; raise InputError where a tensor's first dimension is not the batch."""
    one, *others = (_shapes(_with_batch(model, batch)) for batch in (1, *_BATCHES))
    constants = {tensor.name for tensor in model.graph.initializer}
    for name, shape in one.items():
        if name in constants:
            continue
        for batch, other in zip(_BATCHES, others, strict=True):
            if other[name] != (batch, *shape[1:]) or shape[:1] != (1,):
                raise InputError(
                    f"'{name}' has the shape {list(other[name])} for a batch of {batch}: the C format computes each "
                    "sample by itself and needs the batch as the first dimension everywhere"
                )
    return one


def _with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    return fixed


def _dtypes(model: onnx.ModelProto) -> dict[str, str]:
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return {
        value.name: str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in [*inferred.graph.value_info, *inferred.graph.output]
    }
