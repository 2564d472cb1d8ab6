"""The page's plots as plotly figures: data and axes. The page itself sets what differs between light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.report import Report

# Okabe and Ito's palette, told apart by colour-blind readers and on light and dark ground alike.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_QUANTILES = np.linspace(0, 1, 201)


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its title and a sentence on how to read it."""

    title: str
    caption: str
    figure: go.Figure


def all_plots(report: Report) -> list[Plot]:
    """Return the plots in reading order."""
    return [
        Plot(
            "Latency of a call",
            "How many of all calls were answered within a time: further left is faster, steeper is steadier. Where a "
            "line crosses 50 % is its median (p50), at 99 % its p99.",
            latency_figure(report),
        ),
        Plot(
            "Throughput over batch size",
            "Samples a second when calls of one batch size follow each other without a pause: higher is better.",
            throughput_figure(report),
        ),
        Plot(
            "From process start to the first logits",
            "Import: until the engine's packages are there. Load: until the network is ready. Then the first answer.",
            start_figure(report),
        ),
        Plot(
            "Resident memory",
            "Of the engine's own process, its libraries included: after import, after load, and the highest ever.",
            memory_figure(report),
        ),
        Plot(
            "Steadiness",
            "Each round's median against the row's own. What moves all lines alike, the grey reference kernel among "
            "them, is the machine and not an engine.",
            rounds_figure(report),
        ),
    ]


def latency_figure(report: Report) -> go.Figure:
    """The share of calls that were faster than x: one line per row, all percentiles at once."""
    figure = go.Figure()
    for result, colour, dash in _styled(report):
        values = np.quantile(np.asarray(result["samples_s"]), _QUANTILES)
        figure.add_scatter(
            x=values * 1e6, y=_QUANTILES * 100, name=_name(result), mode="lines",
            line={"color": colour, "dash": dash, "width": 2},
            hovertemplate="%{y:.1f} % of calls within %{x:.4g} us<extra>" + _name(result) + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(type="log", title="microseconds a call")
    figure.update_yaxes(title="% of calls", range=[0, 100])
    return figure


def throughput_figure(report: Report) -> go.Figure:
    """Samples a second against batch size, a line per engine."""
    figure = go.Figure()
    for index, (title, results) in enumerate(_by_engine(report).items()):
        figure.add_scatter(
            x=[r["batch"] for r in results], y=[r["throughput_per_s"] for r in results], name=title,
            mode="lines+markers", line={"color": _COLOURS[index % len(_COLOURS)], "width": 2}, marker={"size": 9},
            hovertemplate="batch %{x}: %{y:,.0f} samples/s<extra>" + title + "</extra>",
        )  # fmt: skip
    batches = sorted({r["batch"] for r in report["results"]})
    figure.update_xaxes(type="log", title="batch size", tickvals=batches, ticktext=[str(b) for b in batches])
    figure.update_yaxes(title="samples a second", rangemode="tozero")
    return figure


def start_figure(report: Report) -> go.Figure:
    """Import, load and first call, stacked."""
    figure = go.Figure()
    names = [_name(r) for r in report["results"]]
    for key, title, colour in zip(
        ("import", "load", "first"), ("import", "load", "first call"), _COLOURS, strict=False
    ):
        values = [r["cold_start_s"][key] for r in report["results"]]
        figure.add_bar(
            y=names, x=values, name=title, orientation="h", marker={"color": colour},
            customdata=[units.seconds(v) for v in values],
            hovertemplate="%{customdata}<extra>" + title + ", %{y}</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="seconds")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def memory_figure(report: Report) -> go.Figure:
    """Resident memory after import, after load, and at its peak."""
    figure = go.Figure()
    names = [_name(r) for r in report["results"]]
    stages = (("import", "after import"), ("load", "after load"), ("peak", "peak"))
    for (key, title), colour in zip(stages, _COLOURS, strict=False):
        values = [r["memory_bytes"][key] and r["memory_bytes"][key] / 1e6 for r in report["results"]]
        figure.add_bar(
            y=names, x=values, name=title, orientation="h", marker={"color": colour},
            hovertemplate="%{x:,.1f} MB<extra>" + title + ", %{y}</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="MB")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def rounds_figure(report: Report) -> go.Figure:
    """Each round's median over the median of all rounds, the reference kernel among them: drift hits all alike."""
    figure = go.Figure()
    lines: list[tuple[str, list[float], dict[str, Any]]] = [
        (_name(r), r["round_medians_s"], {"color": colour, "dash": dash, "width": 1.5})
        for r, colour, dash in _styled(report)
    ]
    lines.append(("reference kernel", report["reference_kernel"]["round_medians_s"], {"color": "#888888", "width": 3}))
    for name, medians, style in lines:
        relative = 100 * (np.asarray(medians) / np.median(medians) - 1)
        figure.add_scatter(
            x=list(range(1, len(medians) + 1)), y=relative, name=name, mode="lines", line=style,
            hovertemplate="round %{x}: %{y:+.1f} %<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(title="round")
    figure.update_yaxes(title="% off the median", ticksuffix=" %")
    return figure


def _name(result: dict[str, Any]) -> str:
    return f"{result['engine']} {result['artefact']} batch {result['batch']}"


def _by_engine(report: Report) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in report["results"]:
        groups.setdefault(f"{result['engine']} {result['artefact']}", []).append(result)
    return groups


def _styled(report: Report) -> list[tuple[dict[str, Any], str, str]]:
    """Give each engine a colour and each batch size a dash."""
    batches = sorted({r["batch"] for r in report["results"]})
    return [
        (result, _COLOURS[index % len(_COLOURS)], _DASHES[batches.index(result["batch"]) % len(_DASHES)])
        for index, results in enumerate(_by_engine(report).values())
        for result in results
    ]
