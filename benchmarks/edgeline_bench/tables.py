"""A report as tables of text: made once, for the terminal, the Markdown and the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeline_bench import figures, units
from edgeline_bench.clock import FAST_CALL_S
from edgeline_bench.percentiles import MIN_SAMPLES, percentile_name
from edgeline_bench.report import Report

_GPU_STAGES = {"enqueue_s": "enqueue", "compute_s": "compute", "end_to_end_s": "end to end"}


@dataclass(frozen=True, slots=True)
class Table:
    """A heading and cells of text. The first `left` columns are words, the others figures."""

    title: str
    heading: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    left: int
    note: str = ""


def main_results(report: Report) -> list[dict[str, Any]]:
    """Return the rows of the scenario that most tables and plots show: single-stream, or else the first."""
    results: list[dict[str, Any]] = report["results"]
    scenarios = [r["scenario"] for r in results]
    main = "single-stream" if "single-stream" in scenarios else scenarios[0]
    return [r for r in results if r["scenario"] == main]


def latency_table(report: Report) -> Table:
    """Latency percentiles of single-stream, throughput and the ratio to eager at the same batch size.

    Medians of a GPU's stages stand beside them where some row has them.
    """
    rows = [r for r in report["results"] if r["scenario"] == "single-stream"]
    stages = _GPU_STAGES if any(r.get("gpu_stages") for r in rows) else {}
    heading = ("engine", "artefact", "batch", "p50", "p90", "p99", *stages.values(), "throughput", "eager / this")
    cells = tuple(
        (
            r["engine"], r["artefact"], str(r["batch"]), units.seconds(r["latency_s"]["p50"]) + _harness_text(r),
            *(units.seconds(r["latency_s"][key]) for key in ("p90", "p99")),
            *(units.seconds(_stage_s(r, stage)) for stage in stages),
            units.rate(r["throughput_per_s"]), _ratio_text(speedup(report, r)),
        )
        for r in rows
    )  # fmt: skip
    notes = [text for text in (_withheld_text(rows),) if text]
    if any(_harness_text(r) for r in rows):
        notes.append("In brackets: the harness's own share of the median (clock and Python), for calls below 50 us.")
    notes += [f"{name} is {precision} by its graph; here it was computed in {used}."
              for name, precision, used in dict.fromkeys(
                  (r["artefact"], r["precision"], arithmetic(r)) for r in report["results"]
                  if arithmetic(r) != r["precision"])]  # fmt: skip
    if stages:
        notes.append("Enqueue, compute and end to end: medians of calls timed apart, which need not add up.")
    if {r["device"] for r in report["results"]} == {"cpu", "cuda"}:
        notes.append("Rows on the GPU have no ratio to eager PyTorch, which ran on the CPU.")
    note = "\n".join(notes)
    return Table("Latency and throughput", heading, cells, 2, note)


def scenario_table(report: Report) -> Table:
    """The other scenarios: latency of a query, throughput, a server's rate; and what LoadGen said."""
    rows = [r for r in report["results"] if r["scenario"] != "single-stream" or r.get("mlperf")]
    shown = {
        title: text
        for title, text in (("server's rate", _server_text), ("LoadGen", _mlperf_text))
        if any(text(r) for r in rows)
    }
    heading = ("engine", "artefact", "scenario", "batch", "p50", "p90", "p99", "throughput", *shown)
    cells = tuple(
        (
            r["engine"], r["artefact"], r["scenario"], str(r["batch"]),
            *(units.seconds(r["latency_s"][key]) for key in ("p50", "p90", "p99")),
            units.rate(r["throughput_per_s"]), *(text(r) for text in shown.values()),
        )
        for r in rows
    )  # fmt: skip
    notes = [text for text in (_withheld_text([r for r in rows if r["scenario"] != "offline"]),) if text]
    notes += [f"{r['engine']} {r['artefact']} {r['scenario']}: LoadGen's run is not compliant with MLPerf's rules: "
              f"{'; '.join(r['mlperf']['why_not_compliant'])}."
              for r in rows if r.get("mlperf") and not r["mlperf"]["compliant"]]  # fmt: skip
    return Table("Scenarios", heading, cells, 3, "\n".join(notes))


