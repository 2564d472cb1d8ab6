"""The comparison's first plot: every row's ratio with its interval, before the noise (a forest plot)."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from edgeline_bench import units
from edgeline_bench.comparable import row_title
from edgeline_bench.compare import Comparison, Row
from edgeline_bench.compare_text import interval_text, verdict_text
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots.series import COLOURS

_WORD_SYMBOLS = {"slower": "triangle-right", "faster": "triangle-left", "same": "circle", "withheld": "circle-open"}
_PX_PER_LINE, _PX_BESIDES = 22, 84
_TITLE_WIDTH = 54  # characters: what a phone shows in a line
_MARGIN = 0.005  # beside the outermost mark, in powers of ten


def ratios_plot(comparison: Comparison) -> Plot:
    """Return every row's ratio with its interval, before the noise."""
    caption = (
        "Right of 1 is slower. The bar through a point is its 95 % interval, the grey one behind it the noise, within "
        "which nothing is claimed. Triangles point where a verdict goes; open circles have none."
    )
    view = View(forest_figure(comparison), _ratios_alt(comparison))
    return Plot("ratios", "New time over old", caption, (view,))


def forest_figure(comparison: Comparison) -> go.Figure:
    """A block per row: its title, and under it a line per report with ratio and interval; the grey bar is the noise."""
    figure = go.Figure()
    reports = len(comparison.rows)
    titles = [_title(row) for row in comparison.rows[0]]
    if max(map(len, titles)) > _TITLE_WIDTH:
        titles = [title.replace(", ", ",<br>", 1) for title in titles]
    title_lines = max(title.count("<br>") + 1 for title in titles)
    step = title_lines + reports + 0.2  # a block's height, in lines
    for index, rows in enumerate(comparison.rows):
        heights = [block * step + title_lines + index for block in range(len(rows))]
        _add_noise(figure, rows, heights)
        _add_ratios(figure, rows, heights, comparison.names[index + 1], COLOURS[(index + 1) % len(COLOURS)])
    for block, title in enumerate(titles):
        figure.add_annotation(
            text=title, x=0, xref="paper", xanchor="left", y=block * step + (title_lines - 1) / 2, yanchor="middle",
            showarrow=False, align="left", bgcolor="var(--ground)",
        )  # fmt: skip
    total = len(titles) * step
    figure.add_vline(x=1, layer="below", line={"color": "var(--soft)", "width": 1})
    low, high = _ends(comparison)
    ticks = _ratio_ticks(max(high, 1 / low))
    figure.update_xaxes(type="log", title="new time over old", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_xaxes(range=[math.log10(low) - _MARGIN, math.log10(high) + _MARGIN])
    figure.update_yaxes(range=[total - 0.4, -0.6], showticklabels=False, ticks="", showgrid=False, zeroline=False)
    figure.update_layout(height=round(total * _PX_PER_LINE + _PX_BESIDES), meta="rows")
    return figure


def _ratios_alt(comparison: Comparison) -> str:
    parts = [
        f"{_title(row)}: {row.verdict.ratio:.3f} in {name}, {row.verdict.word}"
        for name, rows in zip(comparison.names[1:], comparison.rows, strict=True)
        for row in rows
    ]
    return f"Ratios to {comparison.names[0]}. {'; '.join(parts)}."


def _add_noise(figure: go.Figure, rows: tuple[Row, ...], heights: list[float]) -> None:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for row, height in zip(rows, heights, strict=True):
        if row.verdict.noise is not None:
            xs += [1 / (1 + row.verdict.noise), 1 + row.verdict.noise, None]
            ys += [height, height, None]
    figure.add_scatter(
        x=xs, y=ys, name="noise", mode="lines", line={"color": "var(--line)", "width": 14}, hoverinfo="skip"
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
