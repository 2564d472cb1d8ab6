"""What the graph and the measured roofline say of each row of a run. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from edgeline.artefact import GRAPH_FILE
from edgeline_bench.layers.labels import label_of_group, labels_of
from edgeline_bench.layers.profile import LayerProfile, profile_from_record
from edgeline_bench.layers.records import (
    above_roof,
    graph_as_run,
    layer_records,
    memory_record,
    profile_record,
    speed_of_light_record,
)
from edgeline_bench.points import Point
from edgeline_bench.roofline.ceilings import Ceilings
from edgeline_bench.rounds import Measured

# Rounds and profile are minutes apart: further off than this, the layers' times are those of another machine.
_MOST_OFF = 0.25


def findings_of(measured: Sequence[Measured], ceilings: Ceilings | None) -> list[dict[str, Any]]:
    """Return for each row its `layers`, `layer_profile`, `speed_of_light_s`, and its `memory` by the graph."""
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
    graph = graph_as_run(model, point.batch, point.engine, point.arithmetic)
    finding: dict[str, Any] = {
        "memory": memory_record(graph),
        "layers": [],
        "layer_profile": None,
        "speed_of_light_s": None,
    }
    if ceilings is None or not _lies_under(point, ceilings):
        return finding
    finding["speed_of_light_s"] = speed_of_light_record(graph, point.threads, point.arithmetic, ceilings)
    if row.profile is None or row.profile["record"] is None:
        return {**finding, "layer_profile": row.profile and {"method": None, "why": row.profile["why"]}}
    profile = _scaled_to(profile_from_record(row.profile["record"]), statistics.median(row.round_medians_s))
    labels = labels_of(graph)
    layers = [
        {"label": label_of_group(graph, labels, layer["nodes"]), **layer}
        for layer in layer_records(profile, graph, point.threads, point.arithmetic, ceilings)
    ]
    return {**finding, "layers": layers, "layer_profile": {**profile_record(profile), "off": row.profile["off"]}}


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
    """Return what in the layers makes a report INVALID: a point above its roof, a kernel that fits no layer."""
    reasons = []
    for result in results:
        title = f"{result['engine']} {result['artefact']} batch {result['batch']}"
        profile = result["layer_profile"] or {}
        if profile.get("off", 0.0) > _MOST_OFF:
            reasons.append(
                f"{title}: the machine was {profile['off']:.0%} off its speed while layers were profiled: run again"
            )
        elif above := above_roof(result["layers"]):
            reasons.append(f"{title}: {', '.join(above)}: the model of work or the clock is wrong")
        lost = [*(kernel["name"] for kernel in profile.get("unmatched", ())), *profile.get("uncovered", ())]
        if lost:
            reasons.append(f"{title}: the profile and the graph do not match at {', '.join(lost[:3])}")
    return reasons
