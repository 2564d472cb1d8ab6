"""Operations per operator: the convention in which all of Edgeline's rates are given.

A multiply-accumulate is two operations; a bias belongs to it and adds none. An exponential, a division, a comparison is
one operation each, whatever it costs in instructions. Moving data, changing a number's type and Q/DQ are none, so that
a network has the same work in each precision. An operator that is in no table counts none, and its bytes.
"""

from __future__ import annotations

import math

from edgeline_bench.layers.graph import MATRIX_OPERATORS, Graph, Node
from edgeline_export.coverage import macs_of
from edgeline_export.graph import attributes_of

# Operations per element of the output.
_PER_OUTPUT = {
    **dict.fromkeys(
        ("Abs", "Add", "Ceil", "Clip", "Cos", "Div", "Erf", "Exp", "Floor", "LeakyRelu", "Log", "Max", "Min", "Mul",
         "Neg", "Not", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Sin", "Sqrt", "Sub", "Sum", "Where"), 1),
    "BatchNormalization": 2,  # a factor and a shift: its statistics are constants
    "Elu": 3,  # exp, subtract, multiply
    "Gelu": 5,  # divide, erf, add, two products
    "HardSigmoid": 4,  # multiply, add, two comparisons
    "HardSwish": 5,
    "InstanceNormalization": 7,  # mean 1, variance 3, subtract, scale, shift
    "LayerNormalization": 7,
    "LogSoftmax": 5,
    "Sigmoid": 4,  # negate, exp, add, divide
    "Softmax": 5,  # maximum, subtract, exp, sum, divide
    "Softplus": 3,
    "Tanh": 5,  # exp(2x): multiply, exp; minus 1, plus 1, divide
}  # fmt: skip
# Operations per element of the input: each is added or compared once.
_PER_INPUT = {"GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}


def flops_of(graph: Graph, node: Node) -> int:
    """Return the operations of a node at the graph's batch size."""
    output = graph.tensor(node.outputs[0])
    if output.constant:
        return 0
    if node.operator in MATRIX_OPERATORS:
        # macs_of counts what one entry of the first dimension takes; a batch that was merged into it is counted too.
        shapes = {name: list(graph.tensor(name).shape) for name in (*node.inputs[:2], node.outputs[0])}
        return 2 * macs_of(node.proto, shapes) * math.prod(output.shape[:1])
    if node.operator in _PER_OUTPUT:
        return _PER_OUTPUT[node.operator] * output.size
    if node.operator in _PER_INPUT:
        return graph.tensor(node.inputs[0]).size
    window: int = math.prod(attributes_of(node.proto).get("kernel_shape", ()))
    if node.operator == "AveragePool":
        return window * output.size  # window - 1 additions and a division
    if node.operator == "MaxPool":
        return (window - 1) * output.size
    if node.operator == "LRN":
        return (2 * int(attributes_of(node.proto)["size"]) + 3) * output.size
    return 0
