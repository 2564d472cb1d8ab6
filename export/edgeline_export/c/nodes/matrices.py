"""Gemm and MatMul."""

from __future__ import annotations

from edgeline_export.c.ir import Operation
from edgeline_export.c.nodes.given import Given


def read_gemm(given: Given) -> Operation:
    """Alpha * A' B' + beta * C; what is computed of B and C is for passes/lift.py to take apart."""
    attributes = given.attributes
    return given.operation(
        {
            "alpha": float(attributes.get("alpha", 1.0)),
            "beta": float(attributes.get("beta", 1.0)),
            "transA": bool(attributes.get("transA", 0)),
            "transB": bool(attributes.get("transB", 0)),
        }
    )


def read_matmul(given: Given) -> Operation:
    """MatMul of any ranks."""
    return given.operation({})
