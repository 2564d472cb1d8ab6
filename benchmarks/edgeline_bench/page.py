"""The report as one HTML file that needs nothing else: verdict, words, plots and tables, in reading order.

It says only what the report holds. What an older report lacks, or one of a lesser machine, its place says.
"""

from __future__ import annotations

import html

from edgeline_bench import instrument_tables, page_parts, plots, tables, units
from edgeline_bench.plots.series import listed, styles_of
from edgeline_bench.report import Report

_VALID = "Enough rounds were measured, and the machine was quiet and steady meanwhile."
_INVALID = "Its figures should not be relied on:"
_LONG = 12  # rows
_LEGEND = (
    "p50, p90, p99: the time within which so many per cent of the calls were answered. eager / this: how many times as "
    "fast as eager PyTorch at the same batch size."
)


def page_from_report(report: Report) -> str:
    """Return the whole page."""
    drawn = plots.all_plots(report)
    sections = [section for section in _sections(report, drawn) if section[2]]
    title = f"Benchmark of {listed(styles_of(report).networks.values())}"
    return page_parts.page(title, _header(report, title), sections, drawn.values())


def _header(report: Report, title: str) -> str:
    machine, protocol = report["fingerprint"], report["protocol"]
    where = machine["gpu"] if protocol.get("device") == "cuda" and machine["gpu"] else machine["cpu"]
    threads = units.counted(protocol["threads"], "thread")
    facts = f"{where}, {threads}, {protocol['rounds']} rounds, {page_parts.date(report['created'])}"
    verdict = page_parts.verdict_block(
        "VALID" if report["valid"] else "INVALID",
        report["invalid_reasons"],
        good=report["valid"],
        meaning=_VALID if report["valid"] else _INVALID,
    )
    return page_parts.header_block("Edgeline benchmark", title, facts) + verdict


def _sections(report: Report, drawn: dict[str, page_parts.Plot]) -> list[tuple[str, str, str]]:
    """Return name, title and content of each section; one without content is left out."""
    block, table = page_parts.plot_block, page_parts.table_block
    headlines = list(dict.fromkeys(tables.headlines(report)))
    scenarios = tables.scenario_table(report)
    return [
        ("summary", "In short", page_parts.list_block(headlines, "headline")),
        ("words", "In words", page_parts.words_block(report["words"]) if report.get("words") else ""),
        ("choice", "What to choose", block(drawn["pareto"]) + _left_out(report)),
        ("bounds", "What bounds it", block(drawn["roofline-networks"]) + block(drawn["roofline"])
         + block(drawn["layers"]) + _layer_tables(report)),
        ("speed", "Latency and throughput", block(drawn["latency"])
         + page_parts.pair_block(drawn["throughput"], drawn["memory-batch"])
         + _latency_table(report) + (table(scenarios) if scenarios.cells else "")),
        ("footprint", "Start and memory", page_parts.pair_block(drawn["start"], drawn["memory-stages"])
         + _long_table(tables.start_table(report)) + _long_table(instrument_tables.memory_table(report))),
        ("machine", "The machine", _ceilings(report) + page_parts.pair_block(drawn["sweep"], drawn["steadiness"])
         + table(tables.facts_table(report), "facts")),
    ]  # fmt: skip


def _left_out(report: Report) -> str:
    table = tables.left_out_table(report)
    return page_parts.table_block(table) if table.cells else ""


def _latency_table(report: Report) -> str:
    table = tables.latency_table(report)
    return f'{page_parts.table_block(table)}<p class="note">{html.escape(_LEGEND)}</p>' if table.cells else ""


def _layer_tables(report: Report) -> str:
    light = instrument_tables.light_table(report)
    shown = _long_table(light) if light.cells else ""
    listed_layers = "".join(page_parts.table_block(table) for table in instrument_tables.layers_tables(report))
    return shown + (page_parts.folded_block("Every layer, as a table", listed_layers) if listed_layers else "")


def _long_table(table: tables.Table) -> str:
    """A table, folded away where it is too long to read past on the way to what follows."""
    block = page_parts.table_block(table)
    summary = f"{table.title}: {len(table.cells)} rows"
    return page_parts.folded_block(summary, block) if len(table.cells) > _LONG else block


def _ceilings(report: Report) -> str:
    table = instrument_tables.ceilings_table(report)
    return (
        page_parts.table_block(table) if table.cells else f'<p class="absent">{html.escape(plots.roofline.ABSENT)}</p>'
    )
