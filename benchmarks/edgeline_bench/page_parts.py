"""What a page is made of: the style, the script, plotly, and the HTML of plots, tables and sections.

Shared by the report's page and the comparison's. It knows no report: what stands on a page is not decided here.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from edgeline_bench.tables import Table


@dataclass(frozen=True, slots=True)
class View:
    """One complete figure: what it shows in words (`alt`, for who cannot see it), and which choices lead to it."""

    figure: go.Figure
    alt: str
    choices: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its title and how to read it: one view or several, `start` being the first shown.

    Without a view it stands on the page as the sentence `absent`, which says why there is nothing to see. All views
    have the same choices, and each combination at most once. A colour may be `var(--NAME)`, one of those in page.css.
    """

    name: str
    title: str
    caption: str
    views: tuple[View, ...]
    start: int = 0
    absent: str = ""


def page(title: str, body: str, plots: Iterable[Plot]) -> str:
    """Return a whole page that asks nobody for anything. `body` is HTML and holds `plot_block` of each of the plots."""
    records = [
        {
            "id": plot.name,
            "start": plot.start,
            "views": [
                {"choices": dict(v.choices), "alt": v.alt, "note": v.note, "figure": _figure_record(v.figure)}
                for v in plot.views
            ],
        }
        for plot in plots
        if plot.views
    ]
    return Template(_part("page.html")).substitute(
        title=html.escape(title),
        style=_part("page.css"),
        body=body,
        plots=json.dumps(records, separators=(",", ":")).replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
        script=_part("page.js"),
    )


def plot_block(plot: Plot) -> str:
    """Return a plot's place on the page; the script draws it there."""
    title = f"<h3>{html.escape(plot.title)}</h3>"
    if not plot.views:
        absent = f'<p class="absent">{html.escape(plot.absent)}</p>'
        return f'<figure id="{plot.name}"><figcaption>{title}</figcaption>{absent}</figure>'
    view = plot.views[plot.start]
    caption = f"<figcaption>{title}<p>{html.escape(plot.caption)}</p></figcaption>"
    return (
        f'<figure id="{plot.name}">{caption}<div class="controls"></div><div class="legend"></div>'
        f'<div class="plot" role="img" aria-label="{html.escape(view.alt)}"></div>'
        f'<p class="note">{html.escape(view.note)}</p></figure>'
    )


def pair_block(*plots: Plot) -> str:
    """Return plots that stand beside each other where there is room."""
    return f'<div class="pair">{"".join(plot_block(plot) for plot in plots)}</div>'


def table_block(table: Table, kind: str = "") -> str:
    """Return a table that scrolls sideways in itself, never the page."""
    head = "".join(_cell("th", cell, i < table.left) for i, cell in enumerate(table.heading))
    body = "".join(
        f"<tr>{''.join(_cell('td', cell, i < table.left) for i, cell in enumerate(cells))}</tr>"
        for cells in table.cells
    )
    title = html.escape(table.title)
    note = "".join(f'<p class="note">{html.escape(line)}</p>' for line in table.note.splitlines())
    return (
        f'<h3>{title}</h3><div class="scroll" role="region" tabindex="0" aria-label="{title}"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def folded_block(summary: str, content: str) -> str:
    """Return content that is folded away until it is asked for."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def section_block(name: str, title: str, *blocks: str) -> str:
    """Return a section with a title; `name` is what links lead to."""
    heading = f'<h2 id="{name}-title">{html.escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}{"".join(blocks)}</section>'


def links_block(links: Mapping[str, str]) -> str:
    """Return the links to the page's sections: name to title."""
    inner = "".join(f'<a href="#{name}">{html.escape(title)}</a>' for name, title in links.items())
    return f'<nav aria-label="On this page">{inner}</nav>'


def verdict_block(word: str, reasons: Sequence[str], *, good: bool, meaning: str) -> str:
    """Return the verdict: its word, then what it means where it is good, or else every reason."""
    listed = f"<ul>{''.join(f'<li>{html.escape(reason)}</li>' for reason in reasons)}</ul>" if reasons else ""
    return (
        f'<div class="verdict {"valid" if good else "invalid"}"><strong>{html.escape(word)}</strong>'
        f"<span>{html.escape(meaning)}</span>{listed}</div>"
    )


def words_block(words: Sequence[Mapping[str, str]]) -> str:
    """Return questions with their answers."""
    inner = "".join(
        f"<div><dt>{html.escape(w['question'])}</dt><dd>{html.escape(w['answer'])}</dd></div>" for w in words
    )
    return f'<dl class="words">{inner}</dl>'


def _cell(tag: str, text: str, is_word: bool) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    return f'<{tag}{scope} class="{"word" if is_word else "figure"}">{html.escape(text)}</{tag}>'


def _figure_record(figure: go.Figure) -> object:
    # plotly's own template would set colours that the page sets itself.
    figure.update_layout(template="none")
    return json.loads(figure.to_json())


def _part(name: str) -> str:
    return resources.files("edgeline_bench").joinpath(name).read_text(encoding="utf-8")
