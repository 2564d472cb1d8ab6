"""What a difference of two rows' times is made of: less to do, or done closer to the least; and in which layer it lies.

A row's time is its speed of light (docs/roofline.md: the least that this machine needs for its operations and bytes, in
its precision) times its overhead (how many times that it takes). So, exactly,

    time_B / time_A = (light_B / light_A) * (overhead_B / overhead_A)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeline_bench.recommend_candidates import Candidate
from edgeline_bench.words import bound_of


@dataclass(frozen=True, slots=True)
class Gap:
    """The factors by which one row's time a sample is another's: `ratio` is `lights` times `overheads`, all B over A.

    `of_first` and `of_second` are the overheads of A and of B themselves.
    """

    ratio: float
    lights: float
    overheads: float
    of_first: float
    of_second: float


@dataclass(frozen=True, slots=True)
class LayerGap:
    """The layer in which most of a gap lies: seconds a sample of A and of B, its share of the layers' whole gap.

    `bounds` say what bounds it in A and in B; None where a row has no layer of that name.
    """

    label: str
    first_s: float
    second_s: float
    share: float
    bounds: tuple[str | None, str | None]


def gap_of(first: Candidate, second: Candidate) -> Gap | None:
    """Factor the ratio of two rows' times a sample; None where one of them has no speed of light."""
    if first.light_s is None or second.light_s is None:
        return None
    times, lights = ([value / one.batch for value, one in zip(values, (first, second), strict=True)]
                     for values in ((first.p50_s, second.p50_s), (first.light_s, second.light_s)))  # fmt: skip
    overheads = [time / light for time, light in zip(times, lights, strict=True)]
    return Gap(times[1] / times[0], lights[1] / lights[0], overheads[1] / overheads[0], overheads[0], overheads[1])


def layer_gap_of(first: Candidate, second: Candidate) -> LayerGap | None:
    """Return the layer by which B loses most against A; None where one has no layers, or B's take no longer in all."""
    ours, theirs = _layers(first), _layers(second)
    if not ours or not theirs:
        return None
    times = {
        label: (_seconds(ours.get(label, ())) / first.batch, _seconds(theirs.get(label, ())) / second.batch)
        for label in {**ours, **theirs}
    }
    whole = sum(b - a for a, b in times.values())
    label = max(times, key=lambda label: times[label][1] - times[label][0])
    a, b = times[label]
    if whole <= 0 or b <= a:
        return None
    return LayerGap(label, a, b, (b - a) / whole, (_bound(ours.get(label, ())), _bound(theirs.get(label, ()))))


def _layers(candidate: Candidate) -> dict[str, list[Mapping[str, Any]]]:
    """Return a row's layers by the label that all engines share; reports from before there were labels have names."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for layer in candidate.row["layers"]:
        found.setdefault(layer.get("label") or layer["name"], []).append(layer)
    return found


def _seconds(layers: Any) -> float:
    return float(sum(layer["time_s"] for layer in layers))


def _bound(layers: Any) -> str | None:
    """Say what bounds the longest of the layers that share a label."""
    return bound_of(max(layers, key=lambda layer: layer["time_s"])) if layers else None
