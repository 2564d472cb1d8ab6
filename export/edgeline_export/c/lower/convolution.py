"""Conv in float32, with what is fused behind it: output channels in the lanes, or pixels of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, blocked, filled, plus
from edgeline_export.c.lower.layouts import POOLS, runs_planar
from edgeline_export.c.lower.moving import copy_step
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Layout, Parameter, Step, Struct, channels_last

_POOL_KINDS = {"MaxPool": "EDGELINE_MAX_POOL", "AveragePool": "EDGELINE_AVERAGE_POOL"}
_TILE_BLOCKS = 4
PARALLEL_MACS = 1 << 21  # below, a thread's waking costs more than it saves


def lower_conv(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a Conv: its input padded where it is not yet, then the layer."""
    if runs_planar(lowering.network, lowering.target, operation):
        return _planar(operation, lowering)
    return _by_channels(operation, lowering)


def _by_channels(operation: Operation, lowering: Lowering) -> list[Step]:
    a, block = operation.attributes, lowering.target.block
    padding, source, x = _padded(operation, lowering)
    weight, bias = _weights(operation, lowering)
    channels, in_channels, kernel_rows, kernel_columns = weight.shape
    y = lowering.layout(operation.output)
    pool = _pool_of(operation)
    all_channels = blocked(channels, block)
    last = x.strides[1] == 1
    packed = filled(weight, all_channels, 0).reshape(-1, block, in_channels, kernel_rows, kernel_columns)
    packed = packed.transpose((0, 3, 4, 2, 1) if last else (0, 2, 3, 4, 1))
    kernel = [
        {"count": kernel_rows, "stride": x.strides[2] * a["dilations"][0]},
        {"count": kernel_columns, "stride": x.strides[3] * a["dilations"][1]},
    ]
    inner = {"count": in_channels, "stride": x.strides[1]}
    taps = [*kernel, inner] if last else [inner, *kernel]
    if last and kernel[1]["stride"] == in_channels:
        taps = [{"count": 1, "stride": 0}, kernel[0], {"count": kernel_columns * in_channels, "stride": 1}]
    _, _, rows, columns = lowering.tensor(operation.output).shape
    pool_rows, pool_columns = (1, 1) if pool is None else pool.attributes["kernel_shape"]
    members = {
        "channels": channels,
        "out_channels": all_channels,
        "rows": rows,
        "columns": columns,
        "taps": taps,
        "in_row": x.strides[2] * a["strides"][0],
        "in_column": x.strides[3] * a["strides"][1],
        "out_row": y.strides[2],
        "out_column": y.strides[3],
        "blocks": _blocks_of_a_tile(all_channels // block),
        **_pooling(operation, pool, pool_rows, pool_columns),
    }
    macs = weight.size * rows * columns * pool_rows * pool_columns
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="conv2d_f32",
        call=(
            f"edgeline_conv2d_f32({{layer}}, {{x}}{plus(_corner(x, a))}, {{w0}}, {{w1}}, {{y}}{plus(y.offset)}, "
            "{part}, {parts})"
        ),
        reads=(source,),
        writes=operation.output,
        layer=Struct("edgeline_conv2d", members),
        parameters=(
            Parameter(np.ascontiguousarray(packed, np.float32), f"{operation.inputs[1]} in blocks of {block} channels"),
            Parameter(filled(bias, all_channels, 0), _bias_name(operation)),
        ),
        macs=macs,
        parallel=macs >= PARALLEL_MACS,
    )
    return [*padding, step]


