"""Constants that a Q/DQ graph keeps as integers: what their float numbers stand for.

DequantizeLinear of a constant becomes a constant of floats, so that every operator finds its weights where it looks for
them; what it was made of goes into Network.levels, where the pass to integers finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgeline_export.c.ir import Levels
from edgeline_export.graph import attributes_of

_QUANTISED = ("int8", "uint8", "int32")


def with_constants_of_floats(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Levels]]:
    """Return the graph with Q and DQ of constants computed, and what each float constant was made of, by name.

    Types and attributes that the generator does not know stay as they are: the reader refuses them, by node.
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    levels: dict[str, Levels] = {}
    for node in list(plain.graph.node):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or any(n not in constants for n in node.input):
            continue
        given = [constants[name] for name in node.input]
        attributes = attributes_of(node)
        if attributes.get("block_size", 0) or any(v.ndim > 1 for v in given[1:]) or given[1].dtype != np.float32:
            continue
        made = _quantised(node, given, attributes) if node.op_type == "QuantizeLinear" else None
        if node.op_type == "DequantizeLinear" and given[0].dtype.name in _QUANTISED:
            zero = given[2] if len(given) > 2 else np.zeros_like(given[1], given[0].dtype)
            found = Levels(given[0], given[1], zero, int(attributes.get("axis", 1)), node.name or node.output[0])
            levels[node.output[0]], made = found, found.floats()
        if made is not None:
            constants[node.output[0]] = made
            plain.graph.initializer.append(numpy_helper.from_array(made, node.output[0]))
            plain.graph.node.remove(node)
    return plain, levels


def _quantised(
    node: onnx.NodeProto, given: list[npt.NDArray[Any]], attributes: Mapping[str, Any]
) -> npt.NDArray[Any] | None:
    """Return QuantizeLinear of a constant: x / scale rounded half to even, plus the zero point, saturated."""
    x, scale = given[:2]
    zero = given[2] if len(given) > 2 else np.zeros((), np.uint8)
    if x.dtype != np.float32 or zero.dtype.name not in ("int8", "uint8") or len(node.input) < 3:
        return None
    shape = [1] * x.ndim
    if scale.ndim:
        shape[int(attributes.get("axis", 1))] = -1
    ends = np.iinfo(zero.dtype)
    rounded = np.rint(x / scale.reshape(shape)).astype(np.float64) + zero.astype(np.float64).reshape(shape)
    return np.asarray(np.clip(rounded, ends.min, ends.max), zero.dtype).reshape(x.shape)
