"""What all lowerings of Conv share: weights, padding, the pooling behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering
from edgeline_export.c.lower.layouts import POOLS
from edgeline_export.c.lower.moving import copy_step
from edgeline_export.c.program import Layout, Step, channels_last

_POOL_KINDS = {"MaxPool": "EDGELINE_MAX_POOL", "AveragePool": "EDGELINE_AVERAGE_POOL"}
_TILE_BLOCKS = 4
PARALLEL_MACS = 1 << 21  # below, a thread's waking costs more than it saves


def padded(operation: Operation, lowering: Lowering) -> tuple[list[Step], str, Layout]:
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


@dataclass(frozen=True, slots=True)
class Result:
    """Where a layer writes, with the channels of a pixel beside each other, and the steps that bring it into place.

    `made` is Step.made: what the network has no tensor of.
    """

    name: str
    layout: Layout
    made: tuple[Tensor, Layout] | None
    behind: list[Step]


def result_of(operation: Operation, lowering: Lowering) -> Result:
    """Return the operation's own tensor where its layout is so, else a temporary and its copy into ONNX's order."""
    name, layout = operation.output, lowering.layout(operation.output)
    if layout.strides[1] == 1 or layout.shape[1] == 1:
        return Result(name, layout, None, [])
    wide, temporary = channels_last(layout.shape), f"{name}, channels last"
    copy = copy_step(f"Transpose behind {operation.nodes[0]}", temporary, wide, name, layout)
    return Result(temporary, wide, (replace(lowering.tensor(name), name=temporary), wide), [replace(copy, made=None)])


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


def blocks_of_a_tile(blocks: int) -> int:
    """Return how many blocks of channels a tile takes: at most _TILE_BLOCKS, and no tile left with a small rest."""
    tiles = math.ceil(blocks / _TILE_BLOCKS)
    return math.ceil(blocks / tiles)
