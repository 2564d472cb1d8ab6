"""Gemm and MatMul in float32."""

from __future__ import annotations

import numpy as np

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, blocked, filled
from edgeline_export.c.lower.conv_parts import PARALLEL_MACS
from edgeline_export.c.lower.layouts import takes_any_order
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Parameter, Step, Struct

_PANEL_BLOCKS = 8  # EDGELINE_GEMM_VECTORS of kernels/gemm_f32.c, in blocks of AVX-512


def lower_matrix(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of a Gemm or MatMul of one row by constant weights."""
    if not takes_any_order(lowering.network, operation):
        raise InputError(f"{operation.operator} '{operation.nodes[0]}': its second input is computed")
    a, block = operation.attributes, lowering.target.block
    source = lowering.layout(operation.inputs[0])
    weight = lowering.constant(operation.inputs[1]).astype(np.float64)
    weight = (weight.T if a.get("transB") else weight) * a.get("alpha", 1.0)
    k, columns = weight.shape
    weight = weight[source.order()]  # rows in the order in which the numbers lie in memory
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
    return [
        Step(
            title=title_of(operation, lowering),
            nodes=operation.nodes,
            kernel="gemm_f32",
            call="edgeline_gemm_f32({layer}, {x}, {w0}, {w1}, {y}, {rows}, {part}, {parts})",
            reads=(operation.inputs[0],),
            writes=operation.output,
            layer=Struct("edgeline_gemm", members),
            parameters=(
                Parameter(
                    np.concatenate(packed).astype(np.float32), f"{operation.inputs[1]} in panels of {panel} columns"
                ),
                Parameter(
                    filled(bias, n, 0).astype(np.float32),
                    operation.inputs[2] if len(operation.inputs) > 2 else "no bias",
                ),
            ),
            macs=k * columns,
            parallel=k * columns >= PARALLEL_MACS,
            takes_rows=True,
        )
    ]


def _panel(n: int, block: int) -> int:
    """Return the columns of a panel: whole blocks, and no last panel with a small rest."""
    panels = -(-n // (block * _PANEL_BLOCKS))
    return blocked(-(-n // panels), block)