def _server_text(result: dict[str, Any]) -> str:
    server = result.get("server")
    if not server:
        return ""
    return rate_text(server)


def rate_text(server: dict[str, Any]) -> str:
    """Say at which rate a server ran, by which bound it was found, and whether the rounds held that."""
    rate = units.rate(server["rate_per_s"])
    bound = f" for p99 within {units.seconds(server['latency_bound_s'])}" if server["latency_bound_s"] else ""
    origin = "given" if server["given"] else "found" if server["resolved"] else "found so far"
    held = {True: ": held", False: ": NOT held in the rounds", None: ""}[server["held"]]
    return f"{rate} {origin}{bound}{held}"


def _mlperf_text(result: dict[str, Any]) -> str:
    record = result.get("mlperf")
    if not record:
        return ""
    stamp = "" if record["compliant"] else ", NON-COMPLIANT"
    if not record["metric"]:
        return "it did not come to its end"
    (name, value), *_ = record["metric"].items()
    shown = units.rate(value) if name.endswith("per_s") else f"{name.removesuffix('_s')} {units.seconds(value)}"
    return f"{'VALID' if record['valid'] else 'INVALID'}{stamp}: {shown}"


def _withheld_text(rows: Sequence[dict[str, Any]]) -> str:
    withheld = [p for p in (50, 90, 99) if any(r["latency_s"][percentile_name(p)] is None for r in rows)]
    fewest = min((len(r["samples_s"]) for r in rows), default=0)
    needs = ", ".join(f"p{p} needs {MIN_SAMPLES[p]} calls" for p in withheld)
    return f"Withheld (-): {needs}; the fewest in a row were {fewest}." if needs else ""


def _harness_text(result: dict[str, Any]) -> str:
    """Say what share the harness has of a median that is short enough for it to matter."""
    overhead, median = result.get("clock_overhead_s"), result["latency_s"]["p50"]
    return f" ({overhead / median:.1%})" if overhead and median < FAST_CALL_S else ""


def start_table(report: Report) -> Table:
    """Process start to first logits, resident memory, size and accuracy."""
    rows = main_results(report)
    disk = {
        title: key
        for title, key in (("of it read", "deployed_bytes"), ("engine's package", "engine_bytes"))
        if any(row.get(key) is not None for row in rows)
    }
    heading = ("engine", "artefact", "batch", "import", "load", "first call", "start to logits", "memory loaded",
               "peak memory", "size", *disk, "accuracy")  # fmt: skip
    cells = tuple(
        (
            r["engine"], r["artefact"], str(r["batch"]),
            *(units.seconds(r["cold_start_s"][key]) for key in ("import", "load", "first")),
            units.seconds(start_s(r)),
            units.megabytes(r["memory_bytes"]["load"]), units.megabytes(r["memory_bytes"]["peak"]),
            units.megabytes(r["artefact_bytes"]), *(units.megabytes(r.get(key)) for key in disk.values()),
            "-" if r["accuracy"] is None else f"{r['accuracy']:.4f}",
        )
        for r in rows
    )  # fmt: skip
    note = "Each row is a process of its own."
    if disk:
        note += (
            " Of an artefact the engine reads one file or two; the rest is for rebuilding and checking. The package is "
            "the engine's own as installed here, without what it depends on."
        )
    return Table("Start, memory and size", heading, cells, 2, note)


def left_out_table(report: Report) -> Table:
    """The forms that were wanted and could not be measured, with the reason of each."""
    cells = tuple((form["format"], form["precision"], form["why"]) for form in report.get("left_out") or ())
    return Table("Left out", ("format", "precision", "why"), cells, 3)


def _stage_s(result: dict[str, Any], stage: str) -> float | None:
    """The median of a stage of a call on a GPU; None for a row that has none."""
    stages = result.get("gpu_stages")
    return stages[stage]["p50"] if stages else None


def _cores_text(pinned: Sequence[int]) -> str:
    return f"on core{'s' * (len(pinned) != 1)} {', '.join(map(str, pinned))}" if pinned else "on any core"


