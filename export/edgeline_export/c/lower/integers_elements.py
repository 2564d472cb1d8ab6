"""Integer operators that go element by element, by strides: QuantizeLinear, DequantizeLinear, tables, copies, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.passes.tables import table_of
from edgeline_export.c.program import Layout, Parameter, Step, Struct, contiguous

_DIMENSIONS = 6  # EDGELINE_WALK_DIMENSIONS of kernels/walk_u8.c


def lower_quantize(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step from floats to bytes; int8 is written as uint8 with its highest bit turned."""
    y = lowering.tensor(operation.output)
    flip = 128 if y.dtype == "int8" else 0
    a = operation.attributes
    grid = {"low": 0, "high": 255, "zero_point": a["zero_point"] + flip}
    members = {"grid": grid, "scale": float(a["scale"]), "flip": flip}
    return [_linear(operation, lowering, members, "edgeline_quantise({layer}, {x}, (uint8_t *){y})")]


def lower_dequantize(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step from bytes to floats."""
    x = lowering.tensor(operation.inputs[0])
    if x.dtype not in ("int8", "uint8"):
        raise InputError(f"DequantizeLinear '{operation.nodes[0]}': an activation of {x.dtype}, where bytes are taken")
    flip = 128 if x.dtype == "int8" else 0
    a = operation.attributes
    members = {"scale": float(a["scale"]), "zero_a": a["zero_point"] + flip, "flip": flip}
    return [_linear(operation, lowering, members, "edgeline_dequantise({layer}, (const uint8_t *){x}, {y})")]


def _linear(operation: Operation, lowering: Lowering, members: dict[str, Any], call: str) -> Step:
    x, y = lowering.layout(operation.inputs[0]), lowering.layout(operation.output)
    return Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="walk_u8",
        call=call.replace("{x}", f"{{x}}{plus(x.offset)}").replace("{y}", f"({{y}}{plus(y.offset)})"),
        reads=(operation.inputs[0],),
        writes=operation.output,
        layer=Struct("edgeline_walk", {**walk_members([x, y], y.shape), **members}),
    )


def lower_table(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of a table that no layer took in."""
    name, table = operation.inputs[0], operation.attributes["table"]
    x, y = lowering.layout(name), lowering.layout(operation.output)
    title = title_of(operation, lowering)
    parameter = Parameter(table, f"{operation.operator} of every number")
    return [move_step(title, name, x, operation.output, y, operation.nodes, table=parameter)]


def lower_integer_reshape(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return no step where the same memory serves, else a copy into ONNX's order."""
    name = operation.inputs[0]
    source, result = lowering.layout(name), lowering.layout(operation.output)
    if result.source is not None and (name, operation.output) != (lowering.network.input, lowering.network.output):
        return []
    title = title_of(operation, lowering)
    return [move_step(title, name, source, operation.output, contiguous(source.shape), operation.nodes)]


def lower_integer_transpose(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of a Transpose: the input walked in the output's order."""
    name = operation.inputs[0]
    x, y = lowering.layout(name), lowering.layout(operation.output)
    perm = operation.attributes.get("perm") or tuple(reversed(range(len(x.shape))))
    turned = Layout(y.shape, tuple(x.strides[axis] for axis in perm), x.offset, x.size)
    return [move_step(title_of(operation, lowering), name, turned, operation.output, y, operation.nodes)]


def lower_pair(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of a QLinearAdd or QLinearMul; factors in float32, in ONNX Runtime's order."""
    a, b = (lowering.tensor(name) for name in operation.inputs)
    y = lowering.tensor(operation.output)
    scale_a, scale_b, scale_y = (np.float32(tensor.scale) for tensor in (a, b, y))
    grid: dict[str, Any] = {"grid": grid_members(operation.attributes["range"], y)}
    if operation.operator == "QLinearAdd":
        of_a, of_b = scale_a / scale_y, scale_b / scale_y
        fixed = np.float32(y.zero_point) - (of_a * np.float32(a.zero_point) + of_b * np.float32(b.zero_point))
        members = {"factor_a": float(of_a), "factor_b": float(of_b), "fixed": float(fixed)}
        grid["grid"]["zero_point"] = 0  # it is in the fixed part, and rounded with it
    else:
        factor = float(scale_a * scale_b / scale_y)
        members = {"zero_a": a.zero_point, "zero_b": b.zero_point, "factor_a": factor}
    layouts = [lowering.layout(name) for name in (*operation.inputs, operation.output)]
    x, x1, to = (plus(layout.offset) for layout in layouts)
    add = int(operation.operator == "QLinearAdd")
    return [
        Step(
            title=title_of(operation, lowering),
            nodes=operation.nodes,
            kernel="walk_u8",
            call=f"edgeline_pair_u8({{layer}}, {{x}}{x}, {{x1}}{x1}, {{y}}{to}, {add})",
            reads=operation.inputs,
            writes=operation.output,
            layer=Struct("edgeline_walk", {**walk_members(layouts, y.shape), **grid, **members}),
        )
    ]


def lower_integer_concat(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return one step that copies all parts to their places, by a table where a part has another grid."""
    y, layout = lowering.tensor(operation.output), lowering.layout(operation.output)
    axis, at = operation.attributes["axis"] % len(y.shape), 0
    calls, parts = [], []
    tables: list[Parameter] = []
    for i, name in enumerate(operation.inputs):
        tensor, given = lowering.tensor(name), lowering.layout(name)
        parts.append(walk_members([given, replaced_shape(layout, tensor.shape)], tensor.shape))
        table = "NULL"
        if (tensor.scale, tensor.zero_point) != (y.scale, y.zero_point):
            table = f"{{w{len(tables)}}}"
            what = f"{name} on the grid of {operation.output}"
            tables.append(Parameter(table_of(lowering.network, (), tensor, y), what))
        place = f"{{y}}{plus(layout.offset + at * layout.strides[axis])}"
        source = f"{{x{i or ''}}}{plus(given.offset)}"
        calls.append(f"edgeline_move_u8(&({{layer}})->parts[{i}], {table}, {source}, {place})")
        at += tensor.shape[axis]
    return [
        Step(
            title=title_of(operation, lowering),
            nodes=operation.nodes,
            kernel="walk_u8",
            call=";\n    ".join(calls),
            reads=operation.inputs,
            writes=operation.output,
            layer=Struct("edgeline_walks", {"parts": parts}),
            parameters=tuple(tables),
        )
    ]


def replaced_shape(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """Return a part of a layout: other sizes, the same strides."""
    return Layout(shape, layout.strides, layout.offset, layout.size)


def move_step(
    title: str,
    source: str,
    given: Layout,
    target: str,
    wanted: Layout,
    nodes: tuple[str, ...] = (),
    *,
    table: Parameter | None = None,
    dtype: str = "uint8",
) -> Step:
    """Return the step that brings a tensor from one layout to another, by a table if there is one; floats too."""
    members = walk_members([given, wanted], given.shape)
    ends = f"{{x}}{plus(given.offset)}", f"{{y}}{plus(wanted.offset)}"
    kernel, call = "walk_f32", f"edgeline_move_f32({{layer}}, {ends[0]}, {ends[1]})"
    if dtype != "float32":  # signed bytes are moved as they are
        numbers = "NULL" if table is None else "{w0}"
        kernel = "walk_u8"
        call = f"edgeline_move_u8({{layer}}, {numbers}, (const uint8_t *){ends[0]}, (uint8_t *){ends[1]})"
    return Step(
        title=title,
        nodes=nodes,
        kernel=kernel,
        call=call,
        reads=(source,),
        writes=target,
        layer=Struct("edgeline_walk", members),
        parameters=() if table is None else (table,),
        made=(Tensor(target, given.shape, dtype), wanted),
    )


def grid_members(between: tuple[int, int], y: Tensor) -> dict[str, int]:
    """Return the members of edgeline_grid; floats have none."""
    return {"low": between[0], "high": between[1], "zero_point": y.zero_point}


def walk_members(layouts: Sequence[Layout], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return sizes and strides: dimensions that lie behind each other in all layouts are one.

    The last dimension is one whose numbers lie beside each other, in all layouts if there is one, else in the first.
    """
    axes = [[n, *(layout.strides[i] for layout in layouts)] for i, n in enumerate(shape) if n > 1]
    axes.sort(key=lambda axis: -axis[-1])
    merged: list[list[int]] = []
    for axis in axes:
        if merged and all(outer == axis[0] * inner for outer, inner in zip(merged[-1][1:], axis[1:], strict=True)):
            merged[-1] = [merged[-1][0] * axis[0], *axis[1:]]
        else:
            merged.append(axis)
    merged.sort(key=lambda axis: (all(s == 1 for s in axis[1:]), axis[1] == 1))
    if len(merged) > _DIMENSIONS:
        raise InputError(f"a tensor of {len(shape)} dimensions, where the C format walks {_DIMENSIONS}")
    padded: npt.NDArray[np.int64] = np.array([[1, *([0] * len(layouts))]] * (_DIMENSIONS - len(merged)) + merged)
    names = ("x", "y") if len(layouts) == 2 else ("x", "x1", "y")
    columns = padded.T.tolist()
    return {"sizes": columns[0], **dict(zip(names, columns[1:], strict=True))}
