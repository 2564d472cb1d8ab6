"""The comparison's plots as plotly figures: the ratios with their intervals, and all rooflines in one.

Data and axes only; the page sets what differs between light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.comparable import row_title
from edgeline_bench.compare import Comparison, Row
from edgeline_bench.compare_text import interval_text, verdict_text
from edgeline_bench.report import Report

# Okabe and Ito's palette, told apart by colour-blind readers and on light and dark ground alike; the base comes first.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
_WORD_SYMBOLS = {"slower": "triangle-right", "faster": "triangle-left", "same": "circle", "withheld": "circle-open"}
_NOISE_COLOUR = "rgba(128,128,128,0.28)"
_PX_PER_LINE, _PX_PER_TITLE, _PX_BESIDES = 22, 26, 110
_MARGIN = 0.005  # beside the outermost mark, in powers of ten


def forest_figure(comparison: Comparison) -> go.Figure:
    """A block per row: its title, and under it a line per report with ratio and interval; the grey bar is the noise."""
    figure = go.Figure()
    reports = len(comparison.rows)
    step = _PX_PER_TITLE / _PX_PER_LINE + reports  # a block's height, in lines
    for index, rows in enumerate(comparison.rows):
        heights = [block * step + index + 1 for block in range(len(rows))]
        _add_noise(figure, rows, heights)
        _add_ratios(figure, rows, heights, comparison.names[index + 1], _COLOURS[(index + 1) % len(_COLOURS)])
    for block, row in enumerate(comparison.rows[0]):
        figure.add_annotation(
            text=_title(row), x=0, xref="paper", xanchor="left", y=block * step, yanchor="middle", showarrow=False
        )
    total = len(comparison.rows[0]) * step
    figure.add_vline(x=1, line={"color": "#888888", "width": 1})
    low, high = _ends(comparison)
    ticks = _ratio_ticks(max(high, 1 / low))
    figure.update_xaxes(type="log", title="new time over old", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_xaxes(range=[math.log10(low) - _MARGIN, math.log10(high) + _MARGIN])
    figure.update_yaxes(range=[total - 0.4, -1], showticklabels=False, showgrid=False, zeroline=False)
    figure.update_layout(height=round(total * _PX_PER_LINE + _PX_BESIDES), showlegend=reports > 1)
    return figure


def roofline_figure(comparison: Comparison) -> go.Figure | None:
    """All reports' ceilings and placed layers, a colour per report; None when no report has a roofline."""
    measured = [
        (name, report, _COLOURS[index % len(_COLOURS)], _SYMBOLS[index % len(_SYMBOLS)])
        for index, (name, report) in enumerate(zip(comparison.names, comparison.reports, strict=True))
        if report["roofline"] is not None
    ]
    if not measured:
        return None
    figure = go.Figure()
    intensities = [layer["intensity"] for _, report, _, _ in measured for _, layer in _placed(report)]
    ends = min([0.1, *intensities]) / 2, max([100.0, *intensities]) * 2
    for index, (name, report, colour, _) in enumerate(measured):
        _add_ceilings(figure, report, ends, name, {"color": colour, "dash": "dash" if index else "solid"})
    for name, report, colour, symbol in measured:
        _add_layers(figure, report, name, {"color": colour, "symbol": symbol, "size": 9})
    figure.update_xaxes(type="log", title="operations per byte", dtick=1)
    figure.update_yaxes(type="log", title="operations a second", dtick=1, tickformat="~s")
    figure.update_layout(height=520)
    return figure


def _add_noise(figure: go.Figure, rows: tuple[Row, ...], heights: list[float]) -> None:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for row, height in zip(rows, heights, strict=True):
        if row.verdict.noise is not None:
            xs += [1 / (1 + row.verdict.noise), 1 + row.verdict.noise, None]
            ys += [height, height, None]
    figure.add_scatter(
        x=xs, y=ys, mode="lines", line={"color": _NOISE_COLOUR, "width": 14}, hoverinfo="skip", showlegend=False
    )


