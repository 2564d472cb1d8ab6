"""Gemm and MatMul in float32."""

from __future__ import annotations

import math

import numpy as np

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, blocked, filled, plus
from edgeline_export.c.lower.conv_parts import PARALLEL_MACS
from edgeline_export.c.lower.layouts import takes_any_order
from edgeline_export.c.lower.loops import DIMENSIONS, broadcast, nest
from edgeline_export.c.lower.moving import copy_step
from edgeline_export.c.lower.operands import operands_of
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Parameter, Step, Struct, contiguous

_PANEL_BLOCKS = 8  # EDGELINE_GEMM_VECTORS of kernels/gemm_f32.c, in blocks of AVX-512
_MATMUL_BATCHES = 4  # loops over matrices in kernels/matmul_f32.c


def lower_matrix(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a Gemm or MatMul: rows of numbers by constant weights, else any two operands."""
    if not takes_any_order(lowering.network, operation):
        return [_of_any_two(operation, lowering)]
    a, block = operation.attributes, lowering.target.block
    name, padding = operation.inputs[0], []
    source = lowering.layout(name)
    rows = math.prod(source.shape[:-1])
    weight = lowering.constant(operation.inputs[1]).astype(np.float64)
    weight = (weight.T if a.get("transB") else weight) * a.get("alpha", 1.0)
    k, columns = weight.shape
    if rows == 1 and source.dense:
        weight = weight[source.order()]  # rows in the order in which the numbers lie in memory
    elif not source.contiguous:
        name = f"{operation.inputs[0]}, in order for {operation.nodes[0]}"
        plain = contiguous(source.shape)
        padding = [copy_step(f"Order for {operation.nodes[0]}", operation.inputs[0], source, name, plain)]
    bias = np.zeros(columns)
    if len(operation.inputs) > 2 and operation.inputs[2]:
        constant = lowering.constant(operation.inputs[2]).astype(np.float64) * a.get("beta", 1.0)
        bias = np.broadcast_to(constant, (1, columns)).reshape(columns)
    n = blocked(columns, block)
    panel = min(_panel(n, block), n)
    packed = [filled(weight, n, 1)[:, at : at + panel].reshape(-1) for at in range(0, n, panel)]
    members = {
        "k": k,
        "columns": columns,
        "n": n,
        "panel": panel,
        "most_rows": lowering.target.rows,
        "in_row": k,
        "out_row": columns,
        "activations": activation_members(operation.fused),
    }
    count = "{rows}" if rows == 1 else f"{{rows}} * {rows}"
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="gemm_f32",
        call=f"edgeline_gemm_f32({{layer}}, {{x}}, {{w0}}, {{w1}}, {{y}}, {count}, {{part}}, {{parts}})",
        reads=(name,),
        writes=operation.output,
        layer=Struct("edgeline_gemm", members),
        parameters=(
            Parameter(np.concatenate(packed).astype(np.float32), f"{operation.inputs[1]} in panels of {panel} columns"),
            Parameter(
                filled(bias, n, 0).astype(np.float32),
                operation.inputs[2] if len(operation.inputs) > 2 and operation.inputs[2] else "no bias",
            ),
        ),
        macs=k * columns * rows,
        parallel=k * columns * rows >= PARALLEL_MACS,
        takes_rows=not padding,
    )
    return [*padding, step]


def _panel(n: int, block: int) -> int:
    """Return the columns of a panel: whole blocks, and no last panel with a small rest."""
    panels = -(-n // (block * _PANEL_BLOCKS))
    return blocked(-(-n // panels), block)


def _of_any_two(operation: Operation, lowering: Lowering) -> Step:
    """Return the step of a MatMul by strides; one of a vector is one of a matrix with a single row or column."""
    operands = operands_of(operation.inputs[:2], lowering)
    a, b = operands.all
    y = lowering.layout(operation.output)
    a_shape, a_strides = (a.shape, a.strides) if len(a.shape) > 1 else ((1, *a.shape), (0, *a.strides))
    b_shape, b_strides = (b.shape, b.strides) if len(b.shape) > 1 else ((*b.shape, 1), (*b.strides, 0))
    y_shape, y_strides = list(y.shape), list(y.strides)
    if len(b.shape) == 1:
        y_shape, y_strides = [*y_shape, 1], [*y_strides, 0]
    if len(a.shape) == 1:
        y_shape, y_strides = [*y_shape[:-1], 1, y_shape[-1]], [*y_strides[:-1], 0, y_strides[-1]]
    batch = y_shape[:-2]
    sizes, (to, a_batch, b_batch) = nest(
        batch,
        y_strides[:-2],
        broadcast(a_shape[:-2], a_strides[:-2], batch),
        broadcast(b_shape[:-2], b_strides[:-2], batch),
        dimensions=_MATMUL_BATCHES,
    )
    none = [0] * (DIMENSIONS - _MATMUL_BATCHES)
    m, k, n = a_shape[-2], a_shape[-1], b_shape[-1]
    members = {
        "batches": [1] * len(none) + sizes,
        "y_batch": none + to,
        "a_batch": none + a_batch,
        "b_batch": none + b_batch,
        "m": m,
        "n": n,
        "k": k,
        "a_row": a_strides[-2],
        "a_column": a_strides[-1],
        "b_row": b_strides[-2],
        "b_column": b_strides[-1],
        "y_row": y_strides[-2],
        "y_column": y_strides[-1],
        "a_sample": a.sample,
        "b_sample": b.sample,
        "y_sample": y.size,
        "activations": activation_members(operation.fused),
    }
    return Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="matmul_f32",
        call=f"edgeline_matmul_f32({{layer}}, {a.text}, {b.text}, {{y}}{plus(y.offset)}, {{rows}})",
        reads=operands.reads,
        writes=operation.output,
        layer=Struct("edgeline_matmul", members),
        parameters=operands.parameters,
        macs=math.prod(batch) * m * n * k,
        takes_rows=True,
    )
