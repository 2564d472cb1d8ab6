"""From the nodes of ONNX Runtime's optimised graph to the original nodes that each of them carries out.

The optimised graph is written out by the session that is profiled. A tensor of it stands for an original tensor where
it has the same name; where a rewriting gave it another one (the layouts NCHWc and NHWC, integer kernels) the name of
its node tells which one, as ONNX Runtime makes new names from old ones. A node then carries out what lies between the
original tensors behind its inputs and the one behind its output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from edgeline_bench.layers.fusion import ELEMENT_WISE
from edgeline_bench.layers.graph import MATRIX_OPERATORS, Graph, Node

# They change a layout or a type; where no original node is behind one, it serves the kernel beside it.
_CONVERSIONS = ("Cast", "DequantizeLinear", "QuantizeLinear", "ReorderInput", "ReorderOutput", "Reshape", "Transpose")
_BEFORE_READER = ("ReorderInput", "QuantizeLinear", "DequantizeLinear")
# In the names of tensors inside an operator that ONNX Runtime carries out by its ONNX definition, a Softmax in float16.
_INLINED = "_inlfunc_"
# What ONNX Runtime adds to names: a number that makes them unique, the layout, the fusion.
_ADDED = (
    re.compile(r"_token_\d+$"),
    re.compile(r"_nchwc$"),
    re.compile(r"_(?:mul|bn)$"),
    re.compile(r"^InsertedPrecisionFreeCast_"),
    re.compile(r"^fused "),
    re.compile(r"_pre_q$"),
    re.compile(r"/(MatMulAddFusion|GemmTransposeFusion|ReshapeFusion)$"),
)
# The names of convolutions that carry out none: in its layout NCHWc, ONNX Runtime multiplies each map by its
# coefficient, or normalises it, by a convolution of 1 x 1 a map.
_SCALES = re.compile(r"_(?:mul|bn)_nchwc$")
_LIGHT = ELEMENT_WISE | {"QuantizeLinear", "Cast", "Dropout", "Identity"}


@dataclass(frozen=True, slots=True)
class Match:
    """A node of the optimised graph: its name ("" where it has none), the original nodes, else whom it serves."""

    name: str
    operator: str
    nodes: tuple[str, ...]
    beside: int | None


def match_optimised(original: Graph, optimised: Sequence[onnx.NodeProto]) -> list[Match]:
    """Return a match per optimised node, in order. One with neither nodes nor `beside` could not be matched."""
    claimed = _claimed(original, optimised)
    behind = {name: name for name in original.inputs}
    taken: set[str] = set()
    covers: list[tuple[str, ...]] = []
    constant = _constant(original, optimised)
    serving: set[int] = set()
    for index, node in enumerate(optimised):
        tensor = _behind(original, node)
        if tensor is None:
            source = next((behind[name] for name in node.input if name in behind), None)
            if index in constant:
                serving.add(index)
            elif source is not None and (node.op_type in _CONVERSIONS or _INLINED in node.output[0]):
                serving.add(index)
                behind[node.output[0]] = source
            covers.append(())
            continue
        tensor = _extended(original, tensor, claimed)
        stop = {behind[name] for name in node.input if name in behind}
        cover = _between(original, tensor, stop, taken)
        heavy = node.op_type.endswith(MATRIX_OPERATORS) and not _SCALES.search(node.name)
        if not cover and not heavy:
            serving.add(index)
        elif heavy != any(found.operator in MATRIX_OPERATORS for found in cover):
            cover = []  # a kernel of a convolution or matrix product carries out one, and only such a kernel does
        taken.update(found.name for found in cover)
        behind[node.output[0]] = tensor
        # Further outputs (of a Split, say) keep their names.
        behind |= {name: name for name in node.output[1:] if name in original.producers}
        covers.append(tuple(found.name for found in cover))
    return [
        Match(
            node.name,
            node.op_type,
            covers[index],
            _beside(optimised, index, covers, index in constant) if index in serving else None,
        )
        for index, node in enumerate(optimised)
    ]


def _constant(original: Graph, optimised: Sequence[onnx.NodeProto]) -> set[int]:
    """Return the nodes that compute on weights alone: of Q/DQ weights, or a bias that ONNX Runtime quantises itself."""
    varying = set(original.inputs)
    constant = set()
    for index, node in enumerate(optimised):
        if varying.isdisjoint(node.input):
            constant.add(index)
        else:
            varying.update(node.output)
    return constant


def _plain(name: str) -> list[str]:
    """Return a name and what it may have been made from, the longest first."""
    found = [name]
    for _ in _ADDED:
        shorter = next((p.sub("", found[-1]) for p in _ADDED if p.search(found[-1])), None)
        if not shorter:
            break
        found.append(shorter)
    return found


def _behind(original: Graph, node: onnx.NodeProto) -> str | None:
    """Return the original tensor that the node's first output stands for, by its name or the node's."""
    by_name = {found.name: found for found in original.nodes}
    for name in _plain(node.output[0]):
        if name in original.producers:
            return name
    for name in _plain(node.name):
        if name in by_name:
            return by_name[name].outputs[0]
        if name in original.producers:
            return name
    return None


def _claimed(original: Graph, optimised: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the original nodes that some optimised node names: they are not to be taken by another.

    A conversion that was put in gives a tensor its old name back, and is not the node that the tensor came from.
    """
    by_name = {node.name: node for node in original.nodes}
    claimed = set()
    for node in optimised:
        names = [*_plain(node.name), *(plain for output in node.output for plain in _plain(output))]
        for found in (found for name in names for found in (original.producers.get(name), by_name.get(name)) if found):
            if node.op_type not in _CONVERSIONS or node.op_type == found.operator:
                claimed.add(found.name)
    return claimed


