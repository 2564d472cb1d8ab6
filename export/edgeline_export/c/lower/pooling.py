"""MaxPool, AveragePool and GlobalAveragePool in float32."""

from __future__ import annotations

from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.activations import activation_members
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.moving import copy_behind, copy_step
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Step, Struct, channels_last


def lower_pool(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a pooling: its channels beside each other where they are not yet, then the windows."""
    steps = []
    a, name = operation.attributes, operation.inputs[0]
    x, y = lowering.layout(name), lowering.layout(operation.output)
    _, channels, height, width = x.shape
    _, _, rows, columns = y.shape
    if x.strides[1] != 1 and channels > 1:
        given, x = x, channels_last(x.shape)
        name = f"{operation.inputs[0]}, channels last for {operation.nodes[0]}"
        steps.append(copy_step(f"Transpose for {operation.nodes[0]}", operation.inputs[0], given, name, x))
    result, target = operation.output, y
    if y.strides[1] != 1 and channels > 1:
        target = channels_last(y.shape)
        result = f"{operation.output}, channels last"
    members = {
        "channels": channels,
        "height": height,
        "width": width,
        "rows": rows,
        "columns": columns,
        "kernel_rows": a["kernel_shape"][0],
        "kernel_columns": a["kernel_shape"][1],
        "stride_rows": a["strides"][0],
        "stride_columns": a["strides"][1],
        "dilation_rows": a["dilations"][0],
        "dilation_columns": a["dilations"][1],
        "pad_top": a["pads"][0],
        "pad_left": a["pads"][1],
        "pad_bottom": a["pads"][2],
        "pad_right": a["pads"][3],
        "average": int(operation.operator != "MaxPool"),
        "count_include_pad": int(a["count_include_pad"]),
        "in_row": x.strides[2],
        "in_column": x.strides[3],
        "out_row": target.strides[2],
        "out_column": target.strides[3],
        "activations": activation_members(operation.fused),
    }
    samples, read, written = "", f"{{x}}{plus(x.offset)}", f"{{y}}{plus(target.offset)}"
    if x.shape[0] > 1:
        samples = f"for (int sample = 0; sample < {x.shape[0]}; sample++)\n        "
        read, written = f"{read} + sample * {x.strides[0]}", f"{written} + sample * {target.strides[0]}"
    steps.append(
        Step(
            title=title_of(operation, lowering),
            nodes=operation.nodes,
            kernel="pool_f32",
            call=f"{samples}edgeline_pool_f32({{layer}}, {read}, {written})",
            reads=(name,),
            writes=result,
            layer=Struct("edgeline_pool", members),
            made=None if result == operation.output else (Tensor(result, y.shape), target),
        )
    )
    if result != operation.output:
        steps.append(copy_behind(operation, result, target, y))
    return steps
