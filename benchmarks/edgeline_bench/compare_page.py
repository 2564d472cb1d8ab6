"""A comparison as one HTML file that needs nothing else: plotly's script, the data and the style are all inside."""

from __future__ import annotations

import html
import json
from importlib import resources
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from edgeline_bench import compare_plots, compare_text
from edgeline_bench.compare import Comparison
from edgeline_bench.tables import Table

_ROOFLINE = (
    "Each point is a layer: how many operations it does for a byte that it must move, against how many a second it "
    "got done. The slanted lines are the bandwidth of each level of memory, the level ones the peak rates; no point "
    "may lie above its line."
)
_FOREST = (
    "Right of 1 is slower. The bar through a point is its 95 % interval, the grey one behind it the noise, within "
    "which nothing is claimed. Triangles point where a verdict goes; open circles have none."
)


def page_from_comparison(comparison: Comparison) -> str:
    """Return the whole page."""
    template = Template(resources.files("edgeline_bench").joinpath("compare.html").read_text(encoding="utf-8"))
    roofline = compare_plots.roofline_figure(comparison)
    figures = [compare_plots.forest_figure(comparison), *([roofline] if roofline is not None else [])]
    return template.substitute(
        label="<p class='label'>ACROSS HOSTS</p>" if comparison.across_hosts else "",
        summary="".join(f"<p>{html.escape(line)}</p>" for line in compare_text.summary(comparison)),
        notes=_list(comparison.notes),
        forest=html.escape(_FOREST),
        roofline=_roofline(compare_text.roofline_lines(comparison), roofline is not None),
        tables="".join(_table(table) for table in compare_text.all_tables(comparison)),
        figures=f"[{','.join(_json(figure) for figure in figures)}]",
        plotly=get_plotlyjs(),
    )


def _roofline(missing: list[str], is_drawn: bool) -> str:
    lines = ([_ROOFLINE] if is_drawn else []) + missing
    plot = '<div class="plot" id="plot1"></div>' if is_drawn else ""
    return "".join(f"<p class='note'>{html.escape(line)}</p>" for line in lines) + plot


def _list(lines: tuple[str, ...]) -> str:
    return f"<ul class='note'>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _json(figure: go.Figure) -> str:
    figure.update_layout(template="none")
    record = json.loads(figure.to_json())
    return json.dumps(record).replace("</", "<\\/")


def _table(table: Table) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        return "".join(
            f'<{tag} class="{"word" if i < table.left else "figure"}{_mood(c)}">{html.escape(c)}</{tag}>'
            for i, c in enumerate(cells)
        )

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.cells)
    return (
        f"<h2>{html.escape(table.title)}</h2><div class='scroll'><table>"
        f"<thead><tr>{row(table.heading, 'th')}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<p class='note'>{html.escape(table.note)}</p>"
    )


def _mood(cell: str) -> str:
    word = cell.rpartition(" ")[2]
    return {"slower": " bad", "faster": " good"}.get(word, "")
