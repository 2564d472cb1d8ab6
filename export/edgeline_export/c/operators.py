"""The ONNX operators that the generator takes, as opset 20 defines them: a literal table.

A reader raises InputError with the reason alone; read.py says the operator and the node. An attribute that is not in
the table is refused. Adding an operator: its reader in nodes/ and its line here, its kernel in kernels/, its lowering
in lower/.
"""

from __future__ import annotations

from edgeline_export.c.nodes.elements import read_activation, read_batch_normalization, read_binary, read_clip
from edgeline_export.c.nodes.given import Given, Read
from edgeline_export.c.nodes.matrices import read_gemm, read_matmul
from edgeline_export.c.nodes.quantised import read_linear
from edgeline_export.c.nodes.shapes import (
    read_argmax,
    read_concat,
    read_pad,
    read_reduce,
    read_reshape,
    read_slice,
    read_softmax,
    read_transpose,
)
from edgeline_export.c.nodes.windows import read_conv, read_global_pool, read_pool

__all__ = ["ATTRIBUTES", "OPERATORS", "Given", "Read"]

OPERATORS: dict[str, Read] = {
    "Abs": read_activation,
    "Add": read_binary,
    "ArgMax": read_argmax,
    "AveragePool": read_pool,
    "BatchNormalization": read_batch_normalization,
    "Clip": read_clip,
    "Concat": read_concat,
    "Conv": read_conv,
    "DequantizeLinear": read_linear,
    "Div": read_binary,
    "Dropout": read_reshape,
    "Elu": read_activation,
    "Exp": read_activation,
    "Flatten": read_reshape,
    "Gemm": read_gemm,
    "GlobalAveragePool": read_global_pool,
    "GlobalMaxPool": read_global_pool,
    "HardSigmoid": read_activation,
    "HardSwish": read_activation,
    "Identity": read_reshape,
    "LeakyRelu": read_activation,
    "MatMul": read_matmul,
    "Max": read_binary,
    "MaxPool": read_pool,
    "Min": read_binary,
    "Mul": read_binary,
    "Neg": read_activation,
    "PRelu": read_binary,
    "Pad": read_pad,
    "Pow": read_binary,
    "QuantizeLinear": read_linear,
    "ReduceMax": read_reduce,
    "ReduceMean": read_reduce,
    "ReduceMin": read_reduce,
    "ReduceSum": read_reduce,
    "Relu": read_activation,
    "Reshape": read_reshape,
    "Sigmoid": read_activation,
    "Slice": read_slice,
    "Softmax": read_softmax,
    "Sqrt": read_activation,
    "Squeeze": read_reshape,
    "Sub": read_binary,
    "Tanh": read_activation,
    "Transpose": read_transpose,
    "Unsqueeze": read_reshape,
}

_WINDOW = "auto_pad dilations kernel_shape pads strides"
_REDUCE = "keepdims noop_with_empty_axes"
# The attributes that each reader looks at, or that change nothing of what is taken.
ATTRIBUTES: dict[str, frozenset[str]] = {
    operator: frozenset(names.split())
    for operator, names in {
        "ArgMax": "axis keepdims select_last_index",
        "AveragePool": f"{_WINDOW} ceil_mode count_include_pad",
        "BatchNormalization": "epsilon momentum training_mode",
        "Concat": "axis",
        "Conv": f"{_WINDOW} group",
        "DequantizeLinear": "axis",
        "Dropout": "seed",
        "Elu": "alpha",
        "Flatten": "axis",
        "Gemm": "alpha beta transA transB",
        "HardSigmoid": "alpha beta",
        "LeakyRelu": "alpha",
        "MaxPool": f"{_WINDOW} ceil_mode storage_order",
        "Pad": "mode",
        "QuantizeLinear": "axis saturate",
        "ReduceMax": _REDUCE,
        "ReduceMean": _REDUCE,
        "ReduceMin": _REDUCE,
        "ReduceSum": _REDUCE,
        "Reshape": "allowzero",
        "Softmax": "axis",
        "Transpose": "perm",
    }.items()
}
