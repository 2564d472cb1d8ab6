"""Latency against memory, size and accuracy: which engines and forms are worth having, and what each costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.pareto import OBJECTIVES, Objective, front_of, size_bytes
from edgeline_bench.plots import quantities
from edgeline_bench.plots.series import Result, Styles, listed, styles_of
from edgeline_bench.report import Report
from edgeline_bench.tables import main_results

_MARK = 13
_LATENCY = OBJECTIVES[0]


@dataclass(frozen=True, slots=True)
class _Axis:
    """What stands upwards: its title, how a row's value is drawn and written, and whether it is logarithmic."""

    objective: Objective
    title: str
    drawn: Callable[[Result], float | None]
    words: Callable[[Result], str]
    log: bool = True


_MB = 1e6
_AXES = (
    _Axis(OBJECTIVES[1], "peak memory of the process, MB",
          lambda r: _over(r["memory_bytes"]["peak"], _MB), lambda r: units.megabytes(r["memory_bytes"]["peak"])),
    _Axis(OBJECTIVES[2], "what the engine reads from disk, MB",
          lambda r: _over(size_bytes(r), _MB), lambda r: units.megabytes(size_bytes(r))),
    _Axis(OBJECTIVES[3], "accuracy, %", lambda r: _over(r["accuracy"], 0.01),
          lambda r: "-" if r["accuracy"] is None else f"{r['accuracy']:.2%}", log=False),
)  # fmt: skip


def pareto_plot(report: Report) -> Plot:
    """Return latency against each other objective, a view per network, batch size and objective."""
    styles = styles_of(report)
    groups: dict[tuple[str, int], list[Result]] = {}
    for row in main_results(report):
        groups.setdefault((styles.network(row), row["batch"]), []).append(row)
    views = tuple(
        view
        for (network, batch), rows in groups.items()
        for axis in _AXES
        if (view := _view(rows, styles, axis, {"network": network, "batch": str(batch)})) is not None
    )
    return Plot(
        "pareto",
        "What an answer costs",
        "Further left is faster; lower is less memory or size, higher is more accurate. Filled points are on the "
        "Pareto front of latency, memory, size and accuracy together: no other is as good in all four and better in "
        "one, by more than a run can tell. The line is the front of the two quantities shown.",
        views,
        absent="No row has both a latency and a figure to set against it.",
    )


def _view(rows: list[Result], styles: Styles, axis: _Axis, choices: dict[str, str]) -> View | None:
    shown = [row for row in rows if axis.drawn(row) is not None]
    if not shown:
        return None
    figure = go.Figure()
    unit, length_s = quantities.time_unit(row["latency_s"]["p50"] for row in shown)
    exact = [Objective(objective.name, objective.value) for objective in (_LATENCY, axis.objective)]
    _add_line(figure, front_of(shown, exact), axis, length_s)
    best = {styles.key(row) for row in front_of(rows)}
    for row in shown:
        on_front = styles.key(row) in best
        symbol = styles.symbol(row) if on_front else f"{styles.symbol(row)}-open"
        figure.add_scatter(
            x=[row["latency_s"]["p50"] / length_s], y=[axis.drawn(row)], mode="markers", name=styles.name(row),
            legendgroup=styles.key(row), text=[_hover(row, styles, on_front)], hovertemplate="%{text}<extra></extra>",
            marker={"color": styles.colour(row), "symbol": symbol, "size": _MARK, "line": {"width": 2}},
        )  # fmt: skip
    ticks, texts = quantities.log_ticks(row["latency_s"]["p50"] / length_s for row in shown)
    figure.update_xaxes(
        type="log", title=f"median time of a call, {quantities.UNIT_WORDS[unit]}", tickvals=ticks, ticktext=texts
    )
    if axis.log:
        ticks, texts = quantities.log_ticks(value for row in shown if (value := axis.drawn(row)))
        figure.update_yaxes(type="log", title=axis.title, tickvals=ticks, ticktext=texts)
    else:
        figure.update_yaxes(title=axis.title)
    figure.update_layout(height=440)
    front = listed(f"{styles.name(row)} ({units.seconds(row['latency_s']['p50'])}, {axis.words(row)})"
                   for row in shown if styles.key(row) in best)  # fmt: skip
    alt = f"Latency against {axis.title}. On the front of all four: {front}."
    return View(figure, alt, {**choices, "against": axis.objective.name})


def _add_line(figure: go.Figure, front: list[Result], axis: _Axis, length_s: float) -> None:
    """Draw the front of two quantities as a staircase: between two of its points there is nothing to be had."""
    points = sorted((row["latency_s"]["p50"] / length_s, axis.drawn(row) or math.nan) for row in front)
    figure.add_scatter(
        x=[x for x, _ in points], y=[y for _, y in points], mode="lines", showlegend=False, hoverinfo="skip",
        line={"color": "var(--soft)", "width": 1.5, "shape": "hv"}, meta="front",
    )  # fmt: skip


def _hover(row: Result, styles: Styles, on_front: bool) -> str:
    lines = [
        f"<b>{styles.name(row)}</b>",
        f"{units.seconds(row['latency_s']['p50'])} a call of {row['batch']}, {units.rate(row['throughput_per_s'])}",
        *(f"{axis.objective.name}: {axis.words(row)}" for axis in _AXES),
        "on the front" if on_front else "another is as good in all and better in one",
    ]
    return "<br>".join(lines)


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
