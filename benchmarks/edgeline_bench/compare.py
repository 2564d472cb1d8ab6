"""Reports held against the first of them, row by row: first whether they may be, then what became of each row.

Times are compared as multiples of the reference kernel in the same round, so that a machine that slowed down between
two runs does not count against an engine. Across hosts they are raw: there the machine's speed is the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeline.errors import NotComparableError
from edgeline_bench.comparable import RowKey, differences_of, host_differences, row_title, rows_by_key
from edgeline_bench.report import Report
from edgeline_bench.tables import rate_text
from edgeline_bench.verdicts import Verdict, verdicts

_SERVER = "server"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of one report against the base's: their medians in seconds, and the verdict."""

    key: RowKey
    old_s: float
    new_s: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several reports, the first of which is the base. `rows` has an entry for each other one, in the base's order.

    `notes` is what a reader must know besides: INVALID reports, other versions, other hosts.
    """

    names: tuple[str, ...]
    reports: tuple[Report, ...]
    rows: tuple[tuple[Row, ...], ...]
    across_hosts: bool
    notes: tuple[str, ...]


def compare_all(
    names: Sequence[str], reports: Sequence[Report], noise: float | None = None, across_hosts: bool = False
) -> Comparison:
    """Compare each report with the first. Raises NotComparableError, with every difference of every one of them."""
    base, others = reports[0], reports[1:]
    refused = []
    for name, other in zip(names[1:], others, strict=True):
        prefix = f"{name}: " if len(others) > 1 else ""
        refused += [prefix + difference for difference in differences_of(base, other, across_hosts)]
    if refused:
        raise NotComparableError("the reports are not comparable: " + "; ".join(refused))
    rows = tuple(tuple(compare(base, other, noise, across_hosts)) for other in others)
    return Comparison(tuple(names), tuple(reports), rows, across_hosts, tuple(_notes(names, reports, across_hosts)))


def compare(old: Report, new: Report, noise: float | None = None, across_hosts: bool = False) -> list[Row]:
    """Compare two reports row by row; `noise` is that of edgeline_bench.verdicts.

    A server's rows are not judged: each ran at the rate that its own search found, and latencies at two rates do not
    compare. Raises NotComparableError, with every difference, when they must not be compared.
    """
    differences = differences_of(old, new, across_hosts)
    if differences:
        raise NotComparableError("the reports are not comparable: " + "; ".join(differences))
    before, after = rows_by_key(old), rows_by_key(new)
    judged = [key for key in before if key[3] != _SERVER]
    if not judged:
        told = "; ".join(_server_notes("the old report", old, "the new one", new))
        raise NotComparableError(f"there is nothing to judge, as all rows are of scenario server: {told}")
    machine = 0.0 if across_hosts else machine_change(old, new)
    rounds = [
        (_rounds(old, before[key], across_hosts), _rounds(new, after[key], across_hosts)) for key in judged
    ]  # fmt: skip
    return [
        Row(key, before[key]["latency_s"]["p50"], after[key]["latency_s"]["p50"], verdict)
        for key, verdict in zip(judged, verdicts(rounds, noise, machine), strict=True)
    ]


def machine_change(old: Report, new: Report) -> float:
    """Return the share by which the reference kernel's time differs between two reports.

    Where a neighbour on the host slowed the kernel by a fifth, engines were slower by two fifths to a half: dividing by
    it takes a part of such a change away, and what remains is about as large as the kernel's own (docs/measuring.md).
    """
    before, after = (float(np.median(report["reference_kernel"]["round_medians_s"])) for report in (old, new))
    return max(before, after) / min(before, after) - 1


def _rounds(report: Report, result: Mapping[str, Any], raw: bool) -> list[float]:
    """Return the medians of a row's rounds, in seconds or as multiples of the reference kernel's in the same round."""
    medians = np.asarray(result["round_medians_s"])
    reference = 1.0 if raw else np.asarray(report["reference_kernel"]["round_medians_s"])
    return [float(value) for value in medians / reference]


def _server_notes(base_name: str, base: Report, name: str, report: Report) -> list[str]:
    """Tell the rates of server rows side by side."""
    before, after = rows_by_key(base), rows_by_key(report)
    return [
        f"{row_title(key)}: {rate_text(before[key]['server'])} in {base_name}, {rate_text(after[key]['server'])} in "
        f"{name}; rates are told, not judged"
        for key in before
        if key[3] == _SERVER and before[key].get("server") and after[key].get("server")
    ]


def _notes(names: Sequence[str], reports: Sequence[Report], across_hosts: bool) -> list[str]:
    notes = [
        f"{name} is INVALID, take what follows with care: {'; '.join(report['invalid_reasons'])}"
        for name, report in zip(names, reports, strict=True)
        if not report["valid"]
    ]
    notes += [
        f"{name} was slowed on purpose, by {report['protocol']['slowdown']:.0%}"
        for name, report in zip(names, reports, strict=True)
        if report["protocol"].get("slowdown")
    ]
    for name, report in zip(names[1:], reports[1:], strict=True):
        notes += _server_notes(names[0], reports[0], name, report)
        before, after = reports[0]["fingerprint"]["versions"], report["fingerprint"]["versions"]
        notes += [
            f"{package}: {before.get(package, 'absent')} in {names[0]}, {after.get(package, 'absent')} in {name}"
            for package in sorted(before.keys() | after.keys())
            if before.get(package) != after.get(package)
        ]
        if across_hosts:
            differing = host_differences(reports[0], report) or ["the fingerprints show no difference"]
            notes += [f"hosts of {names[0]} and {name}: {difference}" for difference in differing]
    return notes
