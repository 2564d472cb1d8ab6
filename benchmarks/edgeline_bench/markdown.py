"""The report as Markdown: the page's words and tables, for a pull request or a wiki."""

from __future__ import annotations

from collections.abc import Mapping

from edgeline_bench import instrument_tables, tables
from edgeline_bench.report import Report


def markdown_from_report(report: Report) -> str:
    """Return the whole report, without raw samples."""
    found = [
        tables.latency_table(report),
        tables.scenario_table(report),
        tables.start_table(report),
        tables.left_out_table(report),
        instrument_tables.memory_table(report),
        instrument_tables.light_table(report),
        *instrument_tables.layers_tables(report),
        instrument_tables.ceilings_table(report),
        tables.facts_table(report),
    ]
    parts = [
        "# Edgeline benchmark",
        "",
        f"**{tables.verdict_line(report)}**",
        "",
        *(f"{line}\n" for line in tables.headlines(report)),
        *(_answer(answer) for answer in report.get("words") or ()),
        *(tables.markdown(table) for table in found if table.cells),
    ]
    return "\n".join(parts)


def _answer(answer: Mapping[str, str]) -> str:
    """A question with its answer: one line beside it, several as a list below."""
    lines = answer["answer"].splitlines()
    if len(lines) == 1:
        return f"**{answer['question']}** {lines[0]}\n"
    return "\n".join([f"**{answer['question']}**", "", *(f"- {line}" for line in lines), ""])
