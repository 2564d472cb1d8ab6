"""The work of a group of nodes that an engine carries out as one: operations, and the bytes that it cannot avoid.

Compulsory bytes (Williams, Waterman, Patterson, "Roofline", 2009): each weight, each tensor from outside and each
tensor that is used outside, once, in the dtype in which the engine keeps it. What lives and dies inside the group moves
nothing. Scales and zero points of Q/DQ, shapes, axes and scalars are left out: an engine merges them into its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeline_bench.layers.flops import flops_of
from edgeline_bench.layers.graph import MATRIX_OPERATORS, QUANTISERS, SHAPE_ONLY, Graph


@dataclass(frozen=True, slots=True)
class Work:
    """Operations, and bytes read and written, at the graph's batch size."""

    flops: int
    bytes_weights: int
    bytes_activations: int

    @property
    def bytes(self) -> int:
        """All compulsory bytes."""
        return self.bytes_weights + self.bytes_activations


def group_works(graph: Graph, groups: Sequence[Iterable[str]]) -> tuple[Work, ...]:
    """Return the work of each group of node names.

    Q/DQ nodes in a group with others are carried out with them: integers cross its border. A group of Q/DQ (and shapes)
    alone is a kernel of its own, which reads one form and writes the other.
    """
    sets = [frozenset(group) for group in groups]
    plain = frozenset(node.name for node in graph.nodes if node.operator in (*QUANTISERS, *SHAPE_ONLY))
    alone = frozenset().union(*(names for names in sets if names <= plain))
    return tuple(_work(graph, names, alone) for names in sets)


def group_work(graph: Graph, nodes: Iterable[str]) -> Work:
    """Return the work of one group of node names."""
    return group_works(graph, [tuple(nodes)])[0]


def stored(graph: Graph, name: str, alone: frozenset[str] = frozenset()) -> str:
    """Return the tensor that an engine keeps for this one: for the float of a fused DequantizeLinear, its integers."""
    producer = graph.producers.get(name)
    while producer is not None and producer.operator == "DequantizeLinear" and producer.name not in alone:
        name = producer.inputs[0]
        producer = graph.producers.get(name)
    return name


def precision_of(graph: Graph, group: Iterable[str], arithmetic: str) -> str:
    """Return in what a group of nodes computes, where its engine computes the network in `arithmetic`.

    An int8 network may have layers that stayed floats: integers are multiplied where both operands of a Conv, Gemm or
    MatMul are integers, and in a group without any where it touches integers only.
    """
    if "int8" not in arithmetic:
        return arithmetic
    names = frozenset(group)
    nodes = [node for node in graph.nodes if node.name in names]
    heavy = [node for node in nodes if node.operator in MATRIX_OPERATORS]
    touched = [name for node in heavy for name in node.inputs[:2]] or [
        name for node in nodes for name in (*node.inputs[:1], *node.outputs) if _crosses(graph, name, names)
    ]
    integers = all(graph.tensor(kept(graph, name)).dtype in ("int8", "uint8") for name in touched)
    return "int8" if integers else "fp16" if "fp16" in arithmetic else "fp32"


def _crosses(graph: Graph, name: str, names: frozenset[str]) -> bool:
    producer, readers = graph.producers.get(name), graph.readers.get(name, ())
    return producer is None or producer.name not in names or any(reader.name not in names for reader in readers)


def kept(graph: Graph, name: str) -> str:
    """Return the tensor that is in memory for this one: behind fused DequantizeLinear, and under its first shape."""
    while True:
        name = stored(graph, name)
        producer = graph.producers.get(name)
        if producer is None or producer.operator not in SHAPE_ONLY:
            return name
        name = producer.inputs[0]


def _work(graph: Graph, names: frozenset[str], alone: frozenset[str]) -> Work:
    nodes = [node for node in graph.nodes if node.name in names]
    inside = {name for node in nodes for name in node.outputs}
    if all(node.operator in SHAPE_ONLY for node in nodes):
        return Work(0, 0, 0)
    weights: set[str] = set()
    activations: set[str] = set()
    for node in nodes:
        for name in node.inputs[:1] if node.operator in QUANTISERS else node.inputs:
            if graph.is_constant(name):
                weights |= _weights_of(graph, name, alone - names)
            elif name and (source := stored(graph, name, alone)) not in inside:
                activations.add(source)
        for name in node.outputs:
            used = name in graph.outputs or any(reader.name not in names for reader in graph.readers.get(name, ()))
            source = stored(graph, name, alone)
            if used and source in inside and (not graph.is_constant(name) or node.name in alone):
                activations.add(source)
    return Work(
        sum(flops_of(graph, node) for node in nodes),
        sum(graph.tensor(name).nbytes for name in weights),
        sum(graph.tensor(name).nbytes for name in activations),
    )


def _weights_of(graph: Graph, name: str, alone: frozenset[str]) -> set[str]:
    """Return the stored weights that a constant is computed from; itself where a kernel of its own computes it."""
    producer = graph.producers.get(name)
    if producer is None or producer.name in alone:
        tensor = graph.tensor(name)
        return set() if tensor.dtype == "int64" or not tensor.shape else {name}
    inputs = producer.inputs[:1] if producer.operator in QUANTISERS else producer.inputs
    return set().union(*(_weights_of(graph, source, alone) for source in inputs if source))
