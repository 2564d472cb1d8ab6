"""The roofline: each placed layer of each engine as a point under this machine's measured ceilings.

Nothing is computed here that the report does not hold: a layer's roof, efficiency and bound are its record's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.ceilings import Ceilings, Frame, Machine, add_ceilings, ceilings_of, frame_of, set_axes
from edgeline_bench.plots.series import (
    Result,
    Styles,
    by_network_and_batch,
    label_of,
    last_of_largest_batch,
    styles_of,
    views_of,
)
from edgeline_bench.report import Report
from edgeline_bench.tables import main_results

ABSENT = "No roofline in this report: this machine's ceilings were not measured, so no layer can be placed under them."
_WHY_ABSENT = "they take under 20 us at a batch below 64, or do no arithmetic"
_MARK, _MARK_GROWTH = 7, 15  # pixels: of a layer without a share of the time, and what the whole time would add


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
    frame = frame_of(placed, [ceilings])
    views = views_of(results, by_network_and_batch(styles), lambda rows: _view(rows, styles, ceilings, frame))
    return Plot("roofline", title, caption, views, last_of_largest_batch(views))


def placed_layers(row: Result) -> list[dict[str, Any]]:
    """Return the layers of a row that are long enough to be placed, and that compute: what only moves has no place."""
    return [x for x in row["layers"] if x.get("placed") and x["intensity"] and x["attained_flops_per_s"]]


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


def hover_text(layer: dict[str, Any], engine: str) -> str:
    """Say in lines what is known of a layer; `engine` is what its row is called."""
    level = layer.get("level") or {}
    places = [f"{what} from {where}" for what, where in level.items() if where]
    precision = layer["precision"]
    lines = [
        f"<b>{label_of(layer)}</b>",
        *([str(layer["name"])] if label_of(layer) != layer["name"] else []),
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


def used_precisions(layers: Sequence[dict[str, Any]], ceilings: Ceilings) -> set[str]:
    """Return the precisions whose ceilings are roofs here: fp32's is also that of one which was not measured."""
    return {layer["precision"] if layer["precision"] in ceilings.flops else "fp32" for layer in layers}


def _view(rows: list[Result], styles: Styles, ceilings: Ceilings, frame: Frame) -> View | None:
    layers = [layer for row in rows for layer in row["layers"]]
    placed = [layer for row in rows for layer in placed_layers(row)]
    if not layers:
        return None
    figure = go.Figure()
    add_ceilings(figure, [Machine(ceilings)], frame, used_precisions(layers, ceilings))
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
    unused = [p for p in ceilings.flops if p not in used_precisions(layers, ceilings)]
    notes = (
        f"{absent} of {len(layers)} layers are not placed: {_WHY_ABSENT}." if absent else "",
        f"Hollow points are exempt ({', '.join(exempt)}): they may lie above their roof." if exempt else "",
        f"Dotted: {', '.join(unused)}, which no layer here is computed in." if unused else "",
    )
    return " ".join(note for note in notes if note)
