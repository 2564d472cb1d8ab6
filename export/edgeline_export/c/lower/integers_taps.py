"""QLinearConv and QLinearMatMul for microcontrollers: the forms of their weights that kernels/taps_u8s8.c multiplies.

Targets with a block of one channel have them. A layer whose sums could leave what their trick with two channels in a
word holds, which takes weights beyond any that quantisation gives, has the kernels of the other targets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.context import Lowering, blocked, filled, plus
from edgeline_export.c.lower.conv_parts import corner
from edgeline_export.c.lower.integers import (
    each_image,
    finish_members,
    lower_qlinear_matmul,
    of_image,
    padded,
    reads_the_callers,
    signed_bias,
    table_argument,
    table_parameters,
    written,
)
from edgeline_export.c.lower.integers_elements import move_step
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Parameter, Step, Struct

_PAIRS_STEP, _VECTOR = 8, 16  # EDGELINE_STEP of kernels/taps_u8s8.c, in pairs and in vectors
_MOST = 1 << 23  # of a sum in the upper half of a word

Weights = npt.NDArray[np.int8]


def takes_taps(operation: Operation, lowering: Lowering) -> bool:
    """Whether a layer runs on the kernels for microcontrollers."""
    if lowering.target.dot_block != 1:
        return False
    weight, factor = (lowering.constant(name) for name in operation.inputs[1:3])
    if not (factor > 0).all():
        return False
    if lowering.target.signed_dot:
        return True
    rows = weight.T if operation.operator == "QLinearMatMul" else weight
    wide = rows.reshape(len(rows), -1).astype(np.int64)
    most = 255 * np.maximum(np.maximum(wide, 0).sum(axis=1), np.maximum(-wide, 0).sum(axis=1)).max()
    return bool(most < _MOST and wide.min() > -128)


def lower_integer_matmul(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a QLinearMatMul."""
    return (_matmul if takes_taps(operation, lowering) else lower_qlinear_matmul)(operation, lowering)


