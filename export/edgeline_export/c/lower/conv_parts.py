"""What all lowerings of Conv share: weights, padding, the pooling behind, where the result goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.layouts import POOLS
from edgeline_export.c.lower.moving import copy_behind, copy_step
from edgeline_export.c.program import Layout, Step, channels_last
from edgeline_export.c.targets import Target

_POOL_KINDS = {"MaxPool": "EDGELINE_MAX_POOL", "AveragePool": "EDGELINE_AVERAGE_POOL"}
PARALLEL_MACS = 1 << 21  # below, a thread's waking costs more than it saves


def channels_beside(operation: Operation, y: Layout) -> tuple[str, Layout]:
    """Return what a kernel writes that puts channels beside each other: the output itself where it lies so."""
    if y.strides[1] == 1 or y.shape[1] == 1:
        return operation.output, y
    return f"{operation.output}, channels last", channels_last(y.shape)


def written(operation: Operation, step: Step, target: Layout, y: Layout) -> list[Step]:
    """Return the step, and the copy behind it where it does not write the output itself."""
    if step.writes == operation.output:
        return [step]
    made = replace(step, made=(Tensor(step.writes, target.shape), target))
    return [made, copy_behind(operation, step.writes, target, y)]


def layer_call(
    function: tuple[str, str],
    x: tuple[Layout, int, int],
    y: tuple[Layout, int, int],
    group: int,
    parameters: tuple[int, int],
) -> str:
    """Return the C text of a layer's call, in a loop over groups and over the samples of a fixed batch if need be.

    x and y are their layout, the first number read or written, and the step from one group to the next; `parameters`
    are the numbers of weights and biases of a group.
    """
    given, made = f"{{x}}{plus(x[1])}", f"{{y}}{plus(y[1])}"
    weights = ["{w0}", "{w1}"]
    loops = ""
    if x[0].shape[0] > 1:
        loops += f"for (int sample = 0; sample < {x[0].shape[0]}; sample++)\n        "
        given, made = f"{given} + sample * {x[0].strides[0]}", f"{made} + sample * {y[0].strides[0]}"
    if group > 1:
        loops += f"for (int group = 0; group < {group}; group++)\n        "
        given, made = f"{given} + group * {x[2]}", f"{made} + group * {y[2]}"
        weights = [f"{name} + group * {size}" for name, size in zip(weights, parameters, strict=True)]
    name, rest = function
    return f"{loops}{name}({{layer}}, {given}, {', '.join(weights)}, {made}, {rest})"


def padded(
    operation: Operation, lowering: Lowering, *, channels_beside: bool = False
) -> tuple[list[Step], str, Layout]:
    """Return the input with at least the padding that the Conv needs, and the step that copies it where it has less.

    `channels_beside`: the channels of a pixel must lie beside each other.
    """
    name, pads = operation.inputs[0], operation.attributes["pads"]
    layout = lowering.layout(name)
    enough = all(has >= needs for has, needs in zip(room(layout), pads, strict=True))
    if enough and (layout.strides[1] == 1 or not channels_beside):
        return [], name, layout
    wide = channels_last(layout.shape, pads, 0)
    copy = f"{name}, padded for {operation.nodes[0]}"
    return [copy_step(f"Pad for {operation.nodes[0]}", name, layout, copy, wide)], copy, wide


def room(layout: Layout) -> tuple[int, int, int, int]:
    """Return the rows and columns of padding that a layout of [n, c, h, w] has: top, left, bottom, right."""
    if layout.fill is None:
        return (0, 0, 0, 0)
    h, w = layout.shape[2:]
    row, column = layout.strides[2:]
    top, left = layout.offset // row, layout.offset % row // column
    return top, left, layout.strides[0] // row - top - h, row // column - left - w


def corner(layout: Layout, attributes: Mapping[str, Any]) -> int:
    """Return where the first tap of the first pixel lies."""
    top, left = (int(pad) for pad in attributes["pads"][:2])
    return layout.offset - top * layout.strides[2] - left * layout.strides[3]


def weights_of(operation: Operation, lowering: Lowering) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the weights [m, c, h, w] and the bias [m], zeros where there is none."""
    weight = lowering.constant(operation.inputs[1])
    has_bias = len(operation.inputs) > 2 and operation.inputs[2]
    bias = lowering.constant(operation.inputs[2]) if has_bias else np.zeros(len(weight), np.float32)
    return weight, bias


def weight_name(operation: Operation, block: int) -> str:
    """Return what a comment says of the weights."""
    return f"{operation.inputs[1]} in blocks of {block} channels"


def bias_name(operation: Operation) -> str:
    """Return what a comment says of the bias."""
    return operation.inputs[2] if len(operation.inputs) > 2 and operation.inputs[2] else "no bias"


def pool_of(operation: Operation) -> Operation | None:
    """Return the pooling that is fused into a Conv."""
    return next((o for o in operation.fused if o.operator in POOLS), None)


def pooling_members(operation: Operation, pool: Operation | None, rows: int, columns: int) -> dict[str, Any]:
    """Return the members that say what happens to the sums: activations, the pooling, activations behind it."""
    at = len(operation.fused) if pool is None else operation.fused.index(pool)
    return {
        "pool": "EDGELINE_NO_POOL" if pool is None else _POOL_KINDS[pool.operator],
        "pool_rows": rows,
        "pool_columns": columns,
        "activations": activation_members(operation.fused[:at]),
        "behind": activation_members(operation.fused[at + 1 :]),
    }


def blocks_of_a_tile(blocks: int, target: Target) -> int:
    """Return how many blocks of channels a tile takes: at most the target's, and no tile left with a small rest."""
    tiles = math.ceil(blocks / target.tile_blocks)
    return math.ceil(blocks / tiles)
