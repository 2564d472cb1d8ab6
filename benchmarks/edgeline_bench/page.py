"""The report as one HTML file that needs nothing else: plotly's script, the data and the style are all inside."""

from __future__ import annotations

import html
import json
from importlib import resources
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from edgeline_bench import plots, tables
from edgeline_bench.report import Report


def page_from_report(report: Report) -> str:
    """Return the whole page."""
    template = Template(resources.files("edgeline_bench").joinpath("page.html").read_text(encoding="utf-8"))
    drawn = plots.all_plots(report)
    return template.substitute(
        verdict_class="valid" if report["valid"] else "invalid",
        verdict=html.escape(tables.verdict_line(report)),
        headline="".join(f"<p>{html.escape(line)}</p>" for line in tables.headlines(report)),
        latency=_table(tables.latency_table(report)),
        start=_table(tables.start_table(report)),
        facts=_table(tables.facts_table(report)),
        plots="\n".join(_plot(index, plot) for index, plot in enumerate(drawn)),
        figures=f"[{','.join(_json(plot.figure) for plot in drawn)}]",
        plotly=get_plotlyjs(),
    )


def _plot(index: int, plot: plots.Plot) -> str:
    return (
        f"<figure><figcaption>{html.escape(plot.title)}</figcaption><p class='note'>{html.escape(plot.caption)}</p>"
        f'<div class="plot" id="plot{index}"></div></figure>'
    )


def _json(figure: go.Figure) -> str:
    figure.update_layout(template="none")
    record = json.loads(figure.to_json())
    return json.dumps(record).replace("</", "<\\/")


def _table(table: tables.Table) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        return "".join(
            f'<{tag} class="{"word" if i < table.left else "figure"}">{html.escape(c)}</{tag}>'
            for i, c in enumerate(cells)
        )

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.cells)
    note = f"<p class='note'>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f"<h2>{html.escape(table.title)}</h2><div class='scroll'><table>"
        f"<thead><tr>{row(table.heading, 'th')}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{note}"
    )
