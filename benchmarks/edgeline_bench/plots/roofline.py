"""The roofline: this machine's measured ceilings, and each placed layer of each engine as a point under them.

After S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009. Nothing is computed here that the report does not hold: a layer's
roof, efficiency and bound are its record's.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.series import (
    Result,
    Styles,
    by_network_and_batch,
    last_of_largest_batch,
    main_results,
    styles_of,
    views_of,
)
from edgeline_bench.report import Report

ABSENT = "No roofline in this report: this machine's ceilings were not measured, so no layer can be placed under them."
_WHY_ABSENT = "they take under 20 us at a batch below 64, or do no arithmetic"
_TOP = 2.5  # room above the highest ceiling, for its name
_MARK, _MARK_GROWTH = 7, 15  # pixels: of a layer without a share of the time, and what the whole time would add


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of the plane that is shown: intensity (operations/byte) by rate (operations/s), same in every view."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float


def roofline_plot(report: Report) -> Plot:
    """Return the roofline, a view per network and batch size; where none was measured, the sentence that says so."""
    title = "Every layer under this machine's roofline"
    ceilings = ceilings_of(report)
    styles, results = styles_of(report), main_results(report)
    if ceilings is None:
        return Plot("roofline", title, "", (), absent=ABSENT)
    placed = [layer for row in results for layer in placed_layers(row)]
    if not placed:
        absent = "No layer was timed that is long enough (20 us) to be placed under the roofline."
        return Plot("roofline", title, "", (), absent=absent)
    caption = (
        "A point is a layer: to the right, more operations for each byte it must move; upwards, more operations a "
        "second. The lines are what this machine can do at most, slanted where memory is the limit and level where "
        "arithmetic is. The stem above a point ends at its own roof; the bigger the point, the bigger its share of the "
        "time."
    )
    frame = frame_of(placed, ceilings)
    views = views_of(results, by_network_and_batch(styles), lambda rows: _view(rows, styles, ceilings, frame))
    return Plot("roofline", title, caption, views, last_of_largest_batch(views))


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a machine can do at most: operations/s by precision, bytes/s by memory level."""

    flops: dict[str, float]
    bandwidth: dict[str, float]


def ceilings_of(report: Report) -> Ceilings | None:
    """Return the ceilings for the threads of the run; None where they were not measured."""
    roofline = report.get("roofline")
    if not roofline:
        return None
    key = f"threads_{roofline.get('threads', report['protocol']['threads'])}"
    flops = {p: rates.get(key) or max(rates.values()) for p, rates in roofline["ceilings"]["flops"].items() if rates}
    bandwidth = {level: rate for level, rate in roofline["ceilings"]["bandwidth"].items() if rate}
    return Ceilings(flops, bandwidth) if flops and bandwidth else None


def placed_layers(row: Result) -> list[dict[str, Any]]:
    """Return the layers of a row that are long enough to be placed, and that compute: what only moves has no place."""
    return [x for x in row["layers"] if x.get("placed") and x["intensity"] and x["attained_flops_per_s"]]


def frame_of(layers: Sequence[dict[str, Any]], ceilings: Ceilings) -> Frame:
    """Return what must be shown for all layers and ceilings; the slowest memory enters from the left side."""
    peak, slowest = max(ceilings.flops.values()), min(ceilings.bandwidth.values())
    x_min = min(layer["intensity"] for layer in layers) / 8
    x_max = max(*(layer["intensity"] for layer in layers), peak / slowest) * 6
    y_min = min(*(layer["attained_flops_per_s"] for layer in layers), slowest * x_min) / 1.6
    y_max = max(peak, *(layer["attained_flops_per_s"] for layer in layers)) * _TOP
    return Frame(x_min, x_max, y_min, y_max)


def add_ceilings(
    figure: go.Figure, ceilings: Ceilings, frame: Frame, used: Container[str], *, name: str = "",
    colour: str = "var(--soft)",
) -> None:  # fmt: skip
    """Draw the ceilings with their names, dotted for a precision that is not among those `used`.

    `name` goes before them, and `colour` tells them apart, where a figure holds two machines'.
    """
    fastest, peak = max(ceilings.bandwidth.values()), max(ceilings.flops.values())
    prefix = f"{name} " if name else ""
    for level, rate in ceilings.bandwidth.items():
        x = [max(frame.x_min, frame.y_min / rate), peak / rate]
        label = f"{prefix}{level} {quantities.bytes_rate(rate)}"
        _add_ceiling(figure, x, [v * rate for v in x], label, colour, "solid")
        figure.add_annotation(
            name="along", text=label, x=math.log10(x[0]), y=math.log10(x[0] * rate), xanchor="center",
            yanchor="middle", showarrow=False, font={"color": colour},
        )  # fmt: skip
    for precision, rate in ceilings.flops.items():
        x = [rate / fastest, frame.x_max]
        label = f"{prefix}{precision} {quantities.operations_rate(rate, precision)}"
        _add_ceiling(figure, x, [rate, rate], label, colour, "solid" if precision in used else "dot")
        figure.add_annotation(
            text=label, x=math.log10(frame.x_max), y=math.log10(rate), xanchor="right", yanchor="bottom",
            showarrow=False, font={"color": colour},
        )  # fmt: skip


