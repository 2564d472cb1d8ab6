"""One roofline of whole networks: every engine as a point, those too that do not tell the time of a layer."""

from __future__ import annotations

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.ceilings import Ceilings, Frame, Machine, add_ceilings, ceilings_of, frame_of, set_axes
from edgeline_bench.plots.series import (
    Result,
    Styles,
    by_network_and_batch,
    last_of_largest_batch,
    listed,
    styles_of,
    views_of,
)
from edgeline_bench.report import Report
from edgeline_bench.tables import arithmetic, main_results

ABSENT = "This machine's ceilings were not measured: no engine can be placed under them."
_MARK = 12


def networks_plot(report: Report) -> Plot:
    """Return the roofline of whole networks, a view per network and batch size."""
    name, title = "roofline-networks", "Every engine under this machine's roofline"
    ceilings, styles = ceilings_of(report), styles_of(report)
    rows = [row for row in main_results(report) if row.get("work") and row["speed_of_light_s"]]
    if ceilings is None or not rows:
        return Plot(name, title, "", (), absent=ABSENT)
    frame = frame_of([_point(row) for row in rows], [ceilings])
    views = views_of(rows, by_network_and_batch(styles), lambda group: _view(group, styles, ceilings, frame))
    return Plot(
        name,
        title,
        "A point is a whole network: its operations over the bytes that it must move once, and the operations a second "
        "that its median call comes to. The stem ends where the sum of its layers' roofs would put it: what is left to "
        "gain. Forms of fewer bytes stand further right, and their ceiling is another one.",
        views,
        last_of_largest_batch(views),
    )


def _point(row: Result) -> dict[str, float]:
    """Return where a row stands, in the words of a layer's record."""
    work, median_s = row["work"], row["latency_s"]["p50"]
    return {
        "intensity": work["flops"] / work["bytes"],
        "attained_flops_per_s": work["flops"] / median_s,
        "roof_flops_per_s": work["flops"] / row["speed_of_light_s"]["warm"],
    }


def _view(rows: list[Result], styles: Styles, ceilings: Ceilings, frame: Frame) -> View:
    figure = go.Figure()
    used = {p if p in ceilings.flops else "fp32" for p in map(arithmetic, rows)}
    add_ceilings(figure, [Machine(ceilings)], frame, used)
    for row in rows:
        point, name, key = _point(row), styles.name(row), styles.key(row)
        figure.add_scatter(
            x=[point["intensity"]] * 2, y=[point["attained_flops_per_s"], point["roof_flops_per_s"]], mode="lines",
            line={"color": styles.colour(row), "width": 1}, opacity=0.45, name=name, legendgroup=key, showlegend=False,
            hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(
            x=[point["intensity"]], y=[point["attained_flops_per_s"]], mode="markers", name=name, legendgroup=key,
            marker={"color": styles.colour(row), "symbol": styles.symbol(row), "size": _MARK,
                    "line": {"color": "var(--ground)", "width": 1}},
            text=[_hover(row, name)], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    set_axes(figure, frame)
    shares = listed(f"{styles.name(row)} {_share(row):.0%}" for row in rows)
    return View(figure, f"Roofline of whole networks. Share of the speed of light: {shares}.")


def _share(row: Result) -> float:
    return float(row["speed_of_light_s"]["warm"] / row["latency_s"]["p50"])


def _hover(row: Result, name: str) -> str:
    point, precision = _point(row), arithmetic(row)
    return "<br>".join(
        (
            f"<b>{name}</b>",
            f"{units.seconds(row['latency_s']['p50'])} where {units.seconds(row['speed_of_light_s']['warm'])} is the "
            f"least: {_share(row):.0%}",
            f"{quantities.count(row['work']['flops'])} operations, {quantities.count(row['work']['bytes'])} bytes",
            f"attained {quantities.operations_rate(point['attained_flops_per_s'], precision)} in {precision}",
        )
    )
