"""Activations as the kernels take them: a list of kinds with two numbers each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeline_export.c.ir import Operation
from edgeline_export.c.passes.fuse import MAX_ACTIVATIONS

# The kind of kernels/activation_f32.c, and the attributes that are its numbers a and b.
_KINDS = {
    "Abs": ("EDGELINE_ABS",),
    "Clip": ("EDGELINE_CLIP", "min", "max"),
    "Elu": ("EDGELINE_ELU", "alpha"),
    "Exp": ("EDGELINE_EXP",),
    "HardSigmoid": ("EDGELINE_HARD_SIGMOID", "alpha", "beta"),
    "HardSwish": ("EDGELINE_HARD_SWISH",),
    "LeakyRelu": ("EDGELINE_LEAKY_RELU", "alpha"),
    "Relu": ("EDGELINE_RELU",),
    "Scale": ("EDGELINE_SCALE", "a", "b"),
    "Sigmoid": ("EDGELINE_SIGMOID",),
    "Sqrt": ("EDGELINE_SQRT",),
    "Square": ("EDGELINE_SQUARE",),
    "Tanh": ("EDGELINE_TANH",),
}


def activation_members(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """Return the members of edgeline_activation for operations in a row, at most MAX_ACTIVATIONS of them."""
    assert len(operations) <= MAX_ACTIVATIONS
    return [_members(operation) for operation in operations]


def _members(operation: Operation) -> dict[str, Any]:
    kind, *names = _KINDS[operation.operator]
    numbers = (float(operation.attributes[name]) for name in names)
    return {"kind": kind, **dict(zip("ab", numbers, strict=False))}
