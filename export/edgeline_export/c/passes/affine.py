"""scale * x + shift, with constants: brought into one form and moved to where it costs nothing.

Mul, Add, Sub and Div by a constant, Neg and BatchNormalization become Affine, whose scale and shift are constants of
x's rank that may vary along any dimension. Neighbours become one. It goes into the weights of the Conv, Gemm or MatMul
before or behind it; to get there it passes a pooling or a Reshape. What is left with one scale and one shift for all
numbers becomes Scale, an activation. All of it is exact but for rounding; products are taken in double precision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Network, Operation
from edgeline_export.c.passes.draft import Draft
from edgeline_export.c.passes.weights import fold_before, fold_behind

Array = npt.NDArray[Any]


def move_affine(network: Network) -> Network:
    """Return the network with Affine and Scale for arithmetic with constants, as little of it as can be."""
    draft = Draft(network)
    for operation in network.operations:
        _to_affine(draft, operation)
    while any(_step(draft, operation) for operation in draft.operations if operation.operator == "Affine"):
        pass
    for operation in [o for o in draft.operations if o.operator == "Affine"]:
        scale, shift = (draft.constants[name] for name in operation.inputs[1:])
        if scale.size == shift.size == 1:
            a, b = (float(np.float32(values.reshape(-1)[0])) for values in (scale, shift))
            draft.put(
                operation,
                replace(operation, operator="Scale", inputs=operation.inputs[:1], attributes={"a": a, "b": b}),
            )
    return draft.network()


def _to_affine(draft: Draft, operation: Operation) -> None:
    found = _terms(draft, operation)
    if found is None or not draft.is_float(operation):
        return
    x, scale, shift = found
    shape = draft.tensors[x].shape
    if draft.tensors[operation.output].shape != shape:
        return  # the constant makes it larger: arithmetic of two operands
    terms = [np.asarray(values, np.float64) for values in (scale, shift)]
    if not all(_fits(values) for values in terms):
        return
    draft.put(
        operation, _affine(draft, operation, x, *(v.reshape((1,) * (len(shape) - v.ndim) + v.shape) for v in terms))
    )


def _terms(draft: Draft, operation: Operation) -> tuple[str, Array, Array] | None:
    """Return x, scale and shift of an operation that is scale * x + shift."""
    one, zero = np.ones(()), np.zeros(())
    if operation.operator == "Neg":
        return operation.inputs[0], -one, zero
    if operation.operator == "BatchNormalization":
        x, *names = operation.inputs
        scale, shift, mean, variance = (draft.constants[name].astype(np.float64) for name in names)
        factor = scale / np.sqrt(variance + operation.attributes["epsilon"])
        along = (-1,) + (1,) * (len(draft.tensors[x].shape) - 2)
        return x, factor.reshape(along), (shift - mean * factor).reshape(along)
    if operation.operator not in ("Add", "Sub", "Mul", "Div"):
        return None
    first, second = operation.inputs
    if second in draft.constants and first in draft.tensors:
        value = draft.constants[second].astype(np.float64)
        with np.errstate(divide="ignore"):
            return {
                "Add": (first, one, value),
                "Sub": (first, one, -value),
                "Mul": (first, value, zero),
                "Div": (first, 1 / value, zero),
            }[operation.operator]
    if first in draft.constants and second in draft.tensors and operation.operator != "Div":
        value = draft.constants[first].astype(np.float64)
        return {"Add": (second, one, value), "Sub": (second, -one, value), "Mul": (second, value, zero)}[
            operation.operator
        ]
    return None


def _fits(values: Array) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float32)).all())


def _affine(draft: Draft, operation: Operation, x: str, scale: Array, shift: Array) -> Operation:
    name = operation.nodes[-1]
    inputs = (x, draft.constant(f"{name}, scale", scale), draft.constant(f"{name}, shift", shift))
    return Operation("Affine", operation.nodes, inputs, operation.output)


def _step(draft: Draft, affine: Operation) -> bool:
    """Carry out the first rewrite that applies; return whether one did."""
    x, *names = affine.inputs
    scale, shift = (draft.constants[name] for name in names)
    before = draft.producer(x)
    if before is not None and draft.sole_reader(x) is affine and draft.is_float(before):
        if before.operator == "Affine":
            first, second = (draft.constants[name] for name in before.inputs[1:])
            both = scale * first, scale * second + shift
            if all(map(_fits, both)):
                nodes = (*before.nodes, *affine.nodes)
                merged = replace(affine, nodes=nodes)
                draft.put(before)
                draft.put(affine, _affine(draft, merged, before.inputs[0], *both))
                return True
        elif fold_before(draft, before, affine, scale, shift):
            return True
    reader = draft.sole_reader(affine.output)
    if reader is None or not draft.is_float(reader):
        return False
    return _passes_pool(draft, affine, reader, scale, shift) or _goes_behind(draft, affine, reader, scale, shift)


def _by_channel(values: Array) -> bool:
    """Whether an array of rank 4 varies along the channels alone."""
    return values.ndim == 4 and values.size == values.shape[1]


def _passes_pool(draft: Draft, affine: Operation, pool: Operation, scale: Array, shift: Array) -> bool:
    """Let the pooling come first: fewer numbers, and next to the layer that makes them."""
    if not (_by_channel(scale) and _by_channel(shift)):
        return False
    if pool.operator == "MaxPool":
        if not (scale > 0).all():
            return False
    elif pool.operator == "AveragePool":
        if shift.any() and pool.attributes["count_include_pad"] and any(pool.attributes["pads"]):
            return False  # the zeros of the padding are not shifted
    elif pool.operator != "GlobalAveragePool":
        return False
    between = draft.tensor(f"{pool.output}, before '{affine.nodes[-1]}'", draft.tensors[pool.output].shape)
    draft.put(affine, replace(pool, inputs=affine.inputs[:1], output=between))
    draft.put(pool, replace(affine, inputs=(between, *affine.inputs[1:]), output=pool.output))
    return True


def _goes_behind(draft: Draft, affine: Operation, reader: Operation, scale: Array, shift: Array) -> bool:
    """Fold it into the weights behind it, also through the Reshape that flattens."""
    if reader.operator != "Reshape":
        return fold_behind(draft, reader, affine.inputs[0], scale, shift, affine.nodes)
    matrix = draft.sole_reader(reader.output)
    source, shape = draft.tensors[affine.inputs[0]].shape, draft.tensors[reader.output].shape
    if matrix is None or len(shape) != 2 or shape[0] != 1 or not draft.is_float(matrix):
        return False
    flat = [np.broadcast_to(values, source).reshape(shape) for values in (scale, shift)]
    if not fold_behind(draft, matrix, reader.output, flat[0], flat[1], affine.nodes):
        return False
    draft.put(reader, replace(reader, inputs=affine.inputs[:1]))
    draft.put(affine)
    return True
