"""Read bandwidth over the size of what is read: a plateau is a level of memory (as in the Empirical Roofline Tool)."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.series import COLOURS, listed
from edgeline_bench.report import Report


def sweep_plot(report: Report) -> Plot:
    """Return the sweep that the roofline's bandwidths were read from."""
    title = "Read bandwidth of this machine"
    roofline = report.get("roofline")
    sweeps = {key: points for key, points in ((roofline or {}).get("sweep") or {}).items() if points}
    if not sweeps:
        absent = "No sweep over the working set was measured, so no plateaus can be shown."
        return Plot("sweep", title, "", (), absent=absent)
    caption = (
        "Over the size of what is read again and again. Each plateau is a level of memory; the dotted lines are where "
        "the levels end."
    )
    return Plot("sweep", title, caption, (_view(roofline or {}, sweeps),))


def _view(roofline: Report, sweeps: dict[str, list[list[float]]]) -> View:
    figure = go.Figure()
    for (key, points), colour in zip(sweeps.items(), COLOURS, strict=False):
        name = units.counted(int(key.removeprefix("threads_")), "thread")
        figure.add_scatter(
            x=[size for size, _ in points], y=[rate / 1e9 for _, rate in points], name=name, mode="lines+markers",
            line={"color": colour, "width": 2}, marker={"size": 4},
            text=[f"{quantities.capacity(size)}: {quantities.bytes_rate(rate)}" for size, rate in points],
            hovertemplate=f"%{{text}}<extra>{name}</extra>",
        )  # fmt: skip
    for level, size in (roofline.get("levels_bytes") or {}).items():
        figure.add_vline(x=size, line={"color": "var(--soft)", "dash": "dot", "width": 1})
        figure.add_annotation(
            text=level, x=math.log10(size), y=1, yref="paper", yanchor="bottom",
            showarrow=False, font={"color": "var(--soft)"},
        )  # fmt: skip
    sizes = [size for points in sweeps.values() for size, _ in points]
    ticks = [16**k for k in range(1, 12) if min(sizes) <= 16**k <= max(sizes)]
    figure.update_xaxes(
        type="log", title="working set", tickvals=ticks, ticktext=[quantities.capacity(t) for t in ticks], tickangle=0
    )
    values, texts = quantities.log_ticks(rate / 1e9 for points in sweeps.values() for _, rate in points)
    figure.update_yaxes(title="GB/s", type="log", tickvals=values, ticktext=texts)
    figure.update_layout(height=340)
    rates = roofline["ceilings"]["bandwidth"]
    plateaus = listed(f"{level} {quantities.bytes_rate(rate)}" for level, rate in rates.items() if rate)
    return View(figure, f"Read bandwidth against working set. Plateaus: {plateaus}.")
