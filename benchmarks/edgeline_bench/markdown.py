"""The report as Markdown: the same tables as in the terminal, for a pull request or a wiki."""

from __future__ import annotations

from edgeline_bench import tables
from edgeline_bench.report import Report


def markdown_from_report(report: Report) -> str:
    """Return the whole report, without raw samples."""
    parts = [
        "# Edgeline benchmark",
        "",
        f"**{tables.verdict_line(report)}**",
        "",
        *(f"{line}\n" for line in tables.headlines(report)),
        tables.markdown(tables.latency_table(report)),
        tables.markdown(tables.start_table(report)),
        tables.markdown(tables.facts_table(report)),
    ]
    return "\n".join(parts)
