"""Operators on each number: activations, arithmetic of two operands, BatchNormalization."""

from __future__ import annotations

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation
from edgeline_export.c.nodes.given import Given, need_constants, single_precision

_INFINITY = float("inf")
# The attributes of activations, with ONNX's defaults.
_NUMBERS = {
    "LeakyRelu": {"alpha": 0.01},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Elu": {"alpha": 1.0},
}


def read_activation(given: Given) -> Operation:
    """Relu, Sigmoid, Tanh and others without an attribute or with numbers as attributes."""
    numbers = _NUMBERS.get(given.node.op_type, {})
    return given.operation({name: float(given.attributes.get(name, default)) for name, default in numbers.items()})


def read_clip(given: Given) -> Operation:
    """Clip; a bound that is left out is the largest float."""
    low, high = given.number(1, -_INFINITY), given.number(2, _INFINITY)
    if low != low or high != high:
        raise InputError("a bound is NaN")
    return given.operation({"min": single_precision(low), "max": single_precision(high)}, inputs=1)


def read_binary(given: Given) -> Operation:
    """Add, Sub, Mul, Div, Min, Max, Pow and PRelu, broadcast as numpy does it."""
    if len(given.node.input) != 2:
        raise InputError(f"{len(given.node.input)} operands, where 2 are taken")
    return given.operation({})


def read_batch_normalization(given: Given) -> Operation:
    """BatchNormalization as it is outside training; momentum is of training alone."""
    if given.attributes.get("training_mode", 0):
        raise InputError("training_mode is 1: it computes the statistics of a batch")
    need_constants(given, 1)
    return given.operation({"epsilon": float(given.attributes.get("epsilon", 1e-5))})