def _add_ratios(figure: go.Figure, rows: tuple[Row, ...], heights: list[float], name: str, colour: str) -> None:
    ratios = [row.verdict.ratio for row in rows]
    ends = [row.verdict.ci95 or (row.verdict.ratio, row.verdict.ratio) for row in rows]
    figure.add_scatter(
        x=ratios, y=heights, name=name, mode="markers",
        marker={"color": colour, "size": 11, "symbol": [_WORD_SYMBOLS[row.verdict.word] for row in rows]},
        error_x={"type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 4,
                 "array": [high - ratio for (_, high), ratio in zip(ends, ratios, strict=True)],
                 "arrayminus": [ratio - low for (low, _), ratio in zip(ends, ratios, strict=True)]},
        text=[_hover(name, row) for row in rows], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _hover(name: str, row: Row) -> str:
    verdict = row.verdict
    lines = [
        row_title(row.key),
        f"<b>{verdict_text(verdict)}</b>",
        f"ratio {verdict.ratio:.3f} ({interval_text(verdict)})",
    ]
    if verdict.noise is not None:
        lines.append(f"noise {verdict.noise:.1%}, p {verdict.p_value:.2g}")
    return "<br>".join([*lines, f"{units.seconds(row.old_s)} before, {units.seconds(row.new_s)} in {name}"])


def _title(row: Row) -> str:
    engine, artefact, _, scenario, batch = row.key
    return f"{engine} {artefact}, {'' if scenario == 'single-stream' else f'{scenario}, '}batch {batch}"


def _ends(comparison: Comparison) -> tuple[float, float]:
    """Return the least and the greatest ratio that is drawn, ends of intervals and of the noise among them."""
    verdicts = [row.verdict for rows in comparison.rows for row in rows]
    bands = [band for v in verdicts for band in (1 + (v.noise or 0), 1 / (1 + (v.noise or 0)))]
    drawn = [*bands, *(end for v in verdicts for end in (v.ratio, *(v.ci95 or ())))]
    return min(drawn), max(drawn)


def _ratio_ticks(reach: float) -> list[float]:
    """Choose ticks for an axis of ratios up to `reach` or its inverse: plotly's own for logs are hard to read there."""
    if reach > 3:
        powers = range(math.ceil(math.log2(reach)) + 1)
        return sorted({2.0**sign for power in powers for sign in (power, -power)})
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if (reach - 1) / step < 4)
    return [round(1 + step * count, 2) for count in range(-4, 5) if 1 + step * count > 0]


def _placed(report: Report) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return (result, layer) for each layer that has a place under the roof; one without operations has none."""
    return [
        (result, layer)
        for result in report["results"]
        for layer in result["layers"]
        if layer["placed"] and layer["intensity"] > 0 and layer["attained_flops_per_s"] > 0
    ]


def _add_ceilings(
    figure: go.Figure, report: Report, ends: tuple[float, float], name: str, line: Mapping[str, Any]
) -> None:
    ceilings, threads = report["roofline"]["ceilings"], f"threads_{report['protocol']['threads']}"
    peaks = {precision: rates[threads] for precision, rates in ceilings["flops"].items() if threads in rates}
    highest, fastest = max(peaks.values()), max(ceilings["bandwidth"].values())
    xs: list[float | None] = []
    ys: list[float | None] = []
    texts: list[str] = []
    starts = []
    for level, bandwidth in ceilings["bandwidth"].items():
        text = f"{name}: {level}, {units.bandwidth(bandwidth)}"
        ridge = max(highest / bandwidth, 2 * ends[0])
        xs += [ends[0], ridge, None]
        ys += [ends[0] * bandwidth, ridge * bandwidth, None]
        texts += [text, text, ""]
        starts.append((ends[0], ends[0] * bandwidth, level, "middle left"))
    for precision, peak in peaks.items():
        text = f"{name}: {precision} peak, {units.flops(peak)}"
        xs += [peak / fastest, ends[1], None]
        ys += [peak, peak, None]
        texts += [text, text, ""]
        starts.append((ends[1], peak, precision, "top left"))
    figure.add_scatter(
        x=xs, y=ys, text=texts, name=f"ceilings of {name}", mode="lines", line={**line, "width": 1.5}, legendgroup=name,
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    if line["dash"] == "solid":  # of the first alone: two reports of one host would print one word over the other
        figure.add_scatter(
            x=[start[0] for start in starts], y=[start[1] for start in starts], text=[start[2] for start in starts],
            textposition=[start[3] for start in starts], mode="text", hoverinfo="skip", showlegend=False,
        )  # fmt: skip


def _add_layers(figure: go.Figure, report: Report, name: str, marker: Mapping[str, Any]) -> None:
    placed = _placed(report)
    figure.add_scatter(
        x=[layer["intensity"] for _, layer in placed], y=[layer["attained_flops_per_s"] for _, layer in placed],
        name=name, mode="markers", marker=dict(marker), legendgroup=name, opacity=0.85,
        text=[
            f"{layer['name']}<br>{result['engine']} {result['artefact']} batch {result['batch']}, {name}<br>"
            f"{units.flops(layer['attained_flops_per_s'])}, {layer['efficiency']:.0%} of its roof, "
            f"bound by {layer['bound']}"
            for result, layer in placed
        ],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
