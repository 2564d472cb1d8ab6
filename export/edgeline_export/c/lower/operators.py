"""Which function lowers which operator."""

from __future__ import annotations

from collections.abc import Callable

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.axes import lower_argmax, lower_reduce, lower_softmax
from edgeline_export.c.lower.context import Lowering
from edgeline_export.c.lower.convolution import lower_conv
from edgeline_export.c.lower.elementwise import lower_affine, lower_binary, lower_unary
from edgeline_export.c.lower.integers_elements import (
    lower_dequantize,
    lower_integer_concat,
    lower_integer_reshape,
    lower_integer_transpose,
    lower_pair,
    lower_quantize,
    lower_table,
)
from edgeline_export.c.lower.integers_planar import lower_integer_conv
from edgeline_export.c.lower.integers_pooling import lower_integer_pool
from edgeline_export.c.lower.integers_taps import lower_integer_matmul
from edgeline_export.c.lower.matrix import lower_matrix
from edgeline_export.c.lower.moving import lower_concat, lower_pad, lower_reshape, lower_slice, lower_transpose
from edgeline_export.c.lower.pooling import lower_pool
from edgeline_export.c.passes.fuse import ACTIVATIONS, ARITHMETIC, REDUCTIONS
from edgeline_export.c.passes.tables import TABLES
from edgeline_export.c.program import Step

Lower = Callable[[Operation, Lowering], list[Step]]

LOWERINGS: dict[str, Lower] = {
    **dict.fromkeys(ACTIVATIONS, lower_unary),
    **dict.fromkeys(ARITHMETIC, lower_binary),
    **dict.fromkeys(REDUCTIONS, lower_reduce),
    "Affine": lower_affine,
    "ArgMax": lower_argmax,
    "AveragePool": lower_pool,
    "Concat": lower_concat,
    "Conv": lower_conv,
    "Gemm": lower_matrix,
    "GlobalAveragePool": lower_pool,
    "MatMul": lower_matrix,
    "MaxPool": lower_pool,
    "Pad": lower_pad,
    "Reshape": lower_reshape,
    "Slice": lower_slice,
    "Softmax": lower_softmax,
    "Transpose": lower_transpose,
}

# Operators that read or write bytes.
INTEGER_LOWERINGS: dict[str, Lower] = {
    "DequantizeLinear": lower_dequantize,
    "MaxPool": lower_integer_pool,
    "QLinearAdd": lower_pair,
    "QLinearAveragePool": lower_integer_pool,
    "QLinearConcat": lower_integer_concat,
    "QLinearConv": lower_integer_conv,
    "QLinearGlobalAveragePool": lower_integer_pool,
    "QLinearMatMul": lower_integer_matmul,
    "QLinearMul": lower_pair,
    "QuantizeLinear": lower_quantize,
    "Reshape": lower_integer_reshape,
    "Transpose": lower_integer_transpose,
    **dict.fromkeys(TABLES, lower_table),
}


def lower_operation(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of an operation. Raises InputError where it reads bytes and only floats are taken."""
    tensors = [lowering.tensor(operation.output), *lowering.network.activations(operation)]
    if not any(tensor.dtype in ("int8", "uint8") for tensor in tensors):
        if operation.operator not in LOWERINGS:
            raise InputError(f"{operation.operator} '{operation.nodes[0]}': the C format does not take it as it is")
        return LOWERINGS[operation.operator](operation, lowering)
    if operation.operator not in INTEGER_LOWERINGS:
        raise InputError(
            f"{operation.operator} '{operation.nodes[0]}': bytes that no DequantizeLinear makes floats of; the C "
            "format does not take it"
        )
    return INTEGER_LOWERINGS[operation.operator](operation, lowering)
