"""Operators that move numbers or go along an axis: attributes as lists for every dimension."""

from __future__ import annotations

import numpy as np

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation
from edgeline_export.c.nodes.given import Given, single_precision

_PAD_MODES = ("constant", "edge", "reflect", "wrap")


def read_reshape(given: Given) -> Operation:
    """Flatten, Reshape, Squeeze, Unsqueeze, Identity, Dropout: the numbers stay, the shape is that of the output."""
    if given.node.op_type == "Dropout" and given.has(2) and given.number(2, 0) != 0:
        raise InputError("training_mode is 1: it drops numbers at random")
    return given.operation({}, "Reshape", inputs=1)


def read_transpose(given: Given) -> Operation:
    """Transpose with its permutation."""
    rank = len(given.shape(0))
    perm = tuple(given.attributes.get("perm", tuple(reversed(range(rank)))))
    if sorted(perm) != list(range(rank)):
        raise InputError(f"its perm {list(perm)} is no permutation of {rank} dimensions")
    if given.free_batch and perm[0] != 0:
        raise InputError("it moves the batch, which must stay the first dimension")
    return given.operation({"perm": perm})


def read_concat(given: Given) -> Operation:
    """Concat along an axis that is not the free batch."""
    return given.operation({"axis": given.axis(int(given.attributes["axis"]))})


def read_pad(given: Given) -> Operation:
    """Pad with `pads` as (begin, end) of every dimension; negative ones cut."""
    mode = given.attributes.get("mode", b"constant").decode()
    if mode not in _PAD_MODES:
        raise InputError(f"its mode is {mode}, where {', '.join(_PAD_MODES)} are taken")
    rank = len(given.shape(0))
    numbers, axes = given.numbers(1), given.numbers(3)
    axes = tuple(range(rank)) if axes is None else tuple(axis % rank for axis in axes)
    if numbers is None or len(numbers) != 2 * len(axes):
        raise InputError(f"its pads are not two numbers for each of {len(axes)} axes")
    pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pads[axis] = (numbers[i], numbers[i + len(axes)])
    if given.free_batch and any(pads[0]):
        given.axis(0)
    for size, (begin, end) in zip(given.shape(0), pads, strict=True):
        if mode == "reflect" and max(begin, end) >= size:
            raise InputError(f"it reflects {max(begin, end)} numbers of a dimension of {size}")
    value = given.number(2, 0.0) if mode == "constant" else 0.0
    if not np.isfinite(value):
        raise InputError(f"its constant_value is {value}")
    return given.operation({"mode": mode, "pads": tuple(pads), "value": single_precision(value)}, inputs=1)


def read_slice(given: Given) -> Operation:
    """Slice with the first index and the step of every dimension; the counts are the output's shape."""
    shape = given.shape(0)
    rank = len(shape)
    starts, ends = given.numbers(1), given.numbers(2)
    if starts is None or ends is None:
        raise InputError("its starts or ends are missing")
    axes = given.numbers(3) or tuple(range(len(starts)))
    steps = given.numbers(4) or (1,) * len(starts)
    first, step_of = [0] * rank, [1] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = axis % rank
        if at == 0 and given.free_batch and not (start == 0 and step == 1 and end >= np.iinfo(np.int32).max):
            given.axis(0)
        # As numpy cuts it: with a negative step the end may lie before the first number.
        first[at], _, step_of[at] = slice(start, end if end >= -shape[at] else None, step).indices(shape[at])
    return given.operation({"starts": tuple(first), "steps": tuple(step_of)}, inputs=1)


def read_reduce(given: Given) -> Operation:
    """ReduceSum, ReduceMean, ReduceMax and ReduceMin over `axes`."""
    rank = len(given.shape(0))
    axes = given.numbers(1)
    if not axes:
        if given.attributes.get("noop_with_empty_axes", 0):
            return given.operation({}, "Reshape", inputs=1)
        axes = tuple(range(rank))
    found = tuple(sorted(given.axis(axis) for axis in axes))
    return given.operation({"axes": found, "keepdims": bool(given.attributes.get("keepdims", 1))}, inputs=1)


def read_softmax(given: Given) -> Operation:
    """Softmax along one axis, as it is from opset 13 on."""
    return given.operation({"axis": given.axis(int(given.attributes.get("axis", -1)))})


def read_argmax(given: Given) -> Operation:
    """ArgMax along one axis; of equal numbers the first or, with select_last_index, the last."""
    attributes = given.attributes
    return given.operation(
        {
            "axis": given.axis(int(attributes.get("axis", 0))),
            "keepdims": bool(attributes.get("keepdims", 1)),
            "select_last_index": bool(attributes.get("select_last_index", 0)),
        }
    )
