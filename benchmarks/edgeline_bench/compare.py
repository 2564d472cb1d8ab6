"""Two reports held against each other: first whether they may be, then row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeline.errors import NotComparableError
from edgeline_bench import figures
from edgeline_bench.report import Report

# What a claim must exceed even when rounds hardly spread: a process keeps its memory layout for all its rounds, so two
# runs of the same thing differ by more than the rounds of one. docs/measuring.md has the experiment.
NOISE_FLOOR = 0.05
_HOST_KEYS = ("cpu", "machine", "usable_cores", "isa", "memory_bytes", "gpu")
_PROTOCOL_KEYS = ("mode", "threads", "pinned", "device", "slot_s")

RowKey = tuple[str, str, str, str, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a comparison."""

    key: RowKey
    old_s: float
    new_s: float
    verdict: figures.Verdict


def compare(old: Report, new: Report, noise: float = NOISE_FLOOR) -> list[Row]:
    """Compare two reports row by row; differences within `noise` (a share, default NOISE_FLOOR) are none.

    Raises NotComparableError, with every difference, when they must not be compared.
    """
    differences = differences_of(old, new)
    if differences:
        raise NotComparableError("the reports are not comparable: " + "; ".join(differences))
    rows_old, rows_new = _rows(old), _rows(new)
    rows = []
    for key, result in rows_old.items():
        before, after = _relative(old, result), _relative(new, rows_new[key])
        verdict = figures.verdict(before, after, noise)
        rows.append(Row(key, result["latency_s"]["p50"], rows_new[key]["latency_s"]["p50"], verdict))
    return rows


def differences_of(old: Report, new: Report) -> list[str]:
    """Return, in words, every difference that forbids a comparison; versions of packages are what one may compare."""
    found = [
        f"{section} {key}: {old[section].get(key)} and {new[section].get(key)}"
        for section, keys in (("fingerprint", _HOST_KEYS), ("protocol", _PROTOCOL_KEYS))
        for key in keys
        if old[section].get(key) != new[section].get(key)
    ]
    kernels = [report["reference_kernel"]["name"] for report in (old, new)]
    if kernels[0] != kernels[1]:
        found.append(f"reference kernel: {kernels[0]} and {kernels[1]}")
    rows_old, rows_new = _rows(old), _rows(new)
    for title, one, other in (("old", rows_old, rows_new), ("new", rows_new, rows_old)):
        found += [f"only the {title} report has {row_title(key)}" for key in one if key not in other]
    for key in rows_old.keys() & rows_new.keys():
        if rows_old[key]["graph_sha256"] != rows_new[key]["graph_sha256"]:
            found.append(f"{row_title(key)} ran another graph")
    return sorted(found)


def row_title(key: RowKey) -> str:
    """Return a row's name as people read it."""
    engine, artefact, precision, scenario, batch = key
    return f"{engine} {artefact} {precision} {scenario} batch {batch}"


def _rows(report: Report) -> dict[RowKey, Mapping[str, Any]]:
    return {(r["engine"], r["artefact"], r["precision"], r["scenario"], r["batch"]): r for r in report["results"]}


def _relative(report: Report, result: Mapping[str, Any]) -> list[float]:
    """Return the rounds' medians as multiples of the reference kernel's time in the same round."""
    medians = np.asarray(result["round_medians_s"]) / np.asarray(report["reference_kernel"]["round_medians_s"])
    return [float(value) for value in medians]
