"""Whether two reports may be held against each other: every difference that forbids it, in words.

Versions of packages are no such difference: they are what one compares. Across hosts, which must be asked for, the host
is what one compares, and neither it nor the reference kernel, which is then not used, forbids anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeline_bench.report import Report

_HOST_KEYS = ("cpu", "machine", "usable_cores", "isa", "memory_bytes", "gpu")
_DEVICE_KEYS = ("cpu", "machine", "cores", "gpu")  # what does not change from run to run, nor with taskset
_PROTOCOL_KEYS = ("mode", "threads", "pinned", "device", "slot_s", "server_qps", "latency_bound_s")
_ROW_KEYS = ("threads", "device", "arithmetic")

RowKey = tuple[str, str, str, str, int]


def differences_of(old: Report, new: Report, across_hosts: bool = False) -> list[str]:
    """Return every difference that forbids a comparison, sorted; none when there may be one."""
    found = _protocol_differences(old, new, across_hosts) + _row_differences(old, new)
    if not across_hosts:
        found += host_differences(old, new)
    return sorted(found)


def host_differences(old: Report, new: Report) -> list[str]:
    """Return in what the hosts differ: the machine, and the reference kernel with its numpy and Python."""
    found = _differing("fingerprint", old["fingerprint"], new["fingerprint"], _HOST_KEYS)
    kernels = [report["reference_kernel"]["name"] for report in (old, new)]
    return found + ([f"reference kernel: {kernels[0]} and {kernels[1]}"] if kernels[0] != kernels[1] else [])


def device_differences(measured: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return in what the device of a report's fingerprint is not that of another fingerprint, this machine's."""
    return [
        f"{key}: {measured.get(key)} in the report, {here.get(key)} here"
        for key in _DEVICE_KEYS
        if measured.get(key) != here.get(key)
    ]


def ranking_differences(one: Report, other: Report) -> list[str]:
    """Return every difference that forbids to rank the rows of two reports together, sorted.

    Host, protocol, and what rows that both hold ran must agree, as in a comparison; either may hold rows of its own.
    """
    found = _protocol_differences(one, other, False) + host_differences(one, other)
    return sorted(found + _shared_row_differences(rows_by_key(one), rows_by_key(other)))


def rows_by_key(report: Report) -> dict[RowKey, Mapping[str, Any]]:
    """Return the report's results under what tells them apart: the order of artefacts does not matter."""
    return {(r["engine"], r["artefact"], r["precision"], r["scenario"], r["batch"]): r for r in report["results"]}


def row_title(key: RowKey) -> str:
    """Return a row's name as people read it."""
    engine, artefact, precision, scenario, batch = key
    return f"{engine} {artefact} {precision} {scenario} batch {batch}"


def _protocol_differences(old: Report, new: Report, across_hosts: bool) -> list[str]:
    before, after = dict(old["protocol"]), dict(new["protocol"])
    if across_hosts and len(before["pinned"]) == len(after["pinned"]):
        before["pinned"] = after["pinned"]  # cores have other numbers on another host; how many there are must agree
    return _differing("protocol", before, after, _PROTOCOL_KEYS)


def _row_differences(old: Report, new: Report) -> list[str]:
    before, after = rows_by_key(old), rows_by_key(new)
    found = []
    for title, one, other in (("old", before, after), ("new", after, before)):
        found += [f"only the {title} report has {row_title(key)}" for key in one if key not in other]
    return found + _shared_row_differences(before, after)


def _shared_row_differences(
    before: Mapping[RowKey, Mapping[str, Any]], after: Mapping[RowKey, Mapping[str, Any]]
) -> list[str]:
    found = []
    for key in before.keys() & after.keys():
        # Eager runs no graph: its row names that of the artefact that came first, which is a matter of order.
        same = "source" if key[0] in ("eager", "torch-compile") else "graph_sha256"
        if before[key][same] != after[key][same]:
            found.append(f"{row_title(key)} ran another {'network' if same == 'source' else 'graph'}")
        found += _differing(row_title(key), before[key], after[key], _ROW_KEYS)
    return found


def _differing(where: str, old: Mapping[str, Any], new: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [f"{where} {key}: {old.get(key)} and {new.get(key)}" for key in keys if old.get(key) != new.get(key)]
