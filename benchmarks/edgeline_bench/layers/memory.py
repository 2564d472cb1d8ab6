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
    order = single_groups(graph) if groups is None else groups
    turn = {name: index for index, group in enumerate(order) for name in group}
    written = {name: turn[node.name] for node in graph.nodes for name in node.outputs}
    last_read: dict[str, int] = {}
    for node in graph.nodes:
        for source in (kept(graph, name) for name in node.inputs):
            if source and not graph.is_constant(source):
                last_read[source] = max(last_read.get(source, -1), turn[node.name])
    for name in graph.outputs:
        last_read[kept(graph, name)] = len(order)
    spans = [(written.get(name, -1), last, graph.tensor(name).nbytes) for name, last in last_read.items()]
    # A tensor that is written and read in one group alone is not kept at all.
    return (
        max(
            sum(nbytes for born, last, nbytes in spans if born <= index <= last and born != last)
            for index in range(len(order))
        )
        if order
        else 0
    )


def weights_bytes(graph: Graph) -> int:
    """Return the bytes of all weights, biases included, in their own dtypes; no shapes, scales or zero points."""
    return group_work(graph, graph.names).bytes_weights