def lower_conv_in_taps(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a QLinearConv: its input padded where it is not yet, the layer, its output in its layout."""
    a = operation.attributes
    before, source, x = padded(operation, lowering)
    weight, factor, bias = (lowering.constant(name) for name in operation.inputs[1:4])
    groups = a["group"]
    channels, in_channels = len(weight) // groups, weight.shape[1]
    kernel_rows, runs = weight.shape[2:]
    taps = weight.reshape(groups, channels, in_channels, kernel_rows, runs).transpose(0, 1, 3, 4, 2)
    run, following = in_channels, x.strides[3] * a["dilations"][1]
    if following == in_channels:
        run, runs, following = runs * in_channels, 1, 0
    finish = finish_members(operation, lowering)
    window = finish["pool_rows"] * finish["pool_columns"]
    shares = finish["pool_columns"] == 2 and a["strides"][0] == a["dilations"][0]
    shared = runs * (run if lowering.target.signed_dot else 2 * -(-run // 2)) if shares else 0
    packed, steps = _packed(lowering, taps.reshape(groups, channels, kernel_rows * runs, run), 2)
    further = (finish["pool_rows"] - 1) * shared
    gathered = {
        "rows": kernel_rows,
        "runs": runs,
        "run": run,
        "row": x.strides[2] * a["dilations"][0],
        "next": following,
        "steps": steps,
        "apart": _apart(lowering, steps, further),
    }
    _, _, rows, columns = lowering.tensor(operation.output).shape
    result, y, behind = written(operation, lowering)
    sums = blocked(channels, 2) * blocked(window, 2)
    members = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "groups": groups,
        "in_group": in_channels,
        "taps": gathered,
        "size": packed.size // (groups * -(-channels // 2)),
        "sums": sums,
        "shared": shared,
        "in_row": x.strides[2] * a["strides"][0],
        "in_column": x.strides[3] * a["strides"][1],
        "out_row": y.strides[2],
        "out_column": y.strides[3],
        "floats": int(lowering.tensor(operation.output).dtype == "float32"),
        "finish": finish,
    }
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="conv2d_taps_u8",
        call=(
            f"{each_image(x)}edgeline_conv2d_taps_u8({{layer}}, {{x}}{plus(corner(x, a))}{of_image(x)}, "
            f"{{w0}}, {{w1}}, {{w2}}, {table_argument(operation, 3)}, {{y}}{plus(y.offset)}{of_image(y)}, "
            "{scratch})"
        ),
        reads=(source,),
        writes=result,
        layer=Struct("edgeline_conv2d_taps_layer", members),
        parameters=(
            Parameter(packed, f"{operation.inputs[1]} in tiles of two channels"),
            Parameter(factor, operation.inputs[2]),
            Parameter(bias + signed_bias(weight.reshape(len(bias), -1), lowering), operation.inputs[3]),
            *table_parameters(operation),
        ),
        scratch_bytes=4 * sums + (2 * gathered["apart"] or 4 * (_PAIRS_STEP * steps + further)),
        macs=weight.size * rows * columns * window * x.shape[0],
        made=None if result == operation.output else (replace(lowering.tensor(operation.output), name=result), y),
    )
    return [*before, step, *behind]


def _matmul(operation: Operation, lowering: Lowering) -> list[Step]:
    name = operation.inputs[0]
    weight, factor, bias = (lowering.constant(n) for n in operation.inputs[1:4])
    k, columns = weight.shape
    many = lowering.tensor(name).size // k  # rows of a sample
    before: list[Step] = []
    source = lowering.layout(name)
    if many == 1:
        weight = weight[source.order()]  # rows in the order in which the numbers lie in memory
    if reads_the_callers(lowering, name):
        copy = f"{name}, copied for {operation.nodes[0]}"
        before = [move_step(f"Copy for {operation.nodes[0]}", name, source, copy, source)]
        name = copy
    weight, runs = np.ascontiguousarray(weight.T), 1 if lowering.target.signed_dot else 2
    # In pairs the two halves of a row are gathered as if they were two pixels.
    weight = filled(weight, blocked(k, runs), 1)
    packed, steps = _packed(lowering, weight.reshape(1, columns, runs, -1), 4)
    taps = {"rows": 1, "runs": 1, "run": weight.shape[1] // runs, "row": 0, "next": 0, "steps": steps}
    taps["apart"] = _apart(lowering, steps, 0)
    members = {
        "taps": taps,
        "columns": columns,
        "size": packed.size // -(-columns // 4),
        "in_row": k,
        "out_row": columns,
        "floats": int(lowering.tensor(operation.output).dtype == "float32"),
        "finish": finish_members(operation, lowering),
    }
    rows = "{rows}" if many == 1 else f"{{rows}} * {many}"
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="gemm_taps_u8",
        call=(
            f"edgeline_gemm_taps_u8({{layer}}, {{x}}, {{w0}}, {{w1}}, {{w2}}, {table_argument(operation, 3)}, {{y}}, "
            f"{rows}, {{scratch}})"
        ),
        reads=(name,),
        writes=operation.output,
        layer=Struct("edgeline_gemm_taps_layer", members),
        parameters=(
            Parameter(packed, f"{operation.inputs[1]} in tiles of four columns"),
            Parameter(factor, operation.inputs[2]),
            Parameter(bias + signed_bias(weight, lowering), operation.inputs[3]),
            *table_parameters(operation),
        ),
        scratch_bytes=2 * taps["apart"] or 2 * _PAIRS_STEP * steps,
        macs=k * columns * many,
        takes_rows=not before,
    )
    return [*before, step]


def _apart(lowering: Lowering, steps: int, further: int) -> int:
    """Return the bytes between two pixels' taps in the buffer, whose vectors run over; 0 where they take turns."""
    return _VECTOR * (steps + 1) + further if lowering.target.signed_dot else 0


def _packed(lowering: Lowering, weight: Weights, tile: int) -> tuple[npt.NDArray[Any], int]:
    """Return the weights in tiles of `tile` channels, and the steps of a tile.

    `weight`: [groups, channels, runs, run], in the order in which the input lies in memory.
    """
    weight = filled(weight, blocked(weight.shape[1], tile), 1)
    packed, steps = (_in_vectors if lowering.target.signed_dot else _in_pairs)(weight, tile)
    return np.ascontiguousarray(packed.reshape(-1)), steps


def _in_vectors(weight: Weights, tile: int) -> tuple[npt.NDArray[Any], int]:
    """Return [groups, tiles, steps, tile, 16] of int8, all runs behind each other."""
    groups, channels, runs, run = weight.shape
    steps = -(-runs * run // _VECTOR)
    flat = filled(weight.reshape(groups, channels, runs * run), _VECTOR * steps, 2)
    return flat.reshape(groups, channels // tile, tile, steps, _VECTOR).transpose(0, 1, 3, 2, 4), steps


def _in_pairs(weight: Weights, tile: int) -> tuple[npt.NDArray[Any], int]:
    """Return [groups, tiles, pairs of taps, tile / 2] of int32: two halves, for two taps, of 256 * w1 + w0.

    The two runs of a matrix, which has tiles of four, take turns.
    """
    groups, channels, runs, run = weight.shape
    order = _order_of_pairs(run)
    pairs = filled(weight, run + 1, 3)[..., order].astype(np.int64)  # a tap behind the run's end is the weight 0
    if tile == 4:
        pairs = pairs.swapaxes(2, 3)
    pairs = pairs.reshape(groups, channels, runs * len(order), 2)
    count = blocked(pairs.shape[2], _PAIRS_STEP // 2)
    pairs = filled(pairs, count, 2).reshape(groups, channels // tile, tile // 2, 2, count, 2)
    halves = pairs[:, :, :, 0] + 256 * pairs[:, :, :, 1]
    words = (halves[..., 0] & 0xFFFF) | (halves[..., 1] << 16)
    return words.astype(np.int32).transpose(0, 1, 3, 2), count * 2 // _PAIRS_STEP


def _order_of_pairs(run: int) -> npt.NDArray[np.int64]:
    """Return the taps of each word that edgeline_gather makes of a run; `run` stands for none."""
    order: list[tuple[int, int]] = []
    for first in range(0, run, 4):
        four = [(first, first + 2), (first + 1, first + 3)]
        order += four if run - first > 2 else [(first, first + 1)]
    return np.array(order, np.int64).clip(max=run)
