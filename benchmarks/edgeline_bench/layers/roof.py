"""The roof above a group of nodes, and the speed of light of a network: the least time that the machine allows.

Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures", 2009,
with one bandwidth per memory level (Ilic, Pratas, Sousa, "Cache-aware Roofline Model", 2014). The ceilings are measured
elsewhere; nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgeline_bench.layers.fusion import canonical_groups
from edgeline_bench.layers.graph import Graph
from edgeline_bench.layers.memory import activation_bytes, weights_bytes
from edgeline_bench.layers.work import Work, group_works, precision_of

COLD_LEVEL = "DRAM"


class Ceilings(Protocol):
    """What a machine can do at most: operations and bytes a second, by precision, memory level and threads."""

    def peak(self, precision: str, threads: int) -> float:
        """Return operations a second."""
        ...

    def bandwidth(self, level: str, threads: int) -> float:
        """Return bytes a second that are read from a level: "L1", "L2", "L3" or "DRAM"."""
        ...

    def stand_in(self, precision: str) -> tuple[str, str | None]:
        """Return the precision whose peak `peak` gives, and why it is another one; None if it is not."""
        ...

    def smallest_level(self, size_bytes: int, threads: int) -> str:
        """Return the smallest level that holds so many bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Levels:
    """Where weights and activations come from."""

    weights: str
    activations: str


@dataclass(frozen=True, slots=True)
class Roof:
    """The least time of a group, what sets it ("compute" or "memory"), and where its data come from."""

    time_s: float
    bound: str
    levels: Levels


@dataclass(frozen=True, slots=True)
class SpeedOfLight:
    """The least time of a network: its data where a call before left them, and all of them in DRAM."""

    warm_s: float
    cold_s: float


def weights_level(graph: Graph, threads: int, ceilings: Ceilings) -> str:
    """Return the level that all weights stream from: the smallest that holds them and the arena of a fused engine.

    Each call reads every weight once, so one level keeps all of them from call to call, or none.
    """
    arena = activation_bytes(graph, canonical_groups(graph))
    return ceilings.smallest_level(weights_bytes(graph) + arena, threads)


def roof_of(work: Work, weights: str, precision: str, threads: int, ceilings: Ceilings) -> Roof:
    """Return the roof of a group, warm.

    Its activations come from the smallest level that holds the group's own inputs and outputs, whatever the network's
    size: what the layer before has just written lies near. The network's level would put points above their roof.
    """
    levels = Levels(weights, ceilings.smallest_level(work.bytes_activations, threads))
    return _roof(work, levels, precision, threads, ceilings)


def speed_of_light(graph: Graph, arithmetic: str, threads: int, ceilings: Ceilings) -> SpeedOfLight:
    """Return the sum over canonical fused groups of max(operations / peak, bytes / bandwidth), warm and cold.

    Cold, every byte comes from DRAM.
    """
    level = weights_level(graph, threads, ceilings)
    cold = Levels(COLD_LEVEL, COLD_LEVEL)
    groups = canonical_groups(graph)
    warm_s = cold_s = 0.0
    for group, work in zip(groups, group_works(graph, groups), strict=True):
        precision = precision_of(graph, group, arithmetic)
        warm_s += roof_of(work, level, precision, threads, ceilings).time_s
        cold_s += _roof(work, cold, precision, threads, ceilings).time_s
    return SpeedOfLight(warm_s, cold_s)


def _roof(work: Work, levels: Levels, precision: str, threads: int, ceilings: Ceilings) -> Roof:
    """What comes from a far level passes through the nearer one as well: each level takes what it carries."""
    flows = [(levels.weights, work.bytes_weights), (levels.activations, work.bytes_activations)]
    rates = {level: ceilings.bandwidth(level, threads) for level, _ in flows}
    memory_s = max(
        sum(nbytes for other, nbytes in flows if rates[other] <= rates[level]) / rates[level] for level, _ in flows
    )
    compute_s = work.flops / ceilings.peak(precision, threads)
    return Roof(max(compute_s, memory_s), "compute" if compute_s > memory_s else "memory", levels)
