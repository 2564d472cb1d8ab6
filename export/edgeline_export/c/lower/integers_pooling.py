"""MaxPool, QLinearAveragePool and QLinearGlobalAveragePool that no Conv took in."""

from __future__ import annotations

import numpy as np

from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.integers import average_factor, each_image, of_image, reads_the_callers
from edgeline_export.c.lower.integers_elements import grid_members, move_step
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Parameter, Step, Struct, channels_last


def lower_integer_pool(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a pooling: its channels beside each other where they are not yet, then the windows."""
    a, name = operation.attributes, operation.inputs[0]
    x, y = lowering.layout(name), lowering.layout(operation.output)
    given, made = lowering.tensor(name), lowering.tensor(operation.output)
    _, channels, height, width = x.shape
    _, _, rows, columns = y.shape
    before, behind = [], []
    if (x.strides[1] != 1 and channels > 1) or reads_the_callers(lowering, name):
        source, x = x, channels_last(x.shape)
        name = f"{operation.inputs[0]}, channels last for {operation.nodes[0]}"
        before = [move_step(f"Copy for {operation.nodes[0]}", operation.inputs[0], source, name, x)]
    result, target = operation.output, y
    if y.strides[1] != 1 and channels > 1:
        result, target = f"{operation.output}, channels last", channels_last(y.shape)
        behind = [move_step(f"Transpose behind {operation.nodes[0]}", result, target, operation.output, y)]
    average = operation.operator != "MaxPool"
    kernel = a.get("kernel_shape", (height, width))
    pads, ones = a.get("pads", (0, 0, 0, 0)), (1, 1)
    members = {
        "channels": channels,
        "height": height,
        "width": width,
        "rows": rows,
        "columns": columns,
        "kernel_rows": kernel[0],
        "kernel_columns": kernel[1],
        "stride_rows": a.get("strides", ones)[0],
        "stride_columns": a.get("strides", ones)[1],
        "dilation_rows": a.get("dilations", ones)[0],
        "dilation_columns": a.get("dilations", ones)[1],
        "pad_top": pads[0],
        "pad_left": pads[1],
        "pad_bottom": pads[2],
        "pad_right": pads[3],
        "average": int(average),
        "count_include_pad": int(a.get("count_include_pad", 0)),
        "inner_zero": given.zero_point,
        "grid": grid_members(a.get("range", (0, 255)), made),
        "in_row": x.strides[2],
        "in_column": x.strides[3],
        "out_row": target.strides[2],
        "out_column": target.strides[3],
    }
    factors: tuple[Parameter, ...] = ()
    if average:
        counts = range(1, kernel[0] * kernel[1] + 1)
        values = np.array([0, *(average_factor(given, made, count) for count in counts)], np.float32)
        factors = (Parameter(values, "factors of the average, by the count"),)
    step = Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="pool_u8",
        call=(
            f"{each_image(x)}edgeline_pool_u8({{layer}}, {{x}}{plus(x.offset)}{of_image(x)}, "
            f"{'{w0}' if average else 'NULL'}, {{y}}{plus(target.offset)}{of_image(target)})"
        ),
        reads=(name,),
        writes=result,
        layer=Struct("edgeline_pool_u8_layer", members),
        parameters=factors,
        made=None if result == operation.output else (Tensor(result, y.shape, "uint8"), target),
    )
    return [*before, step, *behind]