def add_layers(figure: go.Figure, row: Result, *, name: str, key: str, colour: str, symbol: str) -> None:
    """Draw a row's placed layers, and their stems up to their own roofs."""
    layers = placed_layers(row)
    figure.add_scatter(
        x=[x for layer in layers for x in (layer["intensity"], layer["intensity"], None)],
        y=[y for layer in layers for y in (layer["attained_flops_per_s"], layer["roof_flops_per_s"], None)],
        mode="lines", line={"color": colour, "width": 1}, opacity=0.45, name=name, legendgroup=key, showlegend=False,
        hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=[layer["intensity"] for layer in layers], y=[layer["attained_flops_per_s"] for layer in layers],
        mode="markers", name=name, legendgroup=key, text=[hover_text(layer, name) for layer in layers],
        marker={
            "color": colour, "opacity": 0.85, "line": {"color": "var(--ground)", "width": 1},
            "symbol": [f"{symbol}-open" if layer.get("exempt") else symbol for layer in layers],
            "size": [_MARK + _MARK_GROWTH * math.sqrt(layer["share"]) for layer in layers],
        },
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def set_axes(figure: go.Figure, frame: Frame) -> None:
    """Both axes logarithmic, over the frame."""
    figure.update_xaxes(
        type="log", title="operations a byte", range=[math.log10(frame.x_min), math.log10(frame.x_max)],
        dtick=1, showline=True,
    )  # fmt: skip
    figure.update_yaxes(
        type="log", title="operations a second", range=[math.log10(frame.y_min), math.log10(frame.y_max)],
        dtick=1, exponentformat="SI",
    )  # fmt: skip
    figure.update_layout(height=520)


def hover_text(layer: dict[str, Any], engine: str) -> str:
    """Say in lines what is known of a layer; `engine` is what its row is called."""
    level = layer.get("level") or {}
    places = [f"{what} from {where}" for what, where in level.items() if where]
    precision = layer["precision"]
    lines = [
        f"<b>{layer['name']}</b>",
        f"on {engine}",
        f"{units.seconds(layer['time_s'])}, {layer['share']:.1%} of the time",
        f"{quantities.count(layer['flops'])} operations, {quantities.count(layer['bytes'])} bytes: "
        f"{quantities.ratio(layer['intensity'])} a byte",
        f"attained {quantities.operations_rate(layer['attained_flops_per_s'], precision)} in {precision}",
        f"roof {quantities.operations_rate(layer['roof_flops_per_s'], precision)} ({units.seconds(layer['roof_s'])})",
        f"efficiency {quantities.percent(layer['efficiency'])}, bound by {layer['bound']}",
        *([", ".join(places)] if places else []),
        *([f"exempt: {layer['exempt']}, may lie above its roof"] if layer.get("exempt") else []),
    ]
    return "<br>".join(lines)


def _view(rows: list[Result], styles: Styles, ceilings: Ceilings, frame: Frame) -> View | None:
    layers = [layer for row in rows for layer in row["layers"]]
    placed = [layer for row in rows for layer in placed_layers(row)]
    if not layers:
        return None
    figure = go.Figure()
    add_ceilings(figure, ceilings, frame, _used(layers, ceilings))
    for row in rows:
        if placed_layers(row):
            add_layers(
                figure, row, name=styles.name(row), key=styles.key(row), colour=styles.colour(row),
                symbol=styles.symbol(row),
            )  # fmt: skip
    set_axes(figure, frame)
    return View(figure, _alt(placed, ceilings), note=_note(layers, placed, ceilings))


def _alt(placed: Sequence[dict[str, Any]], ceilings: Ceilings) -> str:
    """What the plot shows, in a sentence or two."""
    flops = ", ".join(f"{p} {quantities.operations_rate(rate, p)}" for p, rate in ceilings.flops.items())
    bandwidth = ", ".join(f"{level} {quantities.bytes_rate(rate)}" for level, rate in ceilings.bandwidth.items())
    bound = sum(layer["bound"] == "compute" for layer in placed)
    return (
        f"Roofline with {len(placed)} layers under the ceilings {flops} and {bandwidth}. "
        f"{bound} are bound by arithmetic, {len(placed) - bound} by memory."
    )


def _note(layers: Sequence[dict[str, Any]], placed: Sequence[dict[str, Any]], ceilings: Ceilings) -> str:
    absent = len(layers) - len(placed)
    exempt = sorted({str(layer["exempt"]) for layer in placed if layer.get("exempt")})
    unused = [p for p in ceilings.flops if p not in _used(layers, ceilings)]
    notes = (
        f"{absent} of {len(layers)} layers are not placed: {_WHY_ABSENT}." if absent else "",
        f"Hollow points are exempt ({', '.join(exempt)}): they may lie above their roof." if exempt else "",
        f"Dotted: {', '.join(unused)}, which no layer here is computed in." if unused else "",
    )
    return " ".join(note for note in notes if note)


def _used(layers: Sequence[dict[str, Any]], ceilings: Ceilings) -> set[str]:
    """The precisions whose ceilings are roofs here: fp32's is also that of a precision which was not measured."""
    return {layer["precision"] if layer["precision"] in ceilings.flops else "fp32" for layer in layers}


def _add_ceiling(figure: go.Figure, x: list[float], y: list[float], label: str, colour: str, dash: str) -> None:
    figure.add_scatter(
        x=x, y=y, mode="lines", showlegend=False, hoverinfo="skip", name=label, meta="ceiling",
        line={"color": colour, "width": 1.5, "dash": dash},
    )  # fmt: skip
