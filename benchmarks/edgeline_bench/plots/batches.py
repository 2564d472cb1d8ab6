"""What the batch size changes: throughput and peak memory."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.series import Result, Styles, listed, styles_of, views_of
from edgeline_bench.report import Report
from edgeline_bench.tables import main_results


def throughput_plot(report: Report) -> Plot:
    """Return samples a second against batch size, a line per engine and artefact."""
    return _plot(
        report,
        Plot("throughput", "Throughput over batch size", "Higher is better; both axes are logarithmic.", ()),
        "samples a second",
        lambda row: row["throughput_per_s"],
        units.rate,
    )


def memory_plot(report: Report) -> Plot:
    """Return peak resident memory against batch size."""
    return _plot(
        report,
        Plot(
            "memory-batch",
            "Peak memory over batch size",
            "The most that the engine's process ever held (VmHWM), its libraries included. Lower is better.",
            (),
            absent="Peak memory was not readable on this machine.",
        ),
        "MB",
        lambda row: None if row["memory_bytes"]["peak"] is None else row["memory_bytes"]["peak"] / 1e6,
        lambda value: units.megabytes(value * 1e6),
    )


def _plot(
    report: Report, plot: Plot, title: str, value_of: Callable[[Result], float | None], words: Callable[[float], str]
) -> Plot:
    styles = styles_of(report)
    views = views_of(
        main_results(report),
        lambda r: {"network": styles.network(r)},
        lambda rows: _view(rows, styles, title, value_of, words),
    )
    return Plot(plot.name, plot.title, plot.caption, views, absent=plot.absent)


def _view(
    rows: list[Result], styles: Styles, title: str, value_of: Callable[[Result], float | None],
    words: Callable[[float], str],
) -> View | None:  # fmt: skip
    lines: dict[str, list[tuple[int, float, Result]]] = {}
    for row in rows:
        value = value_of(row)
        if value is not None:
            lines.setdefault(styles.key(row), []).append((row["batch"], value, row))
    if not lines:
        return None
    figure = go.Figure()
    for key, points in lines.items():
        points.sort(key=lambda point: point[0])
        row = points[0][2]
        figure.add_scatter(
            x=[batch for batch, _, _ in points], y=[value for _, value, _ in points], name=styles.name(row),
            legendgroup=key, mode="lines+markers", text=[words(value) for _, value, _ in points],
            line={"color": styles.colour(row), "dash": styles.dash(row), "width": 2},
            marker={"symbol": styles.symbol(row), "size": 9},
            hovertemplate=f"batch %{{x}}: %{{text}}<extra>{styles.name(row)}</extra>",
        )  # fmt: skip
    batches = sorted({row["batch"] for row in rows})
    figure.update_xaxes(type="log", title="batch size", tickvals=batches, ticktext=[str(b) for b in batches])
    ticks, texts = quantities.log_ticks(value for points in lines.values() for _, value, _ in points)
    figure.update_yaxes(type="log", title=title, tickvals=ticks, ticktext=texts)
    figure.update_layout(height=320)
    largest = batches[-1]
    at_largest = listed(
        f"{styles.name(row)} {words(v)}" for points in lines.values() for b, v, row in points if b == largest
    )
    return View(figure, f"{title} against batch size. At batch {largest}: {at_largest}.")
