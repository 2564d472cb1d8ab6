"""Operators that compute each number from those at its place, where no layer took them in."""

from __future__ import annotations

from collections.abc import Sequence

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.loops import broadcast, nest
from edgeline_export.c.lower.operands import operands_of
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Step, Struct

_OPERANDS = 3  # EDGELINE_OPERANDS of kernels/elementwise_f32.c


def lower_unary(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of an activation by itself."""
    return [_step(operation, lowering, "EDGELINE_NO_ARITHMETIC", operation.inputs[:1], (operation, *operation.fused))]


def lower_binary(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of an arithmetic operator with two operands."""
    kind = f"EDGELINE_{operation.operator.upper()}"
    return [_step(operation, lowering, kind, operation.inputs, operation.fused)]


def lower_affine(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of scale * x + shift."""
    x, scale, shift = operation.inputs
    if not lowering.constant(shift).any():
        return [_step(operation, lowering, "EDGELINE_MUL", (x, scale), operation.fused)]
    if (lowering.constant(scale) == 1).all():
        return [_step(operation, lowering, "EDGELINE_ADD", (x, shift), operation.fused)]
    return [_step(operation, lowering, "EDGELINE_AFFINE", operation.inputs, operation.fused)]


def _step(
    operation: Operation, lowering: Lowering, kind: str, inputs: Sequence[str], activations: Sequence[Operation]
) -> Step:
    y = lowering.layout(operation.output)
    operands = operands_of(inputs, lowering)
    read = [*operands.all, *[operands.all[0]] * (_OPERANDS - len(operands.all))]
    sizes, (to, *strides) = nest(y.shape, y.strides, *(broadcast(o.shape, o.strides, y.shape) for o in read))
    members = {
        "operation": kind,
        "sizes": sizes,
        "to": to,
        "from": strides,
        "samples": [o.sample for o in read],
        "to_sample": y.size,
        "activations": activation_members(activations),
    }
    addresses = ", ".join(o.text for o in read)
    return Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="elementwise_f32",
        call=f"edgeline_elementwise_f32({{layer}}, {addresses}, {{y}}{plus(y.offset)}, {{rows}})",
        reads=operands.reads,
        writes=operation.output,
        layer=Struct("edgeline_elementwise", members),
        parameters=operands.parameters,
        takes_rows=True,
    )
