"""A comparison as tables of text, as Markdown and as a record for JSON; the page takes its tables from here."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edgeline_bench import tables, units
from edgeline_bench.compare import Comparison, Row
from edgeline_bench.tables import Table
from edgeline_bench.verdicts import MIN_ROUNDS, Verdict

# History of the schema of `--json`:
# 1  2026-11  the first with one; before it, a bare list of rows
SCHEMA_VERSION = 1
ACROSS_HOSTS = (
    "Across hosts: raw times, not divided by the reference kernel. A ratio says how the hosts differ, with all that "
    "runs on them, and not how the software does."
)
_HOW = (
    "Ratio: new over old{divided}; its interval is the bootstrap over rounds. p: Mann-Whitney, after Holm's correction "
    "over the rows. Slower and faster: p below 0.05 and a ratio beyond the noise."
)


def summary(comparison: Comparison) -> list[str]:
    """Say in a sentence for each report what became of its rows; across hosts, say so first."""
    lines = [ACROSS_HOSTS] if comparison.across_hosts else []
    invalid = [n for n, report in zip(comparison.names, comparison.reports, strict=True) if not report["valid"]]
    lines += [f"INVALID, so take the verdicts with care: {', '.join(invalid)}."] if invalid else []
    for name, rows in zip(comparison.names[1:], comparison.rows, strict=True):
        counts = Counter(row.verdict.word for row in rows)
        words = ", ".join(f"{counts[word]} {word}" for word in ("slower", "faster", "same", "withheld") if counts[word])
        lines.append(f"{name} against {comparison.names[0]}: of {len(rows)} row{'s' * (len(rows) != 1)}, {words}.")
    return lines


def all_tables(comparison: Comparison) -> list[Table]:
    """Return the tables in reading order: of more than two reports, first all side by side."""
    found = [side_by_side(comparison)] if len(comparison.names) > 2 else []
    return found + [pair_table(comparison, index) for index in range(len(comparison.rows))]


def pair_table(comparison: Comparison, index: int) -> Table:
    """Return all figures of one report against the base."""
    rows, name = comparison.rows[index], comparison.names[index + 1]
    heading = ("engine", "artefact", "scenario", "batch", "old p50", "new p50", "ratio", "95 % interval", "p", "noise",
               "verdict")  # fmt: skip
    cells = tuple(
        (
            row.key[0], row.key[1], row.key[3], str(row.key[4]), units.seconds(row.old_s), units.seconds(row.new_s),
            f"{row.verdict.ratio:.3f}", interval_text(row.verdict), _p_text(row.verdict),
            "-" if row.verdict.noise is None else f"{row.verdict.noise:.1%}", verdict_text(row.verdict),
        )
        for row in rows
    )  # fmt: skip
    how = _HOW.format(divided="" if comparison.across_hosts else ", each divided by the reference kernel")
    label = "Across hosts: " if comparison.across_hosts else ""
    return Table(f"{label}{name} against {comparison.names[0]}", heading, cells, 3, how)


def side_by_side(comparison: Comparison) -> Table:
    """Return a column per report: the base's medians, and each other one's with its ratio and verdict."""
    base, *others = comparison.names
    cells = []
    for index, row in enumerate(comparison.rows[0]):
        same_row = [rows[index] for rows in comparison.rows]
        figures = [f"{units.seconds(r.new_s)}, {r.verdict.ratio:.3f} {r.verdict.word}" for r in same_row]
        cells.append((row.key[0], row.key[1], row.key[3], str(row.key[4]), units.seconds(row.old_s), *figures))
    title = f"{'Across hosts: ' if comparison.across_hosts else ''}All reports"
    heading = ("engine", "artefact", "scenario", "batch", f"{base} p50", *(f"{name} p50, ratio" for name in others))
    return Table(title, heading, tuple(cells), 3, f"Each ratio is to {base}.")


def verdict_text(verdict: Verdict) -> str:
    """Return the verdict's word; of one that is withheld, also what it would take."""
    if verdict.word != "withheld":
        return verdict.word
    return f"withheld: {verdict.rounds} round{'s' * (verdict.rounds != 1)}, it takes {MIN_ROUNDS}"


def interval_text(verdict: Verdict) -> str:
    """Return the interval, `-` for none."""
    return "-" if verdict.ci95 is None else f"{verdict.ci95[0]:.3f} to {verdict.ci95[1]:.3f}"


def plain_text(comparison: Comparison) -> str:
    """Lay the comparison out for a terminal: of more than two reports, only side by side."""
    return "\n\n".join([tables.plain_text(all_tables(comparison)[0]), "\n".join(summary(comparison))])


def markdown(comparison: Comparison) -> str:
    """Return the whole comparison as Markdown."""
    parts = ["# Edgeline comparison", "", *(f"{line}\n" for line in summary(comparison))]
    parts += [f"- {line}" for line in comparison.notes]
    parts += [""] if comparison.notes else []
    parts += [tables.markdown(table) for table in all_tables(comparison)]
    return "\n".join([*parts, *(f"{line}\n" for line in roofline_lines(comparison))])


def record(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "across_hosts": comparison.across_hosts,
        "divided_by_reference_kernel": not comparison.across_hosts,
        "base": comparison.names[0],
        "summary": summary(comparison),
        "notes": list(comparison.notes),
        "comparisons": [
            {"report": name, "rows": [_row_record(row) for row in rows]}
            for name, rows in zip(comparison.names[1:], comparison.rows, strict=True)
        ],
    }


def roofline_lines(comparison: Comparison) -> list[str]:
    """Say of which reports the roofline was not measured, and of which no layer is placed under it."""
    lines = []
    for name, report in zip(comparison.names, comparison.reports, strict=True):
        if report["roofline"] is None:
            lines.append(f"Roofline of {name}: not measured.")
        elif not any(layer["placed"] for result in report["results"] for layer in result["layers"]):
            lines.append(f"Roofline of {name}: its ceilings were measured, but no layer was placed under them.")
    return lines


def _row_record(row: Row) -> dict[str, Any]:
    engine, artefact, precision, scenario, batch = row.key
    verdict = row.verdict
    return {
        "engine": engine, "artefact": artefact, "precision": precision, "scenario": scenario, "batch": batch,
        "old_s": row.old_s, "new_s": row.new_s, "ratio": verdict.ratio, "ci95": verdict.ci95,
        "p_value": verdict.p_value, "noise": verdict.noise, "rounds": verdict.rounds, "rounds_needed": MIN_ROUNDS,
        "verdict": verdict.word,
    }  # fmt: skip


def _p_text(verdict: Verdict) -> str:
    if verdict.p_value is None:
        return "-"
    return "< 0.001" if verdict.p_value < 0.001 else f"{verdict.p_value:.3f}"
