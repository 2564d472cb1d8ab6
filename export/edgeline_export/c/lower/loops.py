"""Nests of loops: shapes and strides with as few dimensions as the layouts allow."""

from __future__ import annotations

from collections.abc import Sequence

from edgeline.errors import InputError

DIMENSIONS = 6  # EDGELINE_DIMENSIONS of kernels/lanes_f32.c


def nest(
    shape: Sequence[int], *strides: Sequence[int], dimensions: int = DIMENSIONS, order: bool = True
) -> tuple[list[int], list[list[int]]]:
    """Return sizes and, for each operand, strides of a nest of exactly `dimensions` loops, the innermost last.

    Dimensions of one number go, those that follow each other in every operand become one; with `order` the first
    operand's smallest stride comes innermost. Raises InputError where more remain than the kernels have.
    """
    loops = [(size, *steps) for size, *steps in zip(shape, *strides, strict=True) if size > 1]
    if order:
        loops.sort(key=lambda loop: -abs(loop[1]))
    merged: list[tuple[int, ...]] = []
    for loop in loops:
        if merged and all(outer == loop[0] * inner for outer, inner in zip(merged[-1][1:], loop[1:], strict=True)):
            merged[-1] = (merged[-1][0] * loop[0], *loop[1:])
        else:
            merged.append(tuple(loop))
    if len(merged) > dimensions:
        raise InputError(f"{len(merged)} dimensions that cannot be merged, where the C format takes {dimensions}")
    missing = [(1, *(0 for _ in strides))] * (dimensions - len(merged))
    rows = [*missing, *merged]
    return [row[0] for row in rows], [[row[1 + i] for row in rows] for i in range(len(strides))]


def broadcast(shape: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> list[int]:
    """Return the strides with which an operand is read as if it had the `target` shape, as numpy broadcasts."""
    missing = len(target) - len(shape)
    return [0] * missing + [0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)]
