"""From process start to the first logits: time and resident memory, stage by stage."""

from __future__ import annotations

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.series import (
    COLOURS,
    Result,
    Styles,
    by_network_and_batch,
    listed,
    styles_of,
    views_of,
)
from edgeline_bench.report import Report
from edgeline_bench.tables import main_results, start_s

_START = (("import", "import", COLOURS[5]), ("load", "load", COLOURS[1]), ("first", "first call", COLOURS[0]))
_MEMORY = (
    ("interpreter", "Python alone"), ("import", "after import"), ("load", "after load"), ("first", "after first call"),
    ("peak", "peak"),
)  # fmt: skip


def start_plot(report: Report) -> Plot:
    """Return import, load and first call of every row, stacked."""
    styles = styles_of(report)
    return Plot(
        "start",
        "From process start to the first logits",
        "Import: until the engine's packages are there. Load: until the network is ready. Then the first answer.",
        views_of(main_results(report), by_network_and_batch(styles), lambda rows: _start_view(rows, styles)),
    )


def memory_stages_plot(report: Report) -> Plot:
    """Return resident memory after each stage."""
    styles = styles_of(report)
    return Plot(
        "memory-stages",
        "Resident memory, stage by stage",
        "Of the engine's own process, which does nothing else. Peak is the highest of the whole run.",
        views_of(main_results(report), by_network_and_batch(styles), lambda rows: _memory_view(rows, styles)),
        absent="Resident memory was not readable on this machine.",
    )


def _start_view(rows: list[Result], styles: Styles) -> View:
    figure = go.Figure()
    names = [wrapped(styles.name(row)) for row in rows]
    places = list(range(len(rows)))
    unit, length_s = quantities.time_unit(start_s(row) for row in rows)
    for key, title, colour in _START:
        values = [row["cold_start_s"][key] for row in rows]
        figure.add_bar(
            y=places, x=[value / length_s for value in values], name=title, orientation="h",
            marker={"color": colour}, text=[units.seconds(value) for value in values], textposition="none",
            customdata=[styles.name(row) for row in rows],
            hovertemplate=f"%{{text}}<extra>{title}, %{{customdata}}</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0.35, meta="rows", height=90 + 44 * len(rows))
    figure.update_xaxes(title=quantities.UNIT_WORDS[unit])
    figure.update_yaxes(autorange="reversed", tickvals=places, ticktext=names, showgrid=False)
    totals = listed(f"{styles.name(row)} {units.seconds(start_s(row))}" for row in rows)
    return View(figure, f"Time from process start to the first logits: {totals}.")


def _memory_view(rows: list[Result], styles: Styles) -> View | None:
    figure = go.Figure()
    stages = [(key, title) for key, title in _MEMORY if any(row["memory_bytes"].get(key) for row in rows)]
    if not stages:
        return None
    for row in rows:
        values = [row["memory_bytes"].get(key) for key, _ in stages]
        figure.add_scatter(
            x=[wrapped(title, 10) for _, title in stages], y=[value and value / 1e6 for value in values],
            name=styles.name(row), legendgroup=styles.key(row), mode="lines+markers",
            line={"color": styles.colour(row), "dash": styles.dash(row), "width": 2},
            marker={"symbol": styles.symbol(row), "size": 9}, text=[units.megabytes(value) for value in values],
            customdata=[title for _, title in stages],
            hovertemplate=f"%{{customdata}}: %{{text}}<extra>{styles.name(row)}</extra>",
        )  # fmt: skip
    figure.update_yaxes(title="MB", rangemode="tozero")
    figure.update_xaxes(showgrid=False)
    figure.update_layout(height=320)
    peaks = listed(f"{styles.name(row)} {units.megabytes(row['memory_bytes'].get('peak'))}" for row in rows)
    return View(figure, f"Resident memory after each stage. Peak: {peaks}.")


def wrapped(text: str, width: int = 16) -> str:
    """Break a label into lines: beside a bar it would take a phone's width from the plot."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)
