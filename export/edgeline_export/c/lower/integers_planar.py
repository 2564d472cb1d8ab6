"""QLinearConv of one input channel with few output channels: the pixels of a row in the lanes."""

from __future__ import annotations

import numpy as np

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.context import Lowering, blocked, filled, plus
from edgeline_export.c.lower.conv_parts import corner
from edgeline_export.c.lower.integers import (
    each_image,
    finish_members,
    lower_qlinear_conv,
    of_image,
    padded,
    signed_bias,
    table_argument,
    table_parameters,
)
from edgeline_export.c.lower.integers_taps import lower_conv_in_taps, takes_taps
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Parameter, Step, Struct

_LANES = 16
_CHANNELS = 8  # EDGELINE_PLANAR_BYTES of kernels/conv2d_planar_u8.c


def lower_integer_conv(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a QLinearConv, with channels or with pixels in the lanes, or for a microcontroller."""
    if takes_taps(operation, lowering):
        return lower_conv_in_taps(operation, lowering)
    if _runs_planar(operation, lowering):
        return _planar(operation, lowering)
    return lower_qlinear_conv(operation, lowering)


def _runs_planar(operation: Operation, lowering: Lowering) -> bool:
    """Whether pixels fill the lanes better than channels. The sums that leave as floats are no bytes."""
    channels, in_channels = lowering.constant(operation.inputs[1]).shape[:2]
    y, block = lowering.tensor(operation.output), lowering.target.dot_block
    last = lowering.layout(operation.output).strides[1] == 1 or channels == 1
    if not lowering.target.vectors or y.dtype != "uint8" or not last:
        return False
    if operation.attributes["dilations"][1] != 1 or in_channels != 1 or operation.attributes["group"] != 1:
        return False
    return bool(channels * blocked(y.shape[3], _LANES) < blocked(channels, block) * y.shape[3])


def _planar(operation: Operation, lowering: Lowering) -> list[Step]:
    a = operation.attributes
    before, source, x = padded(operation, lowering)
    weight, factor, bias = (lowering.constant(name) for name in operation.inputs[1:4])
    channels, _, kernel_rows, kernel_columns = weight.shape
    y, finish = lowering.layout(operation.output), finish_members(operation, lowering)
    _, _, rows, columns = y.shape
    pool_rows, pool_columns = finish["pool_rows"], finish["pool_columns"]
    fours, phases = -(-kernel_columns // 4), a["strides"][1] * pool_columns
    in_rows = (rows * pool_rows - 1) * a["strides"][0] + (kernel_rows - 1) * a["dilations"][0] + 1
    furthest = ((pool_columns - 1) * a["strides"][1] + 4 * (fours - 1)) // phases
    phase_columns = blocked(columns + furthest, _LANES)
    members = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "in_rows": in_rows,
        "kernel_rows": kernel_rows,
        "fours": fours,
        "stride_rows": a["strides"][0],
        "stride_columns": a["strides"][1],
        "dilation_rows": a["dilations"][0],
        "x_row": x.strides[2],
        "phases": phases,
        "phase_columns": phase_columns,
        "out_row": y.strides[2],
        "out_column": y.strides[3],
        "finish": finish,
    }
    packed = filled(weight[:, 0], 4 * fours, 2).reshape(channels, kernel_rows, fours, 4).transpose(1, 2, 0, 3)
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="conv2d_planar_u8",
        call=(
            f"{each_image(x)}edgeline_conv2d_planar_u8({{layer}}, {{x}}{plus(corner(x, a))}{of_image(x)}, "
            "(uint8_t *){scratch}, {w0}, {w1}, {w2}, {w3}, "
            f"{table_argument(operation, 4)}, {{y}}{plus(y.offset)}{of_image(y)})"
        ),
        reads=(source,),
        writes=operation.output,
        layer=Struct("edgeline_conv2d_planar_u8_layer", members),
        parameters=(
            Parameter(np.ascontiguousarray(packed), f"{operation.inputs[1]}, four taps of each output channel"),
            Parameter(factor, operation.inputs[2]),
            Parameter(bias + signed_bias(weight.reshape(channels, -1), lowering), operation.inputs[3]),
            Parameter(_order(min(channels, _CHANNELS)), "the order of a pixel's channels"),
            *table_parameters(operation),
        ),
        scratch_bytes=4 * (in_rows * phases * phase_columns + 2 * _LANES),
        macs=weight.size * rows * columns * pool_rows * pool_columns * x.shape[0],
    )
    return [*before, step]


def _order(channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return, for each byte of 16 pixels of `channels` bytes, where it lies: [half][pixel][4], half 1 from 64 on."""
    at = np.arange(128)
    pixel, channel = at // channels % _LANES, at % channels
    return (64 * (channel // 4) + 4 * pixel + channel % 4).astype(np.uint8)
