"""From kernels to groups of nodes: what all profilers share once they know which nodes a kernel carried out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeline_bench.layers.fusion import complete_groups
from edgeline_bench.layers.graph import Graph
from edgeline_bench.layers.profile import LayerProfile, TimedGroup


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of a profile: its name there, seconds a call (not scaled), and the nodes that it carried out.

    `beside` is the index of the kernel that it serves, for one that has no node of its own: a change of the layout, or
    what eager PyTorch calls and the graph does not have.
    """

    name: str
    time_s: float
    nodes: tuple[str, ...] = ()
    beside: int | None = None
    algorithm: str | None = None


def profile_from_kernels(
    graph: Graph, kernels: Sequence[Kernel], method: str, scale: float, calls: int
) -> LayerProfile:
    """Return the profile: every node of the graph in one group, or named as uncovered; every kernel in one place.

    Light nodes that no kernel names (Q/DQ, shapes, what was folded) go to the operator beside them, as in
    complete_groups.
    """
    heads = [kernel.nodes for kernel in kernels if kernel.nodes]
    groups = complete_groups(graph, heads)
    holder = {name: index for index, group in enumerate(groups) for name in group}
    members: dict[int, list[Kernel]] = {}
    unmatched = []
    for kernel in kernels:
        served = _serves(kernels, kernel)
        if served.nodes:
            members.setdefault(holder[served.nodes[0]], []).append(kernel)
        else:
            unmatched.append(TimedGroup((), kernel.time_s * scale, (kernel.name,)))
    timed = [_timed(group, members[index], scale) for index, group in enumerate(groups) if index in members]
    uncovered = [name for index, group in enumerate(groups) if index not in members for name in group]
    return LayerProfile(method, scale, calls, tuple(timed), tuple(unmatched), tuple(uncovered))


def _serves(kernels: Sequence[Kernel], kernel: Kernel) -> Kernel:
    """Follow `beside` to the kernel that has nodes; the chain is no longer than the list."""
    for _ in kernels:
        if kernel.nodes or kernel.beside is None:
            break
        kernel = kernels[kernel.beside]
    return kernel


def _timed(group: tuple[str, ...], kernels: Iterable[Kernel], scale: float) -> TimedGroup:
    found = list(kernels)
    algorithm = next((kernel.algorithm for kernel in found if kernel.algorithm), None)
    return TimedGroup(group, sum(k.time_s for k in found) * scale, tuple(k.name for k in found), algorithm)
