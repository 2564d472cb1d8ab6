"""QLinearConv and QLinearMatMul, with the table and the pooling that are fused behind them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.context import Lowering, blocked, filled, plus
from edgeline_export.c.lower.conv_parts import PARALLEL_MACS, corner, room
from edgeline_export.c.lower.integers_elements import grid_members, move_step
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.passes.fuse_integers import POOLS
from edgeline_export.c.passes.tables import TABLES
from edgeline_export.c.program import Layout, Parameter, Step, Struct, channels_last

_REGISTERS = 30  # of AVX-512, less two
_PANEL_BLOCKS = 8  # EDGELINE_DOT_COLUMNS of kernels/gemm_u8.c, in blocks of AVX-512
_POOL_KINDS = {"MaxPool": "EDGELINE_POOL_MAX", "QLinearAveragePool": "EDGELINE_POOL_AVERAGE"}


def lower_qlinear_conv(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a QLinearConv: its input padded where it is not yet, the layer, its output in its layout."""
    a, block = operation.attributes, lowering.target.dot_block
    before, source, x = padded(operation, lowering)
    weight, factor, bias = (lowering.constant(name) for name in operation.inputs[1:4])
    weight, groups = dense_groups(weight, a["group"], block)
    channels, in_channels, kernel_rows, kernel_columns = weight.shape[1:]
    taps, run = (kernel_columns, in_channels), x.strides[3] * a["dilations"][1]
    if groups == 1 and run == in_channels:
        taps, run = (1, kernel_columns * in_channels), 0
    runs, fours = taps[0], -(-taps[1] // 4)
    packed = weight.transpose(0, 1, 3, 4, 2).reshape(groups, channels, kernel_rows, *taps)
    packed = filled(filled(packed, 4 * fours, 4), blocked(channels, block), 1)
    packed = packed.reshape(groups, -1, block, kernel_rows, runs, fours, 4).transpose(0, 1, 3, 4, 5, 2, 6)
    _, _, rows, columns = lowering.tensor(operation.output).shape
    result, y, behind = written(operation, lowering)
    made = replace(lowering.tensor(operation.output), name=result)
    finish = finish_members(operation, lowering)
    window = finish["pool_rows"] * finish["pool_columns"]
    members = {
        "channels": channels,
        "out_channels": blocked(channels, block),
        "rows": rows,
        "columns": columns,
        "groups": groups,
        "in_group": in_channels,
        "kernel_rows": kernel_rows,
        "kernel_runs": runs,
        "fours": fours,
        "kernel_row": x.strides[2] * a["dilations"][0],
        "kernel_run": run,
        "in_row": x.strides[2] * a["strides"][0],
        "in_column": x.strides[3] * a["strides"][1],
        "out_row": y.strides[2],
        "out_column": y.strides[3],
        "blocks": _blocks_of_a_tile(blocked(channels, block) // block, columns, window),
        "floats": int(lowering.tensor(operation.output).dtype == "float32"),
        "finish": finish,
    }
    macs = lowering.constant(operation.inputs[1]).size * rows * columns * window * x.shape[0]
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="conv2d_u8",
        call=(
            f"{each_image(x)}edgeline_conv2d_u8({{layer}}, {{x}}{plus(corner(x, a))}{of_image(x)}, "
            f"{{w0}}, {{w1}}, {{w2}}, {table_argument(operation, 3)}, {{y}}{plus(y.offset)}{of_image(y)}, "
            "{part}, {parts})"
        ),
        reads=(source,),
        writes=result,
        layer=Struct("edgeline_conv2d_u8_layer", members),
        parameters=(
            Parameter(np.ascontiguousarray(packed), f"{operation.inputs[1]} in blocks of {block} channels"),
            *_by_channel(operation, factor, bias + signed_bias(weight.reshape(len(bias), -1), lowering), groups, block),
            *table_parameters(operation),
        ),
        macs=macs,
        parallel=macs >= PARALLEL_MACS,
        made=None if result == operation.output else (made, y),
    )
    return [*before, step, *behind]


def lower_qlinear_matmul(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of a QLinearMatMul, [..., k] by constant weights [k, n]."""
    block, name = lowering.target.dot_block, operation.inputs[0]
    weight, factor, bias = (lowering.constant(n) for n in operation.inputs[1:4])
    k, columns = weight.shape
    many = lowering.tensor(name).size // k  # rows of a sample
    before: list[Step] = []
    source = lowering.layout(name)
    if many == 1:
        weight = weight[source.order()]  # rows in the order in which the numbers lie in memory
    elif not source.contiguous:
        raise AssertionError(f"{name}: rows of a matrix lie in ONNX's order")
    if k % 4 and reads_the_callers(lowering, name):
        copy = f"{name}, copied for {operation.nodes[0]}"
        before = [move_step(f"Copy for {operation.nodes[0]}", name, source, copy, source)]
        name = copy
    n, fours = blocked(columns, block), -(-k // 4)
    panel = _panel(n, block)
    packed = filled(filled(weight, 4 * fours, 0), n, 1).reshape(fours, 4, n).transpose(0, 2, 1)
    panels = [packed[:, at : at + panel].reshape(-1) for at in range(0, n, panel)]
    members = {
        "fours": fours,
        "columns": columns,
        "n": n,
        "panel": panel,
        "most_rows": lowering.target.rows,
        "in_row": k,
        "out_row": columns,
        "floats": int(lowering.tensor(operation.output).dtype == "float32"),
        "finish": finish_members(operation, lowering),
    }
    rows = "{rows}" if many == 1 else f"{{rows}} * {many}"
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="gemm_u8",
        call=(
            f"edgeline_gemm_u8({{layer}}, {{x}}, {{w0}}, {{w1}}, {{w2}}, {table_argument(operation, 3)}, {{y}}, "
            f"{rows}, {{part}}, {{parts}})"
        ),
        reads=(name,),
        writes=operation.output,
        layer=Struct("edgeline_gemm_u8_layer", members),
        parameters=(
            Parameter(np.concatenate(panels), f"{operation.inputs[1]} in panels of {panel} columns"),
            *_by_channel(operation, factor, bias + signed_bias(weight.T, lowering), 1, block),
            *table_parameters(operation),
        ),
        macs=k * columns * many,
        parallel=k * columns * many >= PARALLEL_MACS,
        takes_rows=not before,
    )
    return [*before, step]


def finish_members(operation: Operation, lowering: Lowering) -> dict[str, Any]:
    """Return the members of edgeline_finish: the grid of the sums, the pooling, the grid behind it."""
    tensors, fused = lowering.network.tensors, operation.fused
    pool = next((o for o in fused if o.operator in POOLS), None)
    first = tensors[fused[0].inputs[0] if fused else operation.output]
    rows, columns = pool.attributes["kernel_shape"] if pool else (1, 1)
    members = {
        "grid": grid_members(operation.attributes["range"], first),
        "has_table": int(table_of_fused(operation) is not None),
        "pool": _POOL_KINDS[pool.operator] if pool else "EDGELINE_POOL_NONE",
        "pool_rows": rows,
        "pool_columns": columns,
    }
    if pool is not None and pool.operator == "QLinearAveragePool":
        x, y = tensors[pool.inputs[0]], tensors[pool.output]
        members |= {
            "inner_zero": x.zero_point,
            "pool_factor": average_factor(x, y, rows * columns),
            "pool_grid": grid_members(pool.attributes["range"], y),
        }
    return members


def signed_bias(weight: npt.NDArray[Any], lowering: Lowering) -> npt.NDArray[np.int32]:
    """Return what biases hold more where kernels take x - 128 for x; `weight` [channels, taps]."""
    more: npt.NDArray[np.int32] = weight.sum(axis=1, dtype=np.int32) * np.int32(128 * lowering.target.signed_dot)
    return more


def each_image(layout: Layout) -> str:
    """Return the loop before a call that computes one image, where a fixed batch has several."""
    return f"for (ptrdiff_t image = 0; image < {layout.shape[0]}; image++) " if layout.shape[0] > 1 else ""


def of_image(layout: Layout) -> str:
    """Return what C adds to a pointer within that loop."""
    return f" + image * {layout.strides[0]}" if layout.shape[0] > 1 else ""


def average_factor(x: Tensor, y: Tensor, count: int) -> float:
    """Return what brings the sum of `count` numbers of one grid to their average on another, in float32."""
    return float(np.float32(x.scale) / (np.float32(y.scale) * np.float32(count)))


def table_of_fused(operation: Operation) -> npt.NDArray[np.uint8] | None:
    """Return the table that is fused into an operation; None where there is none."""
    return next((o.attributes["table"] for o in operation.fused if o.operator in TABLES), None)


def table_argument(operation: Operation, number: int) -> str:
    """Return the call's argument for the table, which is parameter `number`."""
    return f"{{w{number}}}" if table_of_fused(operation) is not None else "NULL"


def table_parameters(operation: Operation) -> tuple[Parameter, ...]:
    """Return the table as a parameter, where there is one."""
    table = table_of_fused(operation)
    names = [o.operator for o in operation.fused if o.operator in TABLES]
    return () if table is None else (Parameter(table, f"{names[0]} of every number"),)


def padded(operation: Operation, lowering: Lowering) -> tuple[list[Step], str, Layout]:
    """Return the input, channels last, with at least the padding that the Conv needs; and the step that copies it."""
    name, pads = operation.inputs[0], operation.attributes["pads"]
    layout, tensor = lowering.layout(name), lowering.tensor(name)
    last = layout.strides[1] == 1 or layout.shape[1] == 1
    wide = all(has >= needs for has, needs in zip(room(layout), pads, strict=True))
    if last and wide and not reads_the_callers(lowering, name):
        return [], name, layout
    target = channels_last(layout.shape, pads, tensor.zero_point)
    copy = f"{name}, padded for {operation.nodes[0]}"
    return [move_step(f"Pad for {operation.nodes[0]}", name, layout, copy, target)], copy, target


def reads_the_callers(lowering: Lowering, name: str) -> bool:
    """Whether a tensor lies in the caller's memory, behind which nothing may be read."""
    producer = lowering.network.producer(name)
    if producer is not None and producer.operator == "Reshape" and lowering.layout(name).source is not None:
        return reads_the_callers(lowering, producer.inputs[0])
    return name == lowering.network.input


def written(operation: Operation, lowering: Lowering) -> tuple[str, Layout, list[Step]]:
    """Return where the layer writes, channels last, and the step that brings that into the output's own layout."""
    y, tensor = lowering.layout(operation.output), lowering.tensor(operation.output)
    if y.strides[1] == 1 or y.shape[1] == 1:
        return operation.output, y, []
    name, last = f"{operation.output}, channels last", channels_last(y.shape)
    title = f"Transpose behind {operation.nodes[0]}"
    return name, last, [move_step(title, name, last, operation.output, y, dtype=tensor.dtype)]


def dense_groups(weight: npt.NDArray[Any], group: int, block: int) -> tuple[npt.NDArray[Any], int]:
    """Return weights [groups, out, in, rows, columns] of fewer groups: those that share a block of channels are one.

    Weights between channels of different groups are 0; a lane that is idle otherwise costs no more.
    """
    out, in_channels = weight.shape[0] // group, weight.shape[1]
    together = max(m for m in range(1, group + 1) if group % m == 0 and (m == 1 or m * out <= block))
    groups = group // together
    dense = np.zeros((groups, together, out, together, in_channels, *weight.shape[2:]), weight.dtype)
    given = weight.reshape(groups, together, out, in_channels, *weight.shape[2:])
    for i in range(together):
        dense[:, i, :, i] = given[:, i]
    return dense.reshape(groups, together * out, together * in_channels, *weight.shape[2:]), groups


def _by_channel(
    operation: Operation, factor: npt.NDArray[Any], bias: npt.NDArray[Any], groups: int, block: int
) -> tuple[Parameter, Parameter]:
    """Return factors and biases, each group's filled up to whole blocks."""
    n = blocked(len(bias) // groups, block)
    return (
        Parameter(filled(factor.reshape(groups, -1), n, 1).reshape(-1), operation.inputs[2]),
        Parameter(filled(bias.reshape(groups, -1), n, 1).reshape(-1), operation.inputs[3]),
    )


def _blocks_of_a_tile(blocks: int, columns: int, window: int) -> int:
    """Return how many blocks of channels a tile takes: the fewest cycles, then the fewest loads of weights.

    A cycle has two products and two loads: of a vector of weights for each block, and of each pixel.
    """

    def cost(tile: int) -> tuple[float, int]:
        most = max(1, (_REGISTERS - tile) // tile // window)
        tiles = math.ceil(columns / most)
        pixels = math.ceil(columns / tiles) * window
        cycles = max(tile * pixels, tile + pixels, 8)
        return tiles * cycles * math.ceil(blocks / tile), tiles * blocks

    return min(range(1, min(blocks, 4) + 1), key=cost)


def _panel(n: int, block: int) -> int:
    """Return the columns of a panel: whole blocks, and no last panel with a small rest."""
    panels = -(-n // (block * _PANEL_BLOCKS))
    return blocked(-(-n // panels), block)
