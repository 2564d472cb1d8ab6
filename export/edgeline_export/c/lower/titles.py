"""What a step is called in comments and profiles."""

from __future__ import annotations

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.context import Lowering


def title_of(operation: Operation, lowering: Lowering) -> str:
    """Return for instance `Conv + Sigmoid + AveragePool (node_conv2d): [1, 1, 28, 28] -> [1, 6, 14, 14]`."""
    names = " + ".join(o.operator for o in (operation, *operation.fused))
    read = [lowering.tensor(name) for name in operation.inputs if not lowering.is_constant(name) and name]
    shapes = ", ".join(str(list(tensor.shape)) for tensor in read)
    return f"{names} ({operation.nodes[0]}): {shapes} -> {list(lowering.tensor(operation.output).shape)}"
