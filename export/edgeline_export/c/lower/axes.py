"""Operators along axes: reductions, Softmax, ArgMax."""

from __future__ import annotations

import math
from typing import Any

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.loops import nest
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Layout, Step, Struct

_REDUCTIONS = {
    "ReduceSum": "EDGELINE_REDUCE_SUM",
    "ReduceMean": "EDGELINE_REDUCE_SUM",
    "ReduceMax": "EDGELINE_REDUCE_MAX",
    "ReduceMin": "EDGELINE_REDUCE_MIN",
}


def lower_reduce(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of a sum, mean, maximum or minimum over some axes."""
    a = operation.attributes
    x, y = lowering.layout(operation.inputs[0]), lowering.layout(operation.output)
    axes = a["axes"]
    others, to = _others(x, y, axes, keepdims=a["keepdims"])
    sizes, (to, strides) = nest([x.shape[i] for i in others], to, [x.strides[i] for i in others])
    counts, (along,) = nest([x.shape[i] for i in axes], [x.strides[i] for i in axes])
    numbers = math.prod(x.shape[i] for i in axes)
    members = {
        "operation": _REDUCTIONS[operation.operator],
        "sizes": sizes,
        "to": to,
        "from": strides,
        "counts": counts,
        "along": along,
        "share": 1.0 / numbers if operation.operator == "ReduceMean" else 1.0,
        "from_sample": x.size,
        "to_sample": y.size,
        "activations": activation_members(operation.fused),
    }
    return [_step(operation, lowering, "reduce_f32", "edgeline_reduce_f32", Struct("edgeline_reduce", members))]


def lower_softmax(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of a Softmax."""
    axis = operation.attributes["axis"]
    y = lowering.layout(operation.output)
    members = {**_axis_members(operation, lowering, keepdims=True), "to_axis": y.strides[axis]}
    return [_step(operation, lowering, "axis_f32", "edgeline_softmax_f32", Struct("edgeline_axis", members))]


def lower_argmax(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of an ArgMax, which writes int64."""
    a = operation.attributes
    members = {
        **_axis_members(operation, lowering, keepdims=a["keepdims"]),
        "select_last_index": int(a["select_last_index"]),
    }
    return [_step(operation, lowering, "axis_f32", "edgeline_argmax_f32", Struct("edgeline_axis", members))]


def _axis_members(operation: Operation, lowering: Lowering, *, keepdims: bool) -> dict[str, Any]:
    axis = operation.attributes["axis"]
    x, y = lowering.layout(operation.inputs[0]), lowering.layout(operation.output)
    others, to = _others(x, y, (axis,), keepdims=keepdims)
    sizes, (to, strides) = nest([x.shape[i] for i in others], to, [x.strides[i] for i in others])
    return {
        "sizes": sizes,
        "to": to,
        "from": strides,
        "count": x.shape[axis],
        "from_axis": x.strides[axis],
        "from_sample": x.size,
        "to_sample": y.size,
    }


def _others(x: Layout, y: Layout, axes: tuple[int, ...], *, keepdims: bool) -> tuple[list[int], list[int]]:
    """Return the dimensions of x that are none of `axes`, and the output's strides along them."""
    others = [i for i in range(len(x.shape)) if i not in axes]
    return others, [y.strides[i] for i in others] if keepdims else list(y.strides)


def _step(operation: Operation, lowering: Lowering, kernel: str, function: str, layer: Struct) -> Step:
    x, y = lowering.layout(operation.inputs[0]), lowering.layout(operation.output)
    return Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel=kernel,
        call=f"{function}({{layer}}, {{x}}{plus(x.offset)}, {{y}}{plus(y.offset)}, {{rows}})",
        reads=operation.inputs[:1],
        writes=operation.output,
        layer=layer,
        takes_rows=True,
    )
