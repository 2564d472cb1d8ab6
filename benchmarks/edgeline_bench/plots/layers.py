"""Where the time goes: each layer's time, engine beside engine, with the least time that the roofline allows it.

Engines cut a network into different layers, since they fuse differently. So that bars can be compared, layers that
share a node, in any engine, are one row; an engine that keeps them apart has a bar of several pieces there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.roofline import hover_text
from edgeline_bench.plots.series import (
    Result,
    Styles,
    by_network_and_batch,
    label_of,
    last_of_largest_batch,
    listed,
    styles_of,
    views_of,
)
from edgeline_bench.plots.stages import wrapped
from edgeline_bench.report import Report
from edgeline_bench.tables import main_results

Layer = dict[str, Any]
_BAR, _GAP = 13, 14  # pixels: a bar, and between rows


@dataclass(frozen=True, slots=True)
class Row:
    """Layers, of any engine, that share nodes: its title and each engine's layers, by the engine's index."""

    title: str
    layers: dict[int, list[Layer]]


def layers_plot(report: Report) -> Plot:
    """Return each layer's time beside its speed of light, a view per network and batch size."""
    styles = styles_of(report)
    views = views_of(main_results(report), by_network_and_batch(styles), lambda rows: _view(rows, styles))
    return Plot(
        "layers",
        "Time of each layer, and the speed of light",
        "The tick on a bar is the least time that the roofline allows: what lies to its right could still be gained. "
        "Layers that some engine fuses share a row; a bar in pieces is an engine that runs them one by one.",
        views,
        last_of_largest_batch(views),
        absent="No engine of this report was timed layer by layer.",
    )


def rows_of(engines: Sequence[Sequence[Layer]]) -> list[Row]:
    """Return the finest rows into which no layer of any engine has to be cut, in the graph's order.

    A layer without nodes (an engine's own copy or reordering) is a row of its own.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    def first_node(index: int, layer: Layer) -> str:
        return str(layer["nodes"][0]) if layer["nodes"] else f"{index} {layer['name']}"

    for layers in engines:
        for layer in layers:
            for node in layer["nodes"][1:]:
                parent[root(node)] = root(layer["nodes"][0])
    found: dict[str, dict[int, list[Layer]]] = {}
    order: list[str] = []
    # The engine with most layers cuts the network finest, and so tells the order best; what only another one has comes
    # after what comes before it there.
    for index in sorted(range(len(engines)), key=lambda i: -len(engines[i])):
        place = 0
        for layer in engines[index]:
            key = root(first_node(index, layer))
            if key not in found:
                order.insert(place, key)
            place = order.index(key) + 1
            found.setdefault(key, {}).setdefault(index, []).append(layer)
    return [Row(_title(found[key]), dict(sorted(found[key].items()))) for key in order]


def _title(by_engine: dict[int, list[Layer]]) -> str:
    """The label, in the engine that fuses most, with the operators; or these and the first node."""
    layers = min(by_engine.values(), key=len)
    operators = [operator for layer in layers for operator in layer["operators"]] or [layers[0]["name"]]
    nodes = [node for layer in layers for node in layer["nodes"]]
    shown = " + ".join(operators[:3]) + (f" + {len(operators) - 3} more" if len(operators) > 3 else "")
    if layers[0].get("label"):
        return f"{layers[0]['label']}<br><i>{wrapped(shown, 22)}</i>"
    return wrapped(shown, 22) + (f"<br><i>{_shortened(nodes[0])}</i>" if nodes else "")


def _shortened(node: str) -> str:
    return node if len(node) <= 20 else f"...{node[-17:]}"


def _view(results: list[Result], styles: Styles) -> View | None:
    timed = [result for result in results if result["layers"]]
    if not timed:
        return None
    rows = rows_of([result["layers"] for result in timed])
    unit, length_s = quantities.time_unit(layer["time_s"] for result in timed for layer in result["layers"])
    thickness = _BAR * len(timed) + _GAP
    figure = go.Figure()
    for index, result in enumerate(timed):
        # Row r takes y from r - 0.5 to r + 0.5; the bars of one row lie side by side about its middle.
        shift = (index - (len(timed) - 1) / 2) * _BAR / thickness
        _add_engine(figure, rows, index, result, styles, shift, thickness, length_s)
    _add_light(figure, rows, len(timed), thickness, length_s)
    figure.update_layout(barmode="overlay", meta="rows", height=70 + thickness * len(rows))
    figure.update_xaxes(title=f"{quantities.UNIT_WORDS[unit]} a call", rangemode="tozero")
    figure.update_yaxes(
        range=[len(rows) - 0.5, -0.5], tickvals=list(range(len(rows))), ticktext=[row.title for row in rows],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    slowest = [max(result["layers"], key=lambda layer: layer["time_s"]) for result in timed]
    costs = listed(
        f"{styles.name(result)} {label_of(layer)} with {units.seconds(layer['time_s'])} ({layer['share']:.0%})"
        for result, layer in zip(timed, slowest, strict=True)
    )
    return View(figure, f"Time of {len(rows)} layers. The slowest of each: {costs}.", note=_note(timed, styles))


def _add_engine(
    figure: go.Figure, rows: Sequence[Row], index: int, result: Result, styles: Styles, shift: float, thickness: int,
    length_s: float,
) -> None:  # fmt: skip
    places, bases, widths, texts = [], [], [], []
    for place, row in enumerate(rows):
        end = 0.0
        for layer in row.layers.get(index, []):
            places.append(place + shift)
            bases.append(end)
            widths.append(layer["time_s"] / length_s)
            texts.append(hover_text(layer, styles.name(result)))
            end += layer["time_s"] / length_s
    figure.add_bar(
        y=places, x=widths, base=bases, orientation="h", width=0.86 * _BAR / thickness, name=styles.name(result),
        legendgroup=styles.key(result), text=texts, textposition="none",
        marker={
            "color": styles.colour(result), "line": {"color": "var(--ground)", "width": 1},
            "pattern": {
                "shape": styles.pattern(result), "size": 6, "solidity": 0.3, "fillmode": "overlay",
                "fgcolor": "var(--ground)", "fgopacity": 0.85,
            },
        },
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _add_light(figure: go.Figure, rows: Sequence[Row], engines: int, thickness: int, length_s: float) -> None:
    places, times, texts = [], [], []
    for place, row in enumerate(rows):
        for index, layers in row.layers.items():
            known = [layer["roof_s"] for layer in layers if layer.get("roof_s") is not None]
            if known:
                places.append(place + (index - (engines - 1) / 2) * _BAR / thickness)
                times.append(sum(known) / length_s)
                texts.append(f"speed of light {units.seconds(sum(known))}")
    figure.add_scatter(
        x=times, y=places, mode="markers", name="speed of light", text=texts,
        marker={"symbol": "line-ns", "size": _BAR - 2, "color": "var(--ink)",
                "line": {"width": 2.5, "color": "var(--ink)"}},
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _note(results: Sequence[Result], styles: Styles) -> str:
    profiles = [(styles.name(result), result.get("layer_profile")) for result in results]
    scaled = listed(f"{name} ({p['method']}) by {p['scale']:.2f}" for name, p in profiles if p)
    apart = listed(
        f"{name} {units.seconds(sum(group['time_s'] for group in p['unmatched']))}"
        for name, p in profiles
        if p and p.get("unmatched")
    )
    notes = (
        f"Times of an engine's own profile are scaled to its latency without one: {scaled}." if scaled else "",
        f"Not shown, since they belong to no layer of the graph: {apart}." if apart else "",
    )
    return " ".join(note for note in notes if note)