def start_s(result: dict[str, Any]) -> float:
    """Reports of schema 1 have no total."""
    start = result["cold_start_s"]
    return float(start["total"] if "total" in start else sum(start.values()))


def facts_table(report: Report) -> Table:
    """The machine and the protocol."""
    machine, protocol = report["fingerprint"], report["protocol"]
    spread = figures.relative_spread(report["reference_kernel"]["round_medians_s"])
    facts = (
        ("cpu", f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores usable"),
        ("isa", " ".join(machine["isa"]) or "-"),
        ("memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB"),
        ("gpu", machine["gpu"] or "none"),
        ("system", f"{machine['os']}, Python {machine['python']}"),
        ("governor", machine["governor"] or "not readable here"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())),
        ("load average before", f"{machine['load_average']:.2f}"),
        ("protocol", f"mode {protocol['mode']}, {protocol['rounds']} interleaved rounds of {protocol['slot_s']:.3g} s, "
                     f"{units.counted(protocol['threads'], 'thread')} {_cores_text(protocol['pinned'])}"),
        ("clock", f"adds {units.seconds(protocol['clock_overhead_s'])} to each call"),
        ("reference kernel", f"{report['reference_kernel']['name']}; spread between rounds {spread:.1%}"),
        ("other processes", "not readable here" if protocol["foreign_load"] is None
         else f"used {protocol['foreign_load']:.1%} of a core meanwhile"),
        ("created", report["created"]),
    )  # fmt: skip
    return Table("Machine and protocol", ("what", "found"), facts, 2)


def headlines(report: Report) -> list[str]:
    """Say in a sentence for each artefact what it gains over eager PyTorch at the smallest batch measured."""
    lines = []
    rows = [r for r in report["results"] if r["scenario"] == "single-stream"]
    smallest = min((r["batch"] for r in rows), default=0)
    for result in rows:
        ratio = speedup(report, result)
        if ratio is not None and result["batch"] == smallest:
            lines.append(
                f"{result['artefact']} on {result['engine']} answers in {units.seconds(result['latency_s']['p50'])} "
                f"(median, batch {smallest}): {ratio:.1f} times as fast as eager PyTorch "
                f"on {units.counted(result['threads'], 'thread')}"
                f"{'' if arithmetic(result) == result['precision'] else f', computed in {arithmetic(result)}'}."
            )
    return lines


def verdict_line(report: Report) -> str:
    """Say in one line whether the report is VALID, and if not, why."""
    return "VALID" if report["valid"] else "INVALID: " + "; ".join(report["invalid_reasons"])


def arithmetic(result: dict[str, Any]) -> str:
    """Return what a row was computed in; reports of before it was told computed in their precision."""
    return str(result.get("arithmetic", result["precision"]))


def speedup(report: Report, result: dict[str, Any]) -> float | None:
    """Return eager's median time over this row's, at the same batch size and on the same device; None without one."""
    if result["engine"] == "eager":
        return None
    for other in report["results"]:
        same = ("source", "batch", "scenario")
        if (
            other["engine"] == "eager"
            and other["device"] == result["device"]
            and all(other[key] == result[key] for key in same)
        ):
            return float(other["latency_s"]["p50"] / result["latency_s"]["p50"])
    return None


def plain_text(table: Table) -> str:
    """Lay a table out in columns for a terminal."""
    lines = [table.heading, *table.cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.heading))]
    text = [_plain_line(line, widths, table.left) for line in lines]
    return "\n".join([*text, *([table.note] if table.note else [])])


def markdown(table: Table) -> str:
    """Write a table in Markdown, with its title and note."""
    rule = ["---" if i < table.left else "---:" for i in range(len(table.heading))]
    lines = [f"## {table.title}", "", *(f"| {' | '.join(line)} |" for line in (table.heading, rule, *table.cells))]
    note = table.note.replace("\n", "\n\n")  # a line of its own each, which takes a blank one in Markdown
    return "\n".join([*lines, *(["", note] if note else []), ""])


def _plain_line(line: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = (
        cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def _ratio_text(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
