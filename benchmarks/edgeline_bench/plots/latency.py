"""How long calls took: the share of all calls that were answered within a time, with the percentiles marked."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.series import Result, Styles, listed, styles_of, views_of
from edgeline_bench.report import Report

_QUANTILES = np.linspace(0, 1, 201)


def latency_plot(report: Report) -> Plot:
    """Return the distribution of every row's samples, a view per scenario, network and batch size."""
    styles = styles_of(report)
    return Plot(
        "latency",
        "Latency of a call",
        "How many of all calls were answered within a time: further left is faster, steeper is steadier. The marks are "
        "p50, p90 and p99, where the sample carries them. No sample is left out.",
        views_of(
            report["results"],
            lambda r: {"scenario": r["scenario"], "network": styles.network(r), "batch": str(r["batch"])},
            lambda rows: _view(rows, styles),
        ),
    )


def _view(rows: list[Result], styles: Styles) -> View:
    figure = go.Figure()
    unit, length_s = quantities.time_unit(np.median(r["samples_s"]) for r in rows)
    for row in rows:
        _add_row(figure, row, styles, unit, length_s)
    ticks, texts = quantities.log_ticks(
        end / length_s for r in rows for end in (min(r["samples_s"]), max(r["samples_s"]))
    )
    figure.update_xaxes(type="log", title=f"{quantities.UNIT_WORDS[unit]} a call", tickvals=ticks, ticktext=texts)
    figure.update_yaxes(title="% of calls", range=[0, 101], tickvals=[0, 25, 50, 75, 90, 99])
    figure.update_layout(height=380)
    medians = listed(f"{styles.name(r)} {units.seconds(r['latency_s']['p50'])}" for r in rows)
    return View(figure, f"Cumulative distribution of the time of a call. Medians: {medians}.")


def _add_row(figure: go.Figure, row: Result, styles: Styles, unit: str, length_s: float) -> None:
    name, key, colour = styles.name(row), styles.key(row), styles.colour(row)
    values = np.quantile(np.asarray(row["samples_s"]), _QUANTILES) / length_s
    figure.add_scatter(
        x=_rounded(values), y=_rounded(_QUANTILES * 100), name=name, legendgroup=key, mode="lines",
        line={"color": colour, "dash": styles.dash(row), "width": 2},
        hovertemplate=f"%{{y:.1f}} % of calls within %{{x:.4g}} {unit}<extra>{name}</extra>",
    )  # fmt: skip
    told = [(p, row["latency_s"].get(f"p{p}")) for p in (50, 90, 99)]
    marks = [(p, value) for p, value in told if value is not None]
    figure.add_scatter(
        x=_rounded(np.asarray([value for _, value in marks]) / length_s), y=[p for p, _ in marks],
        legendgroup=key, name=name, showlegend=False, mode="markers",
        marker={"color": colour, "symbol": styles.symbol(row), "size": 9,
                "line": {"color": "var(--ground)", "width": 1}},
        text=[f"p{p}: {units.seconds(value)}" for p, value in marks],
        hovertemplate=f"%{{text}}<extra>{name}</extra>",
    )  # fmt: skip


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{v:.6g}") for v in values]
