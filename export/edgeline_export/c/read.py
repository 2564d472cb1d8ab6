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
from onnx.reference import ReferenceEvaluator

from edgeline.errors import InputError
from edgeline_export.c.ir import C_TYPES, Network, Operation, Tensor
from edgeline_export.c.levels import with_constants_of_floats
from edgeline_export.c.operators import ATTRIBUTES, OPERATORS, Given
from edgeline_export.fold import folded
from edgeline_export.graph import OPSET, attributes_of, check_ends, inputs_of, one_line, outputs_of

_BATCHES = (2, 3)  # a free batch is followed through the graph by two sizes that no layer is likely to have
# Operators that are computed here where all that they read is constant, beside those that become C.
_ONLY_CONSTANTS = ("Cast", "ConstantOfShape", "Expand", "Gather", "Range", "Shape", "Tile")
_QUANTISED = ("QuantizeLinear", "DequantizeLinear")
# Operators whose numbers may be of any type: they are moved, not computed with.
_ANY_TYPE = (*_QUANTISED, "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
# Operators of which an infinite constant means something.
_TAKE_INFINITY = ("Clip",)


def network_from_onnx(model: onnx.ModelProto, name: str) -> Network:
    """Read a clean graph (edgeline_export.graph.clean_graph) with one input and one output.

    Raises InputError for an operator, an attribute or a type that the generator does not take, a free dimension other
    than the batch, an operator that mixes the samples of a batch, and a weight that is NaN or infinite.
    """
    check_ends(model, name)
    _check_opset(model, name)
    plain, levels = with_constants_of_floats(_without_constant_nodes(folded(model)))
    _refuse_unknown(plain.graph)
    spec = inputs_of(plain)[0]
    free_batch = spec.shape[0] == -1
    shapes = _shapes_per_sample(plain) if free_batch else _shapes(plain)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    _check_constants(plain.graph, constants)
    dtypes = {
        spec.name: spec.dtype,
        **{name: values.dtype.name for name, values in constants.items()},
        **_dtypes(plain),
    }
    operations, tensors = [], {spec.name: _tensor(spec.name, shapes, dtypes)}
    for node in plain.graph.node:
        operations.append(_operation(Given(node, attributes_of(node), shapes, constants, free_batch), dtypes))
        output = node.output[0]
        tensors[output] = _tensor(output, shapes, dtypes)
    result = outputs_of(plain)[0].name
    _check_one_output(plain.graph, result)
    return Network(name, spec.name, result, free_batch, tuple(operations), tensors, constants, levels)


def _operation(given: Given, dtypes: Mapping[str, str]) -> Operation:
    node = given.node
    try:
        unknown = sorted(set(given.attributes) - ATTRIBUTES.get(node.op_type, frozenset()))
        if unknown:
            raise InputError(f"its attribute {', '.join(unknown)} is not known")
        for name, value in given.attributes.items():
            if isinstance(value, float) and not np.isfinite(value):
                raise InputError(f"its {name} is {value}")
        if all(name in given.constants for name in node.input if name):
            raise InputError("it reads constants alone: the network's output does not depend on its input")
        if node.op_type not in _ANY_TYPE and dtypes[node.input[0]] != "float32":
            raise InputError(f"its input '{node.input[0]}' is {dtypes[node.input[0]]}, where float32 is taken")
        return OPERATORS[node.op_type](given)
    except InputError as error:
        raise InputError(f"{_title(node)}: {error}; the C format does not take it") from None


def _tensor(name: str, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]) -> Tensor:
    if 0 in shapes[name]:
        raise InputError(f"'{name}' has the shape {list(shapes[name])}: there is nothing to compute")
    return Tensor(name, shapes[name], _checked_dtype(name, dtypes[name]))


def _check_opset(model: onnx.ModelProto, name: str) -> None:
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version != OPSET:
        raise InputError(f"{name} has opset {version}, where {OPSET} is expected: convert it (onnx.version_converter)")


def _check_one_output(graph: onnx.GraphProto, result: str) -> None:
    """Raise InputError where a node's further outputs are read: every operation here has one."""
    used = {result, *(name for node in graph.node for name in node.input)}
    for node in graph.node:
        found = [name for name in node.output[1:] if name in used]
        if found:
            raise InputError(f"{_title(node)}: its further output '{found[0]}' is used; the C format makes the first")
    if result not in {node.output[0] for node in graph.node}:
        raise InputError(f"the output '{result}' is the input or a constant: there is nothing to generate")


def _without_constant_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the result of each node that reads constants alone in its place, but quantised weights."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    values = {tensor.name: tensor for tensor in plain.graph.initializer}
    outputs = {value.name for value in plain.graph.output}
    for node in list(plain.graph.node):
        known = node.op_type in _ONLY_CONSTANTS or (node.op_type in OPERATORS and node.op_type not in _QUANTISED)
        given = [name for name in node.input if name]
        if not known or not given or any(name not in values for name in given) or outputs & set(node.output):
            continue
        arrays: dict[str, Any] = {name: numpy_helper.to_array(values[name]) for name in given}
        with np.errstate(all="ignore"):
            (result, *_) = ReferenceEvaluator(node).run(None, arrays)
        plain.graph.initializer.append(numpy_helper.from_array(np.asarray(result), node.output[0]))
        values[node.output[0]] = plain.graph.initializer[-1]
        plain.graph.node.remove(node)
    return plain


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
            if values is None or values.dtype.kind != "f":
                continue
            wrong = np.isnan(values) if node.op_type in _TAKE_INFINITY else ~np.isfinite(values)
            if wrong.any():
                raise InputError(f"{_title(node)}: {int(wrong.sum())} of its weights '{name}' are NaN or infinite")


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
    made = {node.output[0]: _title(node) for node in model.graph.node}
    for name, shape in one.items():
        if name in constants or name not in made:
            continue
        for batch, other in zip(_BATCHES, others, strict=True):
            if other[name] != (batch, *shape[1:]) or shape[:1] != (1,):
                raise InputError(
                    f"{made[name]}: '{name}' has the shape {list(other[name])} for a batch of {batch}: the C format "
                    "computes each sample by itself and needs the batch as the first dimension everywhere"
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
