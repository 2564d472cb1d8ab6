"""Conv by Winograd's minimal filtering along the rows: fewer multiplications where a layer has enough of them.

The matrices are those of the Toom-Cook construction over the points 0, 1, -1, 2, -2 and infinity: six terms, for four
output rows of a filter of three taps, or two of five. They are exact here; the weights are transformed in float64.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.context import Lowering, blocked, filled, plus
from edgeline_export.c.lower.conv_parts import (
    PARALLEL_MACS,
    bias_name,
    blocks_of_a_tile,
    channels_beside,
    corner,
    padded,
    pool_of,
    pooling_members,
    weights_of,
    written,
)
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Parameter, Step, Struct, contiguous

TERMS = 6
_POINTS = (0, 1, -1, 2, -2)
ONE = 1  # the term of the point 1, which counts once in every output: where the bias is added
_OUTPUTS_BY_TAPS = {3: 4, 5: 2}
_MOST_POOL_COLUMNS = 4  # a window's sums of four vectors fit what a tile keeps of each term
# Numbers that a tap of a row multiplies, below which the sums before and behind cost more than is saved.
_LEAST_TAPS_OF_A_ROW = 24


def lower_winograd(operation: Operation, lowering: Lowering, outputs: int) -> list[Step]:
    """Return the steps of a Conv of which `outputs` rows are computed together: the input's rows, then the layer."""
    block = lowering.target.block
    padding, source, x = padded(operation, lowering)
    weight, bias = weights_of(operation, lowering)
    channels, in_channels, _, taps = weight.shape
    of_input, of_filter, of_products = matrices(outputs)
    pool = pool_of(operation)
    pool_rows, pool_columns = (1, 1) if pool is None else pool.attributes["kernel_shape"]
    result, y = channels_beside(operation, lowering.layout(operation.output))
    rows, columns = lowering.tensor(operation.output).shape[2:]
    groups = rows * pool_rows // outputs
    last = x.strides[1] == 1
    width = columns * pool_columns + taps - 1  # columns of the input that are read
    spans, span = (1, width * in_channels) if last else (in_channels, width)
    v_span = blocked(span, block)
    transformed = f"{operation.inputs[0]}, rows transformed for {operation.nodes[0]}"
    shape = (1, groups, TERMS, spans, v_span)
    rows_step = Step(
        title=f"rows of {operation.inputs[0]} transformed for {operation.nodes[0]}",
        nodes=(),
        kernel="conv2d_winograd_f32",
        call=f"edgeline_winograd_rows_f32({{layer}}, {{x}}{plus(corner(x, operation.attributes))}, {{y}})",
        reads=(source,),
        writes=transformed,
        layer=Struct(
            "edgeline_winograd_rows",
            {
                "groups": groups,
                "terms": TERMS,
                "spans": spans,
                "span": span,
                "v_span": v_span,
                "x_row": x.strides[2],
                "x_span": 0 if last else x.strides[1],
                "x_group": outputs * x.strides[2],
                "input": of_input.tolist(),
            },
        ),
        made=(Tensor(transformed, shape), contiguous(shape)),
    )
    all_channels = blocked(channels, block)
    filters = np.einsum("tk,ockl->tocl", of_filter, weight.astype(np.float64))
    packed = filled(filters, all_channels, 1).reshape(TERMS, -1, block, in_channels, taps)
    packed = packed.transpose((0, 1, 4, 3, 2) if last else (0, 1, 3, 4, 2))
    biases = np.zeros((TERMS, all_channels), np.float32)
    biases[ONE, :channels] = bias
    plain = {"count": 1, "stride": 0}
    multiply = {
        "channels": all_channels,
        "out_channels": all_channels,
        "rows": 1,
        "columns": columns * pool_columns,
        "taps": [plain, plain, {"count": taps * in_channels, "stride": 1}]
        if last
        else [plain, {"count": in_channels, "stride": v_span}, {"count": taps, "stride": 1}],
        "in_column": in_channels if last else 1,
        "pool_rows": 1,
        "pool_columns": 1,
        "blocks": blocks_of_a_tile(all_channels // block, lowering.target),
    }
    finish = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "out_row": y.strides[2],
        "out_column": y.strides[3],
        **pooling_members(operation, pool, pool_rows, pool_columns),
    }
    macs = weight.size * rows * columns * pool_rows * pool_columns
    layer = Step(
        title=f"{title_of(operation, lowering)}, F({outputs}, {TERMS + 1 - outputs})",
        nodes=operation.nodes,
        kernel="conv2d_winograd_f32",
        call=(
            f"edgeline_conv2d_winograd_f32({{layer}}, {{x}}, {{w0}}, {{w1}}, {{y}}{plus(y.offset)}, "
            "{part}, {parts})"
        ),
        reads=(transformed,),
        writes=result,
        layer=Struct(
            "edgeline_conv2d_winograd",
            {
                "multiply": multiply,
                "finish": finish,
                "groups": groups,
                "terms": TERMS,
                "outputs": outputs,
                "term": spans * v_span,
                "group": TERMS * spans * v_span,
                "output": of_products.tolist(),
            },
        ),
        parameters=(
            Parameter(
                np.ascontiguousarray(packed, np.float32),
                f"{operation.inputs[1]}, its rows in {TERMS} terms, in blocks of {block} channels",
            ),
            Parameter(biases, f"{bias_name(operation)}, added to the term that is in every output"),
        ),
        macs=macs,
        parallel=macs >= PARALLEL_MACS,
    )
    return [*padding, rows_step, *written(operation, layer, y, lowering.layout(operation.output))]


