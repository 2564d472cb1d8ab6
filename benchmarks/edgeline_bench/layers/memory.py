"""The memory that activations need: the largest sum of live tensors over the graph's topological order.

A tensor lives from the group that writes it to the last one that reads it; the network's input from the start, its
output to the end. No operator works in place. What an engine really reserves is for the engine to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeline_bench.layers.fusion import single_groups
from edgeline_bench.layers.graph import Graph
from edgeline_bench.layers.work import group_work, kept


def activation_bytes(graph: Graph, groups: Sequence[Iterable[str]] | None = None) -> int:
    """Return the bytes of activations alive at once, at the graph's batch size.

    `groups` are carried out one after the other, and what lives inside one is never in memory; each operator alone
    where None, with its Q/DQ: integers are then what is kept.
    """
    order = [frozenset(group) for group in (single_groups(graph) if groups is None else groups)]
    producer_of: dict[str, int] = {}
    last_reader: dict[str, int] = {}
    for index, names in enumerate(order):
        for node in graph.nodes:
            if node.name in names:
                for name in node.outputs:
                    producer_of.setdefault(name, index)
    for index, names in enumerate(order):
        for node in graph.nodes:
            if node.name not in names:
                continue
            for name in node.inputs:
                source = kept(graph, name)
                if source and not graph.is_constant(source):
                    last_reader[source] = max(last_reader.get(source, -1), index)
    for name in graph.outputs:
        last_reader[kept(graph, name)] = len(order)
    spans = [(producer_of.get(name, -1), last, graph.tensor(name).nbytes) for name, last in last_reader.items()]
    # A tensor that is written and read in one group alone is not kept at all.
    return max(
        sum(nbytes for born, last, nbytes in spans if born <= index <= last and born != last)
        for index in range(len(order))
    )


def weights_bytes(graph: Graph) -> int:
    """Return the bytes of all weights, biases included, in their own dtypes; no shapes, scales or zero points."""
    return group_work(graph, graph.names).bytes_weights
