"""Activations as the kernels take them: a list of kinds with two numbers each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeline_export.c.ir import Operation
from edgeline_export.c.passes.fuse import MAX_ACTIVATIONS

_KINDS = {"Relu": "EDGELINE_RELU", "Sigmoid": "EDGELINE_SIGMOID", "Tanh": "EDGELINE_TANH"}


def activation_members(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """Return the members of edgeline_activation for operations in a row, at most MAX_ACTIVATIONS of them."""
    assert len(operations) <= MAX_ACTIVATIONS
    return [_members(operation) for operation in operations]


def _members(operation: Operation) -> dict[str, Any]:
    return {"kind": _KINDS[operation.operator]}
