"""Conv in float32, with what is fused behind it: output channels in the lanes, or pixels of a row."""

from __future__ import annotations

import numpy as np

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, blocked, filled, plus
from edgeline_export.c.lower.conv_parts import (
    PARALLEL_MACS,
    bias_name,
    blocks_of_a_tile,
    channels_beside,
    corner,
    layer_call,
    padded,
    pool_of,
    pooling_members,
    weight_name,
    weights_of,
    written,
)
from edgeline_export.c.lower.layouts import runs_planar
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.lower.winograd import lower_winograd, outputs_by_winograd
from edgeline_export.c.passes.fuse import is_depthwise
from edgeline_export.c.program import Parameter, Step, Struct


def lower_conv(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a Conv: its input padded where it is not yet, then the layer."""
    if runs_planar(lowering.network, lowering.target, operation):
        return _planar(operation, lowering)
    if is_depthwise(lowering.network, operation):
        return _depthwise(operation, lowering)
    outputs = outputs_by_winograd(operation, lowering)
    return lower_winograd(operation, lowering, outputs) if outputs else _by_channels(operation, lowering)


def _by_channels(operation: Operation, lowering: Lowering) -> list[Step]:
    a, block = operation.attributes, lowering.target.block
    padding, source, x = padded(operation, lowering)
    weight, bias = weights_of(operation, lowering)
    group = a["group"]
    channels, in_channels, kernel_rows, kernel_columns = len(weight) // group, *weight.shape[1:]
    y = lowering.layout(operation.output)
    result, target = channels_beside(operation, y)
    pool = pool_of(operation)
    all_channels = blocked(channels, block)
    last = x.strides[1] == 1
    packed = filled(weight.reshape(group, channels, *weight.shape[1:]), all_channels, 1)
    packed = packed.reshape(-1, block, in_channels, kernel_rows, kernel_columns)
    packed = packed.transpose((0, 3, 4, 2, 1) if last else (0, 2, 3, 4, 1))
    kernel = [
        {"count": kernel_rows, "stride": x.strides[2] * a["dilations"][0]},
        {"count": kernel_columns, "stride": x.strides[3] * a["dilations"][1]},
    ]
    inner = {"count": in_channels, "stride": x.strides[1]}
    taps = [*kernel, inner] if last else [inner, *kernel]
    if last and kernel[1]["stride"] == in_channels:  # of one group, and not dilated
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
        "out_row": target.strides[2],
        "out_column": target.strides[3],
        "blocks": blocks_of_a_tile(all_channels // block, lowering.target),
        **pooling_members(operation, pool, pool_rows, pool_columns),
    }
    macs = weight.size * rows * columns * pool_rows * pool_columns * x.shape[0]
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="conv2d_f32",
        call=layer_call(
            ("edgeline_conv2d_f32", "{part}, {parts}"),
            (x, corner(x, a), x.strides[1] * in_channels),
            (target, target.offset, channels),
            group,
            (packed.size // group, all_channels),
        ),
        reads=(source,),
        writes=result,
        layer=Struct("edgeline_conv2d", members),
        parameters=(
            Parameter(np.ascontiguousarray(packed, np.float32), weight_name(operation, block)),
            Parameter(filled(bias.reshape(group, channels), all_channels, 1), bias_name(operation)),
        ),
        macs=macs,
        parallel=macs >= PARALLEL_MACS,
    )
    return [*padding, *written(operation, step, target, y)]


def _depthwise(operation: Operation, lowering: Lowering) -> list[Step]:
    a, block = operation.attributes, lowering.target.block
    padding, source, x = padded(operation, lowering, channels_beside=True)
    weight, bias = weights_of(operation, lowering)
    channels, _, kernel_rows, kernel_columns = weight.shape
    y = lowering.layout(operation.output)
    result, target = channels_beside(operation, y)
    packed = filled(weight, blocked(channels, block), 0).reshape(-1, block, kernel_rows, kernel_columns)
    packed = np.ascontiguousarray(packed.transpose(0, 2, 3, 1), np.float32)
    _, _, rows, columns = y.shape
    members = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "kernel_rows": kernel_rows,
        "kernel_columns": kernel_columns,
        "tap_row": x.strides[2] * a["dilations"][0],
        "tap_column": x.strides[3] * a["dilations"][1],
        "in_row": x.strides[2] * a["strides"][0],
        "in_column": x.strides[3] * a["strides"][1],
        "out_row": target.strides[2],
        "out_column": target.strides[3],
        "activations": activation_members(operation.fused),
    }
    macs = weight.size * rows * columns * y.shape[0]
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="depthwise_f32",
        call=layer_call(
            ("edgeline_depthwise_f32", "{part}, {parts}"), (x, corner(x, a), 0), (target, target.offset, 0), 1, (0, 0)
        ),
        reads=(source,),
        writes=result,
        layer=Struct("edgeline_depthwise", members),
        parameters=(
            Parameter(packed, weight_name(operation, block)),
            Parameter(filled(bias, blocked(channels, block), 0), bias_name(operation)),
        ),
        macs=macs,
        parallel=macs >= PARALLEL_MACS,
    )
    return [*padding, *written(operation, step, target, y)]


def _planar(operation: Operation, lowering: Lowering) -> list[Step]:
    a = operation.attributes
    weight, bias = weights_of(operation, lowering)
    channels, in_channels, kernel_rows, kernel_columns = weight.shape
    pool = pool_of(operation)
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
        "pooling": pooling_members(operation, pool, pool_rows, pool_columns),
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
                Parameter(bias, bias_name(operation)),
            ),
            scratch_bytes=copied_bytes,
            macs=weight.size * rows * columns * pool_rows * pool_columns,
        )
    ]