def outputs_by_winograd(operation: Operation, lowering: Lowering) -> int:
    """Return how many output rows are computed together, 0 where the layer is better computed directly."""
    a = operation.attributes
    weight = lowering.constant(operation.inputs[1])
    pool = pool_of(operation)
    pool_rows, pool_columns = (1, 1) if pool is None else pool.attributes["kernel_shape"]
    rows = lowering.tensor(operation.output).shape[2] * pool_rows
    outputs = _OUTPUTS_BY_TAPS.get(weight.shape[2], 0)
    fits = (
        lowering.target.vectors
        and outputs > 0
        and rows % outputs == 0
        and outputs % pool_rows == 0
        and pool_columns <= _MOST_POOL_COLUMNS
        and lowering.tensor(operation.output).shape[0] == 1
        and a["group"] == 1
        and tuple(a["strides"]) == (1, 1)
        and tuple(a["dilations"]) == (1, 1)
        and weight.shape[1] * weight.shape[3] >= _LEAST_TAPS_OF_A_ROW
    )
    return outputs if fits else 0


def matrices(outputs: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the transforms of the input [terms, terms], the filter [terms, taps], the products [outputs, terms]."""
    taps = TERMS + 1 - outputs
    points = [Fraction(point) for point in _POINTS]
    of_input = [_padded(_product([q for q in points if q != p])) for p in points] + [_product(points)]
    of_filter = [[p**k / _value([q for q in points if q != p], p) for k in range(taps)] for p in points]
    of_filter.append([Fraction(int(k == taps - 1)) for k in range(taps)])
    of_products = [[*(p**i for p in points), Fraction(int(i == outputs - 1))] for i in range(outputs)]
    first, second, third = (np.array(m, np.float64) for m in (of_input, of_filter, of_products))
    return first, second, third


def _product(roots: list[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of (x - root), the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [-root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def _padded(coefficients: list[Fraction]) -> list[Fraction]:
    return coefficients + [Fraction(0)] * (TERMS - len(coefficients))


def _value(roots: list[Fraction], at: Fraction) -> Fraction:
    value = Fraction(1)
    for root in roots:
        value *= at - root
    return value
