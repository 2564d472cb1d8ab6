"""Brings operators to the few forms that the rest of the generator knows.

One spatial dimension becomes two, the first of height 1. A mean or maximum over the whole plane becomes a pooling. A
Gemm with computed operands becomes MatMul, Mul and Add. Powers of 1, 1/2 and 2 get operators of their own. A Pad of
zeros goes into the Conv behind it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeline_export.c.ir import Network, Operation
from edgeline_export.c.passes.draft import Draft

_WINDOWED = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool")


def lift(network: Network) -> Network:
    """Return the network in those forms."""
    draft = Draft(network)
    for operation in network.operations:
        if operation.operator in _WINDOWED and len(draft.tensors[operation.output].shape) == 3:
            _to_two_dimensions(draft, operation)
        elif operation.operator in ("ReduceMean", "ReduceMax"):
            _reduce_to_pool(draft, operation)
        elif operation.operator == "Gemm":
            _take_apart(draft, operation)
        elif operation.operator == "Pow":
            _simple_power(draft, operation)
    for operation in [o for o in draft.operations if o.operator == "Pad"]:
        _pad_into_conv(draft, operation)
    return draft.network()


def _to_two_dimensions(draft: Draft, operation: Operation) -> None:
    a = operation.attributes
    (n, c, w), result = draft.tensors[operation.inputs[0]].shape, draft.tensors[operation.output].shape
    wide = draft.tensor(f"{operation.inputs[0]}, height 1", (n, c, 1, w))
    made = draft.tensor(f"{operation.output}, height 1", (*result[:2], 1, result[2]))
    begin, end = a["pads"]
    attributes = {
        **a,
        "kernel_shape": (1, *a["kernel_shape"]),
        "strides": (1, *a["strides"]),
        "dilations": (1, *a["dilations"]),
        "pads": (0, begin, 0, end),
    }
    inputs = [wide, *operation.inputs[1:]]
    if operation.operator == "Conv":
        weight = draft.constants[operation.inputs[1]]
        inputs[1] = draft.constant(f"{operation.inputs[1]}, height 1", weight[:, :, None, :])
    draft.put(
        operation,
        Operation("Reshape", operation.nodes, operation.inputs[:1], wide),
        replace(operation, inputs=tuple(inputs), output=made, attributes=attributes),
        Operation("Reshape", operation.nodes, (made,), operation.output),
    )


def _reduce_to_pool(draft: Draft, operation: Operation) -> None:
    shape = draft.tensors[operation.inputs[0]].shape
    if len(shape) != 4 or operation.attributes["axes"] != (2, 3):
        return
    pool = "GlobalAveragePool" if operation.operator == "ReduceMean" else "MaxPool"
    attributes = {"kernel_shape": shape[2:], "strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0),
                  "count_include_pad": False}  # fmt: skip
    pooled = Operation(pool, operation.nodes, operation.inputs, operation.output, attributes)
    if operation.attributes["keepdims"]:
        draft.put(operation, pooled)
        return
    made = draft.tensor(f"{operation.output}, 1 x 1", (*shape[:2], 1, 1))
    behind = Operation("Reshape", operation.nodes, (made,), operation.output)
    draft.put(operation, replace(pooled, output=made), behind)


def _take_apart(draft: Draft, operation: Operation) -> None:
    """Alpha * A' B' + beta * C, where the Gemm kernel cannot take it: B or C computed, A transposed."""
    a, (first, second, *rest) = operation.attributes, operation.inputs
    third = rest[0] if rest else ""
    bias = draft.constants.get(third)
    plain_bias = not third or (bias is not None and (bias.ndim == 0 or bias.size in (1, bias.shape[-1])))
    if second in draft.constants and first in draft.tensors and not a["transA"] and plain_bias:
        return
    shape = draft.tensors[operation.output].shape
    steps = []

    def add(operator: str, inputs: tuple[str, ...], what: str, made: tuple[int, ...], **attributes: object) -> str:
        output = draft.tensor(f"{operation.output}, {what}", made)
        steps.append(Operation(operator, operation.nodes, inputs, output, attributes))
        return output

    def turned(name: str, what: str) -> str:
        if name in draft.constants:
            return draft.constant(f"{name}, transposed", draft.constants[name].T)
        rows, columns = draft.tensors[name].shape
        return add("Transpose", (name,), what, (columns, rows), perm=(1, 0))

    left = turned(first, "A transposed") if a["transA"] else first
    right = turned(second, "B transposed") if a["transB"] else second
    result = add("MatMul", (left, right), "the product", shape)
    if a["alpha"] != 1:
        result = add("Mul", (result, draft.constant("alpha", np.float32(a["alpha"]))), "times alpha", shape)
    if third:
        if a["beta"] != 1:
            scaled = draft.tensors[third].shape if third in draft.tensors else ()
            factor = np.float32(a["beta"])
            third = (
                draft.constant(f"{third}, times beta", draft.constants[third] * factor)
                if third in draft.constants
                else add("Mul", (third, draft.constant("beta", factor)), "C times beta", scaled)
            )
        add("Add", (result, third), "with C", shape)
    steps[-1] = replace(steps[-1], output=operation.output)
    draft.put(operation, *steps)


def _simple_power(draft: Draft, operation: Operation) -> None:
    exponent = draft.constants.get(operation.inputs[1])
    if exponent is None:
        return
    if exponent.dtype != np.float32:
        exponent = exponent.astype(np.float32)
        name = draft.constant(f"{operation.inputs[1]}, as float", exponent)
        changed = replace(operation, inputs=(operation.inputs[0], name))
        draft.put(operation, changed)
        operation = changed
    operators = {1.0: "Reshape", 0.5: "Sqrt", 2.0: "Square"}
    number = float(exponent.reshape(-1)[0]) if exponent.size == 1 else None
    same_shape = draft.tensors[operation.output].shape == _shape(draft, operation.inputs[0])
    if number in operators and same_shape and operation.inputs[0] in draft.tensors:
        draft.put(operation, replace(operation, operator=operators[number], inputs=operation.inputs[:1]))


def _shape(draft: Draft, name: str) -> tuple[int, ...]:
    return draft.tensors[name].shape if name in draft.tensors else draft.constants[name].shape


def _pad_into_conv(draft: Draft, pad: Operation) -> None:
    a, conv = pad.attributes, draft.sole_reader(pad.output)
    pads = a["pads"]
    if a["mode"] != "constant" or a["value"] != 0 or min(min(pair) for pair in pads) < 0:
        return
    if conv is None or conv.operator != "Conv" or len(pads) != 4 or any(any(pair) for pair in pads[:2]):
        return
    if not draft.is_float(pad):
        return
    added = (pads[2][0], pads[3][0], pads[2][1], pads[3][1])
    widened = tuple(had + more for had, more in zip(conv.attributes["pads"], added, strict=True))
    merged = replace(
        conv,
        nodes=(*pad.nodes, *conv.nodes),
        inputs=(pad.inputs[0], *conv.inputs[1:]),
        attributes={**conv.attributes, "pads": widened},
    )
    draft.put(conv, merged)
