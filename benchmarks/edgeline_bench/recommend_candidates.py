"""What may be recommended: the rows of one network in one or several reports, each with what it is judged by.

Rows of several reports are ranked as multiples of the reference kernel, as compare-reports holds them: a row's rounds
are divided by the kernel's in the same round, and its figures in seconds are scaled to the first report's kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeline.errors import InputError
from edgeline_bench.comparable import RowKey, row_title, rows_by_key
from edgeline_bench.report import Report
from edgeline_train.data.datasets import DATASETS

_SCENARIOS = ("single-stream", "offline")


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A row of a report, and what its report says of it.

    `report` counts the reports from 0. `kernel_s` is the median of its reference kernel, `scale` the first report's
    over that. `rounds` are its rounds' medians a sample, as multiples of the kernel in the same round. `reference` is
    the accuracy that its drop is held against, None where it is not known.
    """

    row: Mapping[str, Any]
    report: int
    kernel_s: float
    scale: float
    rounds: tuple[float, ...]
    reference: float | None

    @property
    def title(self) -> str:
        """Engine and artefact, which tell a form from the others."""
        return f"{self.row['engine']} {self.row['artefact']}"

    @property
    def batch(self) -> int:
        """Samples in a call."""
        return int(self.row["batch"])

    @property
    def p50_s(self) -> float:
        """The median as it was measured, in seconds."""
        return float(self.row["latency_s"]["p50"])

    @property
    def throughput_per_s(self) -> float:
        """Samples a second, as measured."""
        return float(self.row["throughput_per_s"])

    @property
    def peak_bytes(self) -> int | None:
        """The most that its process held in memory; None where that could not be read."""
        peak = self.row["memory_bytes"].get("peak")
        return None if peak is None else int(peak)

    @property
    def size_bytes(self) -> int | None:
        """What a device must hold of the artefact; in reports that do not tell it, the whole artefact's size."""
        size = self.row.get("deployed_bytes")
        size = self.row["artefact_bytes"] if size is None else size
        return None if size is None else int(size)

    @property
    def engine_bytes(self) -> int | None:
        """The installed size of the engine's own package; None where the report does not tell it."""
        size = self.row.get("engine_bytes")
        return None if size is None else int(size)

    @property
    def light_s(self) -> float | None:
        """The least time of the network here, warm, for a call of its batch; None without a roofline."""
        light = (self.row["speed_of_light_s"] or {}).get("warm")
        return float(light) if light else None

    @property
    def drop(self) -> float | None:
        """Accuracy lost against the reference; None where either is not known."""
        accuracy = self.row["accuracy"]
        return None if accuracy is None or self.reference is None else self.reference - float(accuracy)


def network_name(row: Mapping[str, Any]) -> str:
    """Return the network's name in a row: that of its artefact, without precision, format and target.

    Eager's artefact is the network; two networks of one name have a part of their weights' hash behind an `@`.
    """
    name = str(row["artefact"]).partition("@")[0]
    return name if row["engine"] == "eager" else name.rsplit(".", 2)[0]


def is_of(model: str, row: Mapping[str, Any]) -> bool:
    """Say whether a row is of the network that a user calls `model`: with or without its data set's name."""
    name = network_name(row)
    first = str(row["artefact"]).partition(".")[0]
    return model in (name, first) or any(name == f"{model}-{dataset}" for dataset in DATASETS)


def rows_of(report: Report, model: str, threads: int | None = None) -> list[Mapping[str, Any]]:
    """Return a report's rows of a network in the scenarios that are ranked, and with so many `threads`."""
    return [
        row
        for row in report["results"]
        if row["scenario"] in _SCENARIOS and is_of(model, row) and threads in (None, row["threads"])
    ]


def candidates_of(
    reports: Sequence[Report], model: str, threads: int | None = None
) -> tuple[list[Candidate], list[str]]:
    """Return the rows of a network, and notes on what a reader must know of them; the reports may be ranked together.

    A row that several reports hold is taken from the one that was made last. Raises InputError where `model` fits
    networks of several names: on other data they are no forms of the same thing.
    """
    taken, notes = _latest_rows(reports, model, threads)
    if len(reports) > 1:
        notes.append(
            "times of several reports are ranked as multiples of the reference kernel; those shown are as measured"
        )
    names = sorted({network_name(row) for _, row in taken})
    if model in names:
        taken, names = [(index, row) for index, row in taken if network_name(row) == model], [model]
    if len(names) > 1:
        raise InputError(f"'{model}' fits several networks that were measured: {', '.join(names)}; name one of them")
    everything = [row for report in reports for row in report["results"]]
    references = {source: _reference_of(source, everything) for source in sorted({row["source"] for _, row in taken})}
    known = [reference for reference in references.values() if reference is not None]
    if len(references) > 1:
        notes.append(
            f"{names[0]} was measured with {len(references)} different sets of weights: each row's drop is held "
            f"against the best of them{f', {max(known):.4f}' if known else ''}"
        )
    reference = max(known) if len(known) == len(references) and known else None
    kernels = [np.asarray(report["reference_kernel"]["round_medians_s"]) for report in reports]
    medians = [float(np.median(kernel)) for kernel in kernels]
    candidates = [
        Candidate(
            row,
            index,
            medians[index],
            medians[0] / medians[index],
            tuple(float(value) for value in np.asarray(row["round_medians_s"]) / kernels[index] / row["batch"]),
            reference,
        )
        for index, row in taken
    ]
    return candidates, notes


def _latest_rows(
    reports: Sequence[Report], model: str, threads: int | None
) -> tuple[list[tuple[int, Mapping[str, Any]]], list[str]]:
    """Return each row once, with the number of its report, and a note on each that was there twice."""
    order = sorted(range(len(reports)), key=lambda index: str(reports[index]["created"]))
    found: dict[RowKey, tuple[int, Mapping[str, Any]]] = {}
    twice: dict[RowKey, None] = {}
    for index in order:
        wanted = [id(row) for row in rows_of(reports[index], model, threads)]
        for key, row in rows_by_key(reports[index]).items():
            if id(row) in wanted:
                twice |= {key: None} if key in found else {}
                found[key] = (index, row)
    notes = [
        f"{row_title(key)} is in several reports: that of {reports[found[key][0]]['created']} counts" for key in twice
    ]
    return list(found.values()), notes


def _reference_of(source: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the accuracy of a source: what the exports say of it, else its eager row's; None where neither does."""
    own = [row for row in rows if row["source"] == source]
    told = [row.get("accuracy_reference") for row in own] + [row["accuracy"] for row in own if row["engine"] == "eager"]
    known = [float(accuracy) for accuracy in told if accuracy is not None]
    return max(known) if known else None
