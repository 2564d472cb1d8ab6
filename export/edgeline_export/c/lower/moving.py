"""Operators that move numbers and change none."""

from __future__ import annotations

from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Layout, Step, Struct, contiguous

_DIMENSIONS = 6  # EDGELINE_COPY_DIMENSIONS of kernels/copy_f32.c


def lower_reshape(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return no step where the same memory serves, else a copy into ONNX's order."""
    source, result = lowering.layout(operation.inputs[0]), lowering.layout(operation.output)
    ends = (lowering.network.input, lowering.network.output)
    if result.source is not None and (operation.inputs[0], operation.output) != ends:
        return []
    title = title_of(operation, lowering)
    return [copy_step(title, operation.inputs[0], source, operation.output, contiguous(source.shape), operation.nodes)]


def copy_step(title: str, source: str, given: Layout, target: str, wanted: Layout, nodes: tuple[str, ...] = ()) -> Step:
    """Return the step that copies a tensor of at most _DIMENSIONS dimensions from one layout to another."""
    missing = _DIMENSIONS - len(given.shape)
    members = {
        "sizes": [1] * missing + list(given.shape),
        "from": [0] * missing + list(given.strides),
        "to": [0] * missing + list(wanted.strides),
    }
    return Step(
        title=title,
        nodes=nodes,
        kernel="copy_f32",
        call=f"edgeline_copy_f32({{layer}}, {{x}}{plus(given.offset)}, {{y}}{plus(wanted.offset)})",
        reads=(source,),
        writes=target,
        layer=Struct("edgeline_copy", members),
        made=(Tensor(target, given.shape), wanted),
    )
