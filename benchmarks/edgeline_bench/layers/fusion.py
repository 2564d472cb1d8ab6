"""Which nodes one kernel can carry out: the canonical fusion that "speed of light" is summed over.

A Conv, ConvTranspose, Gemm or MatMul takes what follows it as long as nobody else reads the result in between: bias,
BatchNormalization, element-wise operators (the sum of a residual too) and one pooling. Shapes cost nothing, Q/DQ and
casts belong to the operators beside them. A Concat stands alone: an engine that lets its producers write in place is
faster than this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeline_bench.layers.graph import MATRIX_OPERATORS, QUANTISERS, SHAPE_ONLY, Graph, Node, float_view

Group = tuple[str, ...]
ELEMENT_WISE = frozenset(
    ("Abs", "Add", "BatchNormalization", "Clip", "Div", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
     "Max", "Min", "Mul", "Neg", "PRelu", "Pow", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Sum", "Tanh")
)  # fmt: skip
_POOLING = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean")


@dataclass(slots=True)
class _Chain:
    """A group while it grows: its nodes, and the tensor that the next one must read."""

    nodes: list[str]
    tail: str
    pooled: bool = False


def canonical_groups(graph: Graph) -> tuple[Group, ...]:
    """Return all nodes of the graph in fused groups, each node once."""
    view = float_view(graph)
    chains: list[_Chain] = []
    for node in view.nodes:
        chain = _chain_for(view, node, chains)
        if chain is None:
            chain = _Chain([], "")
            chains.append(chain)
        chain.nodes.append(node.name)
        chain.tail = node.outputs[0]
        chain.pooled |= node.operator in _POOLING
    return complete_groups(graph, [chain.nodes for chain in chains])


def single_groups(graph: Graph) -> tuple[Group, ...]:
    """Return each operator as a group of its own, with the Q/DQ, casts and shapes that belong to it."""
    return complete_groups(graph, [[node.name] for node in float_view(graph).nodes])


def complete_groups(graph: Graph, groups: Sequence[Iterable[str]]) -> tuple[Group, ...]:
    """Return the groups, in topological order, with the nodes of the graph that are in none of them.

    Light nodes go to the operator that they belong to: QuantizeLinear and what changes numbers to the one whose output
    it reads, DequantizeLinear, shapes, and what computes on constants to the one that reads it. Groups of shapes alone
    are merged into a neighbour in the same way. A Conv, Gemm or MatMul in no group makes one of its own.
    """
    owner = {name: index for index, group in enumerate(groups) for name in group}
    operators = {node.name: node.operator for node in graph.nodes}
    for index, group in enumerate(groups):
        kinds = {operators[name] for name in group}
        if kinds <= {*SHAPE_ONLY, *QUANTISERS} and not kinds <= set(QUANTISERS):
            for name in [name for name, held in owner.items() if held == index]:
                del owner[name]
    missing = [node for node in graph.nodes if node.name not in owner]
    for node in missing:
        if node.operator in MATRIX_OPERATORS:
            owner[node.name] = len(groups) + len(owner)
    light = [node for node in missing if node.name not in owner]
    # Forward for what belongs to its producer, backward for what belongs to its reader; then whoever is there.
    for node in light:
        if not _belongs_to_reader(graph, node):
            _adopt(owner, node, _before(graph, node))
    for node in reversed(light):
        _adopt(owner, node, _after(graph, node))
    for node in light:
        _adopt(owner, node, _before(graph, node))
    for node in light:
        owner.setdefault(node.name, len(groups) + len(owner))
    held: dict[int, list[str]] = {}
    for node in reversed(graph.nodes):
        held.setdefault(owner[node.name], []).insert(0, node.name)
    # By the last node of each: what a group reads was written by groups that ended before it ends.
    return tuple(tuple(names) for names in reversed(held.values()))


def _chain_for(view: Graph, node: Node, chains: Sequence[_Chain]) -> _Chain | None:
    """Return the last chain whose result only this node reads, where it may join."""
    shape, pooling = node.operator in SHAPE_ONLY, node.operator in _POOLING
    if not (shape or pooling or node.operator in ELEMENT_WISE):
        return None
    for chain in reversed(chains):
        alone = len(view.readers.get(chain.tail, ())) == 1 and chain.tail not in view.outputs
        if chain.tail in node.inputs and alone and not (pooling and chain.pooled):
            return chain
    return None


def _belongs_to_reader(graph: Graph, node: Node) -> bool:
    constant = all(graph.is_constant(name) for name in node.outputs)
    return constant or node.operator == "DequantizeLinear" or node.operator in SHAPE_ONLY


def _adopt(owner: dict[str, int], node: Node, neighbours: Iterable[Node]) -> None:
    for neighbour in neighbours:
        if node.name not in owner and neighbour.name in owner:
            owner[node.name] = owner[neighbour.name]


def _before(graph: Graph, node: Node) -> list[Node]:
    return [graph.producers[name] for name in node.inputs if name in graph.producers]


def _after(graph: Graph, node: Node) -> list[Node]:
    return [reader for name in node.outputs for reader in graph.readers.get(name, ())]


def title_of(graph: Graph, group: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Return how people call a group, as "Conv+Relu node_conv2d", and its operators without Q/DQ, casts and shapes."""
    names = frozenset(group)
    nodes: Mapping[str, Node] = {node.name: node for node in graph.nodes if node.name in names}
    plain = {*QUANTISERS, *SHAPE_ONLY, "Cast"}
    operators = {name: node.operator for name, node in nodes.items() if node.operator not in plain}
    shown = operators or {name: node.operator for name, node in nodes.items()}
    first = next((name for name, operator in shown.items() if operator in MATRIX_OPERATORS), next(iter(shown), ""))
    return f"{'+'.join(shown.values())} {first}", tuple(shown.values())
