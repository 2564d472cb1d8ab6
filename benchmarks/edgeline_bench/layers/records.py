"""From a profile, the graph and the ceilings to what report.json holds of a network's layers.

That is `layers`, `layer_profile`, `speed_of_light_s`, and the bytes of weights and activations. Nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx

from edgeline_bench.layers.fusion import canonical_groups, title_of
from edgeline_bench.layers.graph import Graph, float_view, narrowed, read_graph, widened
from edgeline_bench.layers.memory import activation_bytes, weights_bytes
from edgeline_bench.layers.profile import LayerProfile
from edgeline_bench.layers.roof import Ceilings, roof_of, speed_of_light, weights_stream
from edgeline_bench.layers.work import group_works, precision_of

# ONNX Runtime's profile has whole microseconds: a kernel shorter than this is 5 % rounding, at small batches all of it.
PLACED_S = 20e-6
PLACED_BATCH = 64
# A point may lie this far above its roof before the model of work or the clock must be wrong.
TOLERANCE = 0.05


def graph_as_run(model: onnx.ModelProto, batch: int, engine: str, arithmetic: str) -> Graph:
    """Return the graph of an artefact as an engine keeps it, at a batch size.

    Eager PyTorch ran the float network that it was made from; an engine that computes float16 in float32 keeps float32,
    one that computes float32 in bfloat16 keeps bfloat16. Raises what read_graph raises.
    """
    graph = read_graph(model, batch)
    if engine in ("eager", "torch-compile"):
        return float_view(graph)
    if arithmetic == "bf16":
        return narrowed(graph)
    return widened(graph) if arithmetic == "fp32" else graph


def layer_records(
    profile: LayerProfile, graph: Graph, threads: int, arithmetic: str, ceilings: Ceilings
) -> list[dict[str, Any]]:
    """Return a record per timed group, in the order of the graph; `graph` is that of graph_as_run."""
    weights = weights_stream(graph, threads, ceilings)
    works = group_works(graph, [group.nodes for group in profile.groups])
    total_s = sum(group.time_s for group in (*profile.groups, *profile.unmatched))
    records = []
    for group, work in zip(profile.groups, works, strict=True):
        precision = precision_of(graph, group.nodes, arithmetic)
        roof = roof_of(work, graph.batch, weights, precision, threads, ceilings)
        name, operators = title_of(graph, group.nodes)
        records.append(
            {
                "nodes": list(group.nodes),
                "operators": list(operators),
                "name": name,
                "kernels": list(group.kernels),
                "flops": work.flops,
                "bytes": work.bytes,
                "bytes_weights": work.bytes_weights,
                "bytes_activations": work.bytes_activations,
                "precision": precision,
                "time_s": group.time_s,
                "share": group.time_s / total_s if total_s else 0.0,
                "intensity": work.flops / work.bytes if work.bytes else None,
                "attained_flops_per_s": work.flops / group.time_s if group.time_s else None,
                "roof_s": roof.time_s,
                "roof_flops_per_s": work.flops / roof.time_s if roof.time_s else None,
                "efficiency": roof.time_s / group.time_s if group.time_s else None,
                "bound": roof.bound,
                "level": {"weights": roof.levels.weights, "activations": roof.levels.activations},
                "slowest": roof.slowest,
                # Fewer operations than counted, or a roof that is another precision's: both may be exceeded.
                "exempt": group.algorithm or ceilings.why_exceeded(precision),
                "placed": group.time_s >= PLACED_S or (graph.batch >= PLACED_BATCH and group.time_s > 0),
            }
        )
    return records


def profile_record(profile: LayerProfile) -> dict[str, Any]:
    """Return how the times were taken, and what could not be matched."""
    return {
        "method": profile.method,
        "scale": profile.scale,
        "calls": profile.calls,
        "unmatched": [{"name": "+".join(group.kernels), "time_s": group.time_s} for group in profile.unmatched],
        "uncovered": list(profile.uncovered),
    }


def speed_of_light_record(graph: Graph, threads: int, arithmetic: str, ceilings: Ceilings) -> dict[str, float]:
    """Return the least time of the network in seconds, warm and cold."""
    light = speed_of_light(graph, arithmetic, threads, ceilings)
    return {"warm": light.warm_s, "cold": light.cold_s}


def work_record(graph: Graph) -> dict[str, int]:
    """Return the operations of the whole network, and the bytes that its fused groups must move once each."""
    works = group_works(graph, canonical_groups(graph))
    return {"flops": sum(work.flops for work in works), "bytes": sum(work.bytes for work in works)}


def memory_record(graph: Graph) -> dict[str, int]:
    """Return the bytes of weights and activations, from the graph; see edgeline_bench.layers.memory."""
    return {"weights": weights_bytes(graph), "activations": activation_bytes(graph)}


def above_roof(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the layers that are faster than their roof allows: a bug in the model of work or in the clock."""
    return [
        f"{record['name']} ({record['efficiency']:.2f} of its roof)"
        for record in records
        if record["placed"] and record["exempt"] is None and (record["efficiency"] or 0.0) > 1 + TOLERANCE
    ]
