"""Which reports a recommendation rests on: those that were named, or this device's newest on the network.

An INVALID report is refused, and so is one of another device: measured there, it says nothing of here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeline.command import note
from edgeline.errors import InputError, NotComparableError, UnknownNameError
from edgeline_bench import units
from edgeline_bench.comparable import device_differences, ranking_differences
from edgeline_bench.recommend_candidates import network_name, rows_of
from edgeline_bench.report import Report, read_report
from edgeline_train.data.datasets import DATASETS
from edgeline_train.models import MODELS

DEFAULT_FOLDER = Path("reports")  # where benchmark-model writes


@dataclass(frozen=True, slots=True)
class Source:
    """A report, and where it lies."""

    path: Path
    report: Report


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: a network, a number of threads (None: any), and whether another device's figures will do.

    `here` is the fingerprint of this machine.
    """

    model: str
    threads: int | None
    across_hosts: bool
    here: Mapping[str, Any]


def sources_of(paths: Sequence[Path], wanted: Wanted) -> list[Source]:
    """Return the reports to recommend from; without `paths` the newest of this device, which is said on stderr.

    Raises InputError when there is none, or one is INVALID, of another device or without the network, and
    NotComparableError where several may not be ranked together. Each message names the command that measures.
    """
    older: Sequence[Source] = ()
    if paths:
        chosen = [Source(path, read_report(path)) for path in dict.fromkeys(paths)]
        _check_rows(chosen, wanted)
    else:
        newest, *older = _found(wanted)
        note(f"the newest report on {wanted.model}: {newest.path}, of {newest.report['created']}")
        chosen = [newest]
    for source in chosen:
        _check_device(source, wanted)
    for source in chosen:
        reason = _unfit(source.report)
        if reason:
            reasons = source.report["invalid_reasons"]
            for line in reasons if len(reasons) > 1 else ():
                note(f"{source.path} is INVALID: {line}")
            raise InputError(_refusal(source, reason, older, wanted))
    for other in chosen[1:]:
        found = ranking_differences(chosen[0].report, other.report)
        if found:
            raise NotComparableError(
                f"{chosen[0].path} and {other.path} may not be ranked together: {'; '.join(found)}; name one of "
                f"them, or measure all in one run: {measuring_line(wanted)}"
            )
    return chosen


def measuring_line(wanted: Wanted) -> str:
    """Return the command that measures every form of the network here."""
    registered = registered_network(wanted.model)
    threads = f" --threads {wanted.threads}" if wanted.threads not in (None, 1) else ""
    if wanted.model in MODELS or registered:
        name = registered[0] if registered else wanted.model
        return f"benchmark-model {name} --formats all --precision fp32,int8{threads}"
    return f"benchmark-model artifacts/{wanted.model}.*{threads}"


def registered_network(name: str) -> tuple[str, str] | None:
    """Return the model and the data set that a network's name is made of; None for one that is not of the table."""
    return next(((model, data) for model in MODELS for data in DATASETS if name == f"{model}-{data}"), None)


def _readable() -> list[Source]:
    """Return the reports of the default folder, newest first. What is none is passed over, and that is said."""
    found = []
    for path in sorted(DEFAULT_FOLDER.glob("*.json"), reverse=True):
        try:
            found.append(Source(path, read_report(path)))
        except InputError as error:
            note(f"passed over: {error}")
    return sorted(found, key=lambda source: str(source.report["created"]), reverse=True)


def _here(sources: Sequence[Source], wanted: Wanted) -> list[Source]:
    """Return those of the reports that hold the network and were made on a device that will do."""
    return [
        source
        for source in sources
        if rows_of(source.report, wanted.model, wanted.threads)
        and (wanted.across_hosts or not device_differences(source.report["fingerprint"], wanted.here))
    ]


def _found(wanted: Wanted) -> list[Source]:
    """Return the default folder's reports on the network that were made on a device that will do, newest first."""
    sources = _readable()
    usable = _here(sources, wanted)
    if usable:
        return usable
    if not sources:
        _check_name(wanted, sources)
        raise InputError(f"there are no reports in {DEFAULT_FOLDER}/: measure first: {measuring_line(wanted)}")
    elsewhere = [source for source in sources if rows_of(source.report, wanted.model, wanted.threads)]
    if elsewhere:
        _check_device(elsewhere[0], wanted)
    _check_name(wanted, sources)
    raise InputError(
        f"no report in {DEFAULT_FOLDER}/ has rows of {_what(wanted)}; they have {_held(sources)}: measure it: "
        f"{measuring_line(wanted)}"
    )


def _check_name(wanted: Wanted, sources: Sequence[Source]) -> None:
    """Raise UnknownNameError for a network that neither the table nor any report knows."""
    measured = {network_name(row) for source in sources for row in source.report["results"]}
    if wanted.model not in MODELS and not registered_network(wanted.model) and not _known(wanted.model, sources):
        raise UnknownNameError("network", wanted.model, {*MODELS, *measured})


def _known(model: str, sources: Sequence[Source]) -> bool:
    return any(rows_of(source.report, model) for source in sources)


def _check_rows(sources: Sequence[Source], wanted: Wanted) -> None:
    for source in sources:
        if not rows_of(source.report, wanted.model, wanted.threads):
            raise InputError(
                f"{source.path} has no rows of {_what(wanted)}; it has {_held([source])}: name another report, or "
                f"measure it: {measuring_line(wanted)}"
            )


def _what(wanted: Wanted) -> str:
    threads = "" if wanted.threads is None else f" with --threads {wanted.threads}"
    return f"'{wanted.model}'{threads} in scenario single-stream or offline"


def _held(sources: Sequence[Source]) -> str:
    rows = [row for source in sources for row in source.report["results"]]
    return ", ".join(sorted({f"{network_name(row)} ({units.counted(row['threads'], 'thread')})" for row in rows}))


def _check_device(source: Source, wanted: Wanted) -> None:
    found = device_differences(source.report["fingerprint"], wanted.here)
    if found and not wanted.across_hosts:
        raise InputError(
            f"{source.path} was measured on another device ({'; '.join(found)}), and says nothing of this one: measure "
            f"here: {measuring_line(wanted)}; --across-hosts recommends for that device"
        )


def _unfit(report: Report) -> str:
    """Return why nothing may be recommended from a report; empty when it may. Of many reasons it names the first."""
    if not report["valid"]:
        first, *more = report["invalid_reasons"] or ["for no reason that it gives"]
        return f"is INVALID: {first}{f' (and {len(more)} more, see above)' if more else ''}"
    slowdown = report["protocol"].get("slowdown")
    return f"was slowed on purpose, by {slowdown:.0%}" if slowdown else ""


def _refusal(source: Source, reason: str, others: Sequence[Source], wanted: Wanted) -> str:
    """Say why a report is refused, and name the newest one of `others` that would not be."""
    text = f"{source.path} {reason}; nothing is recommended from it; measure again: {measuring_line(wanted)}"
    older = next((other for other in others if not _unfit(other.report)), None)
    if older is None:
        return text
    return f"{text}; or take the older VALID one, of {older.report['created']}: --report {older.path}"
