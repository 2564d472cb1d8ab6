"""Short names for layers, as people call them: conv2, fc1, pool3. Counted over the graph, so all engines share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from edgeline_bench.layers.graph import QUANTISERS, SHAPE_ONLY, Graph

_KINDS = {"Conv": "conv", "ConvTranspose": "deconv", "Gemm": "fc", "MatMul": "fc"}


def labels_of(graph: Graph) -> dict[str, str]:
    """Return the label of each node by its name, in the graph's order."""
    counts: Counter[str] = Counter()
    labels = {}
    for node in graph.nodes:
        kind = _KINDS.get(node.operator) or ("pool" if "Pool" in node.operator else node.operator.lower())
        counts[kind] += 1
        labels[node.name] = f"{kind}{counts[kind]}"
    return labels


def label_of_group(graph: Graph, labels: dict[str, str], nodes: Iterable[str]) -> str:
    """Return the label of the node that a group is known by: its matrix product, else its pooling, else its first."""
    names = frozenset(nodes)
    inside = [node for node in graph.nodes if node.name in names]
    weighty = [node for node in inside if node.operator in _KINDS]
    pools = [node for node in inside if "Pool" in node.operator]
    plain = [node for node in inside if node.operator not in (*QUANTISERS, *SHAPE_ONLY, "Cast")]
    known_by = next(iter(weighty or pools or plain or inside), None)
    return labels[known_by.name] if known_by else ""
