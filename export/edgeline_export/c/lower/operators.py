"""Which function lowers which operator."""

from __future__ import annotations

from collections.abc import Callable

from edgeline_export.c.ir import Operation
from edgeline_export.c.lower.context import Lowering
from edgeline_export.c.lower.convolution import lower_conv
from edgeline_export.c.lower.elementwise import lower_unary
from edgeline_export.c.lower.matrix import lower_matrix
from edgeline_export.c.lower.moving import lower_reshape
from edgeline_export.c.lower.pooling import lower_pool
from edgeline_export.c.program import Step

Lower = Callable[[Operation, Lowering], list[Step]]

LOWERINGS: dict[str, Lower] = {
    "AveragePool": lower_pool,
    "Conv": lower_conv,
    "Gemm": lower_matrix,
    "MaxPool": lower_pool,
    "Relu": lower_unary,
    "Reshape": lower_reshape,
    "Sigmoid": lower_unary,
    "Tanh": lower_unary,
}