def _extended(original: Graph, tensor: str, claimed: set[str]) -> str:
    """Follow a tensor through the light nodes behind it that no kernel names: activation, QuantizeLinear.

    An integer convolution is named after the Conv, and gives what the QuantizeLinear behind it gives.
    """
    while True:
        readers = original.readers.get(tensor, ())
        reader = readers[0] if len(readers) == 1 and tensor not in original.outputs else None
        if reader is None or reader.name in claimed or reader.operator not in _LIGHT:
            return tensor
        others = [name for name in reader.inputs if name and name != tensor and not original.is_constant(name)]
        if others:
            return tensor
        tensor = reader.outputs[0]


def _between(original: Graph, tensor: str, stop: set[str], taken: set[str]) -> list[Node]:
    """Return the nodes that compute `tensor` from the tensors of `stop`, without those that others carry out."""
    found: dict[str, Node] = {}
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        node = original.producers.get(name)
        if name in stop or node is None or node.name in taken or node.name in found:
            continue
        found[node.name] = node
        waiting.extend(node.inputs)
    return [node for node in original.nodes if node.name in found]


def _beside(
    optimised: Sequence[onnx.NodeProto], index: int, covers: Sequence[tuple[str, ...]], constant: bool
) -> int | None:
    """Return the nearest kernel with nodes of its own: first whom it was put there for, else the other side."""
    backward = _search(optimised, index, covers, forward=False)
    forward = _search(optimised, index, covers, forward=True)
    node = optimised[index]
    ahead = constant or node.op_type in _BEFORE_READER or _INLINED in node.output[0]
    first, second = (forward, backward) if ahead else (backward, forward)
    return second if first is None else first


def _search(
    optimised: Sequence[onnx.NodeProto], index: int, covers: Sequence[tuple[str, ...]], forward: bool
) -> int | None:
    seen, waiting = {index}, [index]
    while waiting:
        here = optimised[waiting.pop(0)]
        for other, node in enumerate(optimised):
            linked = set(here.output) & set(node.input) if forward else set(here.input) & set(node.output)
            if other in seen or not linked - {""}:
                continue
            if covers[other]:
                return other
            seen.add(other)
            waiting.append(other)
    return None
