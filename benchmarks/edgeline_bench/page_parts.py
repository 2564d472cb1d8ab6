"""What a page is made of: the style, the script, plotly, and the HTML of plots, tables and sections.

Shared by the report's page and the comparison's. It knows no report: what stands on a page is not decided here.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from edgeline_bench.tables import Table

_NO_SCRIPT = "<noscript><p class='absent'>The plots need JavaScript; the tables hold their figures.</p></noscript>"
_REASONS = 5  # of an invalid report, before the others are folded away


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


def page(title: str, header: str, sections: Sequence[tuple[str, str, str]], plots: Iterable[Plot]) -> str:
    """Return a whole page that asks nobody for anything.

    `header` is HTML, and of each section (name, title, content) the content, which holds `plot_block` of each of the
    plots.
    """
    links = links_block({name: heading for name, heading, _ in sections})
    body = "".join(section_block(name, heading, content) for name, heading, content in sections)
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
        body=f"<header>{header}</header>{_NO_SCRIPT}{links}<main>{body}</main>",
        plots=json.dumps(records, separators=(",", ":")).replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
        script=_part("page.js"),
    )


def header_block(kicker: str, title: str, facts: str) -> str:
    """Return a page's title: what it is of, and when and where that was measured."""
    return (
        f'<p class="kicker">{html.escape(kicker)}</p><h1>{html.escape(title)}</h1>'
        f'<p class="note">{html.escape(facts)}</p>'
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


def table_block(table: Table, kind: str = "", mood: Callable[[str], str] | None = None) -> str:
    """Return a table that scrolls sideways in itself, never the page; `mood` gives a cell's class from its text."""

    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = ["word" if i < table.left else "figure" for i in range(len(cells))]
        classes = [f"{kind} {mood(cell) if mood else ''}".rstrip() for kind, cell in zip(kinds, cells, strict=True)]
        scope = ' scope="col"' if tag == "th" else ""
        inner = "".join(
            f'<{tag}{scope} class="{name}">{html.escape(cell)}</{tag}>'
            for name, cell in zip(classes, cells, strict=True)
        )
        return f"<tr>{inner}</tr>"

    body = "".join(row("td", cells) for cells in table.cells)
    title = html.escape(table.title)
    note = "".join(f'<p class="note">{html.escape(line)}</p>' for line in table.note.splitlines())
    return (
        f'<h3>{title}</h3><div class="scroll" role="region" tabindex="0" aria-label="{title}"><table class="{kind}">'
        f"<thead>{row('th', table.heading)}</thead><tbody>{body}</tbody></table></div>{note}"
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
    first, others = reasons[:_REASONS], reasons[_REASONS:]
    listed = list_block(first) + (folded_block(f"and {len(others)} more", list_block(others)) if others else "")
    return (
        f'<div class="verdict {"valid" if good else "invalid"}"><strong>{html.escape(word)}</strong>'
        f"<span>{html.escape(meaning)}</span>{listed}</div>"
    )


def list_block(lines: Sequence[str], kind: str = "") -> str:
    """Return a list; nothing for no lines."""
    inner = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{inner}</ul>' if lines else ""


def words_block(words: Sequence[Mapping[str, str]]) -> str:
    """Return questions with their answers; its lines are paragraphs, led in by what stands before a colon."""
    inner = "".join(
        f"<div><dt>{html.escape(w['question'])}</dt>{''.join(_answer_line(line) for line in w['answer'].splitlines())}"
        "</div>"
        for w in words
    )
    return f'<dl class="words">{inner}</dl>'


def date(created: str) -> str:
    """Format a report's time stamp for people."""
    return created.replace("T", " ").replace("Z", " UTC")


def _answer_line(line: str) -> str:
    lead, colon, rest = line.partition(": ")
    if not colon or ". " in lead:  # a colon within a text leads nothing in
        return f"<dd>{html.escape(line)}</dd>"
    return f"<dd><span>{html.escape(lead)}:</span> {html.escape(rest)}</dd>"


def _figure_record(figure: go.Figure) -> object:
    # plotly's own template would set colours that the page sets itself.
    figure.update_layout(template="none")
    return json.loads(figure.to_json())


def _part(name: str) -> str:
    return resources.files("edgeline_bench").joinpath(name).read_text(encoding="utf-8")
