"""Operators that compute each number from the one at its place, where no layer took them in."""

from __future__ import annotations

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Step, Struct


def lower_unary(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the step of an activation by itself."""
    members = {"activations": activation_members((operation,))}
    count = lowering.tensor(operation.output).size
    return [
        Step(
            title=title_of(operation, lowering),
            nodes=operation.nodes,
            kernel="unary_f32",
            call=f"edgeline_unary_f32({{layer}}, {{x}}, {{y}}, {{rows}} * {count})",
            reads=(operation.inputs[0],),
            writes=operation.output,
            layer=Struct("edgeline_unary", members),
            takes_rows=True,
        )
    ]
