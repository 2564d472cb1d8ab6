"""Operators that move numbers and change none: Reshape, Transpose, Concat, Slice, Pad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation, Tensor
from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.lower.loops import DIMENSIONS, nest
from edgeline_export.c.lower.operands import operands_of
from edgeline_export.c.lower.titles import title_of
from edgeline_export.c.program import Layout, Parameter, Step, Struct, contiguous


def lower_reshape(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return no step where the same memory serves, else a copy into ONNX's order."""
    name = operation.inputs[0]
    source, result = lowering.layout(name), lowering.layout(operation.output)
    ends = (lowering.network.input, lowering.network.output)
    if result.source is not None and (name, operation.output) != ends:
        return []
    title = title_of(operation, lowering)
    if source.contiguous:
        return [
            Step(
                title=title,
                nodes=operation.nodes,
                kernel="copy_f32",
                call=f"memcpy({{y}}, {{x}}, {lowering.tensor(name).bytes})",
                reads=(name,),
                writes=operation.output,
            )
        ]
    return [_copy(title, name, "{x}", source, operation.output, contiguous(source.shape), operation.nodes)]


def lower_transpose(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the copy that reads the dimensions in another order."""
    x, perm = lowering.layout(operation.inputs[0]), operation.attributes["perm"]
    turned = replace(x, shape=tuple(x.shape[i] for i in perm), strides=tuple(x.strides[i] for i in perm))
    return [_moved(operation, lowering, turned)]


def lower_slice(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the copy of every step-th number from the first on, along every dimension."""
    x, a = lowering.layout(operation.inputs[0]), operation.attributes
    strides = tuple(stride * step for stride, step in zip(x.strides, a["steps"], strict=True))
    first = sum(stride * start for stride, start in zip(x.strides, a["starts"], strict=True))
    shape = lowering.tensor(operation.output).shape
    return [_moved(operation, lowering, replace(x, shape=shape, strides=strides, offset=x.offset + first))]


def lower_concat(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return a copy for each input: the first writes the output's padding too, where it has any."""
    steps, y, axis, at = [], lowering.layout(operation.output), operation.attributes["axis"], 0
    for number, name in enumerate(operation.inputs, 1):
        operand = operands_of((name,), lowering)
        source = operand.all[0]
        part = replace(y, shape=source.shape, offset=y.offset + at * y.strides[axis])
        given = Layout(source.shape, source.strides, 0, 0)
        title = f"{title_of(operation, lowering)}, part {number} of {len(operation.inputs)}"
        step = _copy(title, name, source.text, given, operation.output, part, operation.nodes)
        steps.append(replace(step, reads=operand.reads, parameters=operand.parameters))
        at += source.shape[axis]
    return steps


def lower_pad(operation: Operation, lowering: Lowering) -> list[Step]:
    """Return the steps of a Pad: with a constant all of it is written, then the input into its middle."""
    name, a = operation.inputs[0], operation.attributes
    x, y = lowering.layout(name), lowering.layout(operation.output)
    title = title_of(operation, lowering)
    if a["mode"] != "constant":
        return [_by_index(operation, lowering)]
    value = Parameter(np.full(1, a["value"], np.float32), "what is padded with")
    everywhere = Layout(y.shape, (0,) * len(y.shape), 0, 1)
    fill = _copy(f"{title}, its constant", name, "{w0}", everywhere, operation.output, y, operation.nodes)
    counts, begins, ends = [], [], []
    for size, (begin, end) in zip(x.shape, a["pads"], strict=True):
        counts.append(max(size + min(begin, 0) + min(end, 0), 0))
        begins.append(max(-begin, 0))
        ends.append(max(begin, 0))
    inner = replace(
        x, shape=tuple(counts), offset=x.offset + sum(s * b for s, b in zip(x.strides, begins, strict=True))
    )
    target = replace(y, shape=tuple(counts), offset=y.offset + sum(s * e for s, e in zip(y.strides, ends, strict=True)))
    steps = [replace(fill, reads=(), parameters=(value,))]
    if 0 not in counts:
        steps.append(copy_step(title, name, inner, operation.output, target, operation.nodes))
        steps[-1] = replace(steps[-1], made=None)
    return steps


def _by_index(operation: Operation, lowering: Lowering) -> Step:
    """Return the step that copies numbers of the input into the padding too, as numpy's pad finds them."""
    name, a = operation.inputs[0], operation.attributes
    x, y = lowering.layout(name), lowering.layout(operation.output)
    tables, sizes, strides = [], [], []
    for size, stride, to, (begin, end) in zip(x.shape, x.strides, y.strides, a["pads"], strict=True):
        places = np.pad(np.arange(size), (max(begin, 0), max(end, 0)), mode=a["mode"])
        places = places[max(-begin, 0) : len(places) - max(-end, 0)]
        if len(places) > 1 or places[0] != 0:
            tables.append(places * stride)
            sizes.append(len(places))
            strides.append(to)
    missing = DIMENSIONS - len(sizes)
    if missing < 0:
        raise InputError(f"{title_of(operation, lowering)}: the C format pads {DIMENSIONS} dimensions at most")
    table = np.concatenate([np.zeros(missing, np.int64), *tables]).astype(np.int32)
    return Step(
        title=title_of(operation, lowering),
        nodes=operation.nodes,
        kernel="index_f32",
        call=f"edgeline_index_f32({{layer}}, {{x}}{plus(x.offset)}, {{w0}}, {{y}}{plus(y.offset)})",
        reads=(name,),
        writes=operation.output,
        layer=Struct("edgeline_index", {"sizes": [1] * missing + sizes, "to": [0] * missing + strides}),
        parameters=(Parameter(table, "where the number for each place lies, dimension by dimension"),),
    )


def _moved(operation: Operation, lowering: Lowering, given: Layout) -> Step:
    y = lowering.layout(operation.output)
    step = copy_step(title_of(operation, lowering), operation.inputs[0], given, operation.output, y, operation.nodes)
    return replace(step, made=None)


def copy_step(title: str, source: str, given: Layout, target: str, wanted: Layout, nodes: tuple[str, ...] = ()) -> Step:
    """Return the step that copies a tensor from one layout to another, which is the `target` tensor's."""
    step = _copy(title, source, f"{{x}}{plus(given.offset)}", given, target, wanted, nodes)
    return replace(step, made=(Tensor(target, given.shape), wanted))


def _copy(
    title: str, source: str, address: str, given: Layout, target: str, wanted: Layout, nodes: tuple[str, ...]
) -> Step:
    sizes, (to, strides) = nest(given.shape, wanted.strides, given.strides)
    return Step(
        title=title,
        nodes=nodes,
        kernel="copy_f32",
        call=f"edgeline_copy_f32({{layer}}, {address}, {{y}}{plus(wanted.offset)})",
        reads=(source,),
        writes=target,
        layer=Struct("edgeline_copy", {"sizes": sizes, "from": strides, "to": to}),
    )


def copy_behind(operation: Operation, made: str, given: Layout, wanted: Layout) -> Step:
    """Return the step that brings what a kernel made, channels last, into the layout of the operation's output."""
    step = copy_step(f"Transpose behind {operation.nodes[0]}", made, given, operation.output, wanted)
    return replace(step, made=None)
