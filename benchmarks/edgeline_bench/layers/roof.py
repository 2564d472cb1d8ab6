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

    def why_exceeded(self, precision: str) -> str | None:
        """Say why a point in a precision may lie above these ceilings; None where it may not."""
        ...

    def bandwidth_at(self, size_bytes: int, threads: int) -> float:
        """Return bytes a second that are read, over and over, from a working set of that size."""
        ...

    def smallest_level(self, size_bytes: int, threads: int) -> str:
        """Return the smallest level that holds so many bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """A memory level, and the bytes a second that come from it."""

    level: str
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Levels:
    """Where weights and activations come from."""

    weights: str
    activations: str


@dataclass(frozen=True, slots=True)
class Roof:
    """The least time of a group, what sets it ("compute" or "memory"), and where its data come from.

    `slowest` is the data that take longest, "weights" or "activations".
    """

    time_s: float
    bound: str
    levels: Levels
    slowest: str


@dataclass(frozen=True, slots=True)
class SpeedOfLight:
    """The least time of a network: its data where a call before left them, and all of them in DRAM."""

    warm_s: float
    cold_s: float


def weights_stream(graph: Graph, threads: int, ceilings: Ceilings) -> Stream:
    """Return where all weights stream from: the smallest level that holds them and the arena of a fused engine.

    Each call reads every weight once, in the same order, as the sweep reads its working set: what is a little larger
    than the last cache is partly kept, and read faster than what is much larger. The arena is that of one sample: an
    engine may carry one through all layers before the next, as the C library does.
    """
    arena_bytes = activation_bytes(graph, canonical_groups(graph)) // graph.batch
    size_bytes = weights_bytes(graph) + arena_bytes
    return Stream(ceilings.smallest_level(size_bytes, threads), ceilings.bandwidth_at(size_bytes, threads))


def roof_of(work: Work, batch: int, weights: Stream, precision: str, threads: int, ceilings: Ceilings) -> Roof:
    """Return the roof of a group, warm; `work` is that of `batch` samples.

    Its activations come from the smallest level that holds one sample's inputs and outputs of the group, whatever the
    network's size: what the layer before has just written lies near, and an engine may carry one sample through all
    layers before the next. The network's level, or the whole batch's, would put points above their roof.
    """
    level = ceilings.smallest_level(work.bytes_activations // batch, threads)
    return _roof(work, weights, Stream(level, ceilings.bandwidth(level, threads)), ceilings.peak(precision, threads))


def speed_of_light(graph: Graph, arithmetic: str, threads: int, ceilings: Ceilings) -> SpeedOfLight:
    """Return the sum over canonical fused groups of max(operations / peak, bytes / bandwidth), warm and cold.

    Cold, every byte comes from DRAM.
    """
    weights = weights_stream(graph, threads, ceilings)
    cold = Stream(COLD_LEVEL, ceilings.bandwidth(COLD_LEVEL, threads))
    groups = canonical_groups(graph)
    warm_s = cold_s = 0.0
    for group, work in zip(groups, group_works(graph, groups), strict=True):
        precision = precision_of(graph, group, arithmetic)
        warm_s += roof_of(work, graph.batch, weights, precision, threads, ceilings).time_s
        cold_s += _roof(work, cold, cold, ceilings.peak(precision, threads)).time_s
    return SpeedOfLight(warm_s, cold_s)


def _roof(work: Work, weights: Stream, activations: Stream, peak: float) -> Roof:
    """What comes from a far level passes through the nearer one as well: each level takes what it carries."""
    flows = {"weights": (work.bytes_weights, weights.bytes_per_s),
             "activations": (work.bytes_activations, activations.bytes_per_s)}  # fmt: skip
    carried_s = {
        name: sum(nbytes for nbytes, other in flows.values() if other <= rate) / rate
        for name, (_, rate) in flows.items()
    }
    # Of two from one level, which take the same time together, the one with more bytes.
    slowest = max(flows, key=lambda name: (carried_s[name], flows[name][0]))
    compute_s = work.flops / peak
    bound = "compute" if compute_s > carried_s[slowest] else "memory"
    levels = Levels(weights.level, activations.level)
    return Roof(max(compute_s, carried_s[slowest]), bound, levels, slowest)