def _planar(operation: Operation, lowering: Lowering) -> list[Step]:
    a = operation.attributes
    weight, bias = _weights(operation, lowering)
    channels, in_channels, kernel_rows, kernel_columns = weight.shape
    pool = _pool_of(operation)
    pool_rows, pool_columns = (1, 1) if pool is None else pool.attributes["kernel_shape"]
    phases = a["strides"][1] * pool_columns
    name = operation.inputs[0]
    x, y = lowering.layout(name), lowering.layout(operation.output)
    _, _, height, width = lowering.tensor(name).shape
    _, _, rows, columns = lowering.tensor(operation.output).shape
    top, left, bottom, right = a["pads"]
    phase_columns = -(-(width + left + right) // phases)
    in_row = phase_columns * phases
    in_channel = in_row * (height + top + bottom)
    # A vector that begins at the last number of the copy reads a block beyond it.
    copied_bytes = 4 * (in_channel * in_channels + max(lowering.target.block, blocked(columns, lowering.target.block)))
    members = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "in_channels": in_channels,
        "kernel_rows": kernel_rows,
        "kernel_columns": kernel_columns,
        "stride_rows": a["strides"][0],
        "stride_columns": a["strides"][1],
        "dilation_rows": a["dilations"][0],
        "dilation_columns": a["dilations"][1],
        "height": height,
        "width": width,
        "pad_top": top,
        "pad_left": left,
        "x_channel": x.strides[1],
        "x_row": x.strides[2],
        "x_column": x.strides[3],
        "phases": phases,
        "phase_columns": phase_columns,
        "in_row": in_row,
        "in_channel": in_channel,
        "copied_bytes": copied_bytes,
        "out_row": y.strides[2],
        "out_channel": y.strides[1],
        "pooling": _pooling(operation, pool, pool_rows, pool_columns),
    }
    packed = np.ascontiguousarray(weight.transpose(1, 2, 3, 0), np.float32)
    return [
        Step(
            title=title_of(operation, lowering),
            nodes=operation.nodes,
            kernel="conv2d_planar_f32",
            call=f"edgeline_conv2d_planar_f32({{layer}}, {{x}}{plus(x.offset)}, {{scratch}}, {{w0}}, {{w1}}, {{y}})",
            reads=(name,),
            writes=operation.output,
            layer=Struct("edgeline_conv2d_planar", members),
            parameters=(
                Parameter(packed, f"{operation.inputs[1]}, its output channels innermost"),
                Parameter(bias, _bias_name(operation)),
            ),
            scratch_bytes=copied_bytes,
            macs=weight.size * rows * columns * pool_rows * pool_columns,
        )
    ]


def _padded(operation: Operation, lowering: Lowering) -> tuple[list[Step], str, Layout]:
    """Return the input with at least the padding that the Conv needs, and the step that copies it where it has less."""
    name, pads = operation.inputs[0], operation.attributes["pads"]
    layout = lowering.layout(name)
    if all(has >= needs for has, needs in zip(_room(layout), pads, strict=True)):
        return [], name, layout
    wide = channels_last(layout.shape, pads, 0)
    copy = f"{name}, padded for {operation.nodes[0]}"
    return [copy_step(f"Pad for {operation.nodes[0]}", name, layout, copy, wide)], copy, wide


def _room(layout: Layout) -> tuple[int, int, int, int]:
    """Return the rows and columns of padding that a layout of [n, c, h, w] has: top, left, bottom, right."""
    if layout.fill is None:
        return (0, 0, 0, 0)
    h, w = layout.shape[2:]
    row, column = layout.strides[2:]
    top, left = layout.offset // row, layout.offset % row // column
    return top, left, layout.size // row - top - h, row // column - left - w


def _corner(layout: Layout, attributes: Mapping[str, Any]) -> int:
    """Return where the first tap of the first pixel lies."""
    top, left = (int(pad) for pad in attributes["pads"][:2])
    return layout.offset - top * layout.strides[2] - left * layout.strides[3]


def _weights(operation: Operation, lowering: Lowering) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    weight = lowering.constant(operation.inputs[1])
    has_bias = len(operation.inputs) > 2 and operation.inputs[2]
    bias = lowering.constant(operation.inputs[2]) if has_bias else np.zeros(len(weight), np.float32)
    return weight, bias


def _bias_name(operation: Operation) -> str:
    return operation.inputs[2] if len(operation.inputs) > 2 and operation.inputs[2] else "no bias"


def _pool_of(operation: Operation) -> Operation | None:
    return next((o for o in operation.fused if o.operator in POOLS), None)


def _pooling(operation: Operation, pool: Operation | None, rows: int, columns: int) -> dict[str, Any]:
    """Return the members that say what happens to the sums: activations, the pooling, activations behind it."""
    at = len(operation.fused) if pool is None else operation.fused.index(pool)
    return {
        "pool": "EDGELINE_NO_POOL" if pool is None else _POOL_KINDS[pool.operator],
        "pool_rows": rows,
        "pool_columns": columns,
        "activations": activation_members(operation.fused[:at]),
        "behind": activation_members(operation.fused[at + 1 :]),
    }


def _blocks_of_a_tile(blocks: int) -> int:
    """Return how many blocks of channels a tile takes: at most _TILE_BLOCKS, and no tile left with a small rest."""
    tiles = math.ceil(blocks / _TILE_BLOCKS)
    return math.ceil(blocks / tiles)
