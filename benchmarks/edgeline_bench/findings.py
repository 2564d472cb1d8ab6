"""What the graph and the measured roofline say of each row of a run. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from edgeline.artefact import GRAPH_FILE
from edgeline.errors import InputError
from edgeline_bench.layers.labels import label_of_group, labels_of
from edgeline_bench.layers.profile import LayerProfile, profile_from_record
from edgeline_bench.layers.records import (
    above_roof,
    graph_as_run,
    layer_records,
    memory_record,
    profile_record,
    speed_of_light_record,
    work_record,
)
from edgeline_bench.points import Point
from edgeline_bench.roofline.ceilings import Ceilings
from edgeline_bench.rounds import Measured

# Rounds and profile are minutes apart: further off than this, the layers' times are those of another machine; a point
# above its roof is no fault of ours from _OFF on.
_OFF, _MOST_OFF = 0.05, 0.25
_MOST_LOST = 0.01  # of a row's time, in kernels that fit no layer
_AS_FLOAT = "in part in integers"


def findings_of(measured: Sequence[Measured], ceilings: Ceilings | None) -> list[dict[str, Any]]:
    """Return for each row its `layers`, `layer_profile`, `speed_of_light_s`, `work`, and its `memory` by the graph."""
    models: dict[str, onnx.ModelProto] = {}
    found = []
    for row in measured:
        folder = row.point.folder
        if folder not in models:
            models[folder] = onnx.load(Path(folder) / GRAPH_FILE)
        found.append(_finding(row, models[folder], ceilings))
    return found


def _finding(row: Measured, model: onnx.ModelProto, ceilings: Ceilings | None) -> dict[str, Any]:
    point = row.point
    finding: dict[str, Any] = {
        "memory": {"weights": None, "activations": None},
        "layers": [],
        "layer_profile": None,
        "speed_of_light_s": None,
        "work": None,
    }
    try:
        graph = graph_as_run(model, point.batch, point.engine, point.arithmetic)
        finding["memory"], finding["work"] = memory_record(graph), work_record(graph)
    except InputError as error:  # operators whose shapes ONNX cannot infer: what was timed stays
        return {**finding, "layer_profile": {"method": None, "why": str(error)}}
    if ceilings is None:
        return finding
    if not _lies_under(point, ceilings):
        why = f"it ran on the {'CPU' if ceilings.on_gpu else 'GPU'}, and the other's ceilings were measured"
        return {**finding, "layer_profile": {"method": None, "why": why}}
    finding["speed_of_light_s"] = speed_of_light_record(graph, point.threads, point.arithmetic, ceilings)
    if row.profile is None or row.profile["record"] is None:
        return {**finding, "layer_profile": row.profile and {"method": None, "why": row.profile["why"]}}
    profile = _scaled_to(profile_from_record(row.profile["record"]), _latency_s(row))
    labels = labels_of(graph)
    layers = [
        {"label": label_of_group(graph, labels, layer["nodes"]), **layer}
        for layer in layer_records(profile, graph, point.threads, point.arithmetic, ceilings)
    ]
    if "int8" in point.precision and point.arithmetic == "fp32":
        layers = [{**layer, "exempt": layer["exempt"] or _AS_FLOAT} for layer in layers]
    return {**finding, "layers": layers, "layer_profile": {**profile_record(profile), "off": row.profile["off"]}}


def _latency_s(row: Measured) -> float:
    """Return what the layers' times add up to: the rounds' latency; on a GPU the engine's own time, without copies."""
    return statistics.median(row.gpu_stages["compute_s"] if row.gpu_stages else row.round_medians_s)


def _scaled_to(profile: LayerProfile, latency_s: float) -> LayerProfile:
    """Scale a profile, taken after the rounds, so that its times add up to the latency that the rounds gave."""
    total_s = sum(group.time_s for group in (*profile.groups, *profile.unmatched))
    if not total_s:
        return profile
    factor = latency_s / total_s
    groups, unmatched = (
        tuple(replace(group, time_s=group.time_s * factor) for group in part)
        for part in (profile.groups, profile.unmatched)
    )
    return replace(profile, scale=profile.scale * factor, groups=groups, unmatched=unmatched)


def _lies_under(point: Point, ceilings: Ceilings) -> bool:
    """Whether the ceilings are those of the row's device."""
    return (point.device == "cuda") == ceilings.on_gpu


def layer_reasons(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what in the layers makes a report INVALID: a point above its roof, time that fits no layer."""
    reasons = []
    for result in results:
        title = f"{result['engine']} {result['artefact']} batch {result['batch']}"
        profile = result["layer_profile"] or {}
        off, above = profile.get("off", 0.0), above_roof(result["layers"])
        if off > _MOST_OFF or (above and off > _OFF):
            reasons.append(f"{title}: the machine was {off:.0%} off its speed while layers were profiled: run again")
        elif above:
            reasons.append(f"{title}: {', '.join(above)}: the model of work or the clock is wrong")
        lost_s = sum(kernel["time_s"] for kernel in profile.get("unmatched", ()))
        if lost_s > _MOST_LOST * (lost_s + sum(layer["time_s"] for layer in result["layers"])):
            names = [kernel["name"] for kernel in profile["unmatched"]]
            reasons.append(f"{title}: the profile and the graph do not match at {', '.join(names[:3])}")
    return reasons
