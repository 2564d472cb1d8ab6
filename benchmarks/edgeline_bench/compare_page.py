"""A comparison as one HTML file that needs nothing else, made of the parts that the report's page is made of."""

from __future__ import annotations

import html

from edgeline_bench import compare_text, page_parts
from edgeline_bench.compare import Comparison
from edgeline_bench.compare_plots import ratios_plot
from edgeline_bench.compare_rooflines import ceilings_table, rooflines_plot
from edgeline_bench.report import Report

_MOODS = {"slower": "bad", "faster": "good"}


def page_from_comparison(comparison: Comparison) -> str:
    """Return the whole page."""
    ratios, rooflines = ratios_plot(comparison), rooflines_plot(comparison)
    ceilings = ceilings_table(comparison)
    tables = "".join(page_parts.table_block(table, mood=_mood) for table in compare_text.all_tables(comparison))
    missing = "".join(f'<p class="note">{html.escape(line)}</p>' for line in compare_text.roofline_lines(comparison))
    sections = [
        ("ratios", "What changed", page_parts.plot_block(ratios) + tables),
        ("bounds", "What bounds it", page_parts.plot_block(rooflines) + missing
         + (page_parts.table_block(ceilings) if ceilings.cells else "")),
    ]  # fmt: skip
    names = comparison.names
    title = f"{names[1]} against {names[0]}" if len(names) == 2 else f"{len(names) - 1} reports against {names[0]}"
    return page_parts.page(title, _header(comparison, title), sections, (ratios, rooflines))


def _header(comparison: Comparison, title: str) -> str:
    summary = compare_text.summary(comparison)
    label = ""
    if comparison.across_hosts:
        label = page_parts.verdict_block("ACROSS HOSTS", (), good=False, meaning=summary.pop(0))
    facts = "; ".join(
        f"{name}: {_facts(report)}" for name, report in zip(comparison.names, comparison.reports, strict=True)
    )
    return (
        page_parts.header_block("Edgeline comparison", title, facts)
        + label
        + page_parts.list_block(summary, "headline")
        + page_parts.list_block(comparison.notes, "note")
    )


def _facts(report: Report) -> str:
    return f"{report['fingerprint']['cpu']}, {page_parts.date(report['created'])}"


def _mood(cell: str) -> str:
    """The class of a cell that ends in a verdict."""
    return _MOODS.get(cell.rpartition(" ")[2], "")
