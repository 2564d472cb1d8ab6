"""The two checksums of a report: a truncated one does not match them, nor one that was edited by hand.

They are no signature: who means harm can compute them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def sealed(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report with both checksums, which cover all that it holds. Raises ValueError for a NaN or infinity."""
    samples = samples_sha256(report["results"], report["reference_kernel"]["round_medians_s"])
    whole = {**report, "samples_sha256": samples}
    return {**whole, "report_sha256": report_sha256(whole)}


def samples_sha256(results: Iterable[Mapping[str, Any]], reference_medians_s: Sequence[float]) -> str:
    """Return the SHA-256 over all raw samples and the reference kernel's times, in order."""
    digest = hashlib.sha256(json.dumps(reference_medians_s).encode())
    for result in results:
        digest.update(json.dumps([result["engine"], result["artefact"], result["batch"], result["samples_s"]]).encode())
    return digest.hexdigest()


def report_sha256(report: Mapping[str, Any]) -> str:
    """Return the SHA-256 over all but the raw samples, which `samples_sha256`, itself covered here, stands for.

    Raises ValueError for a NaN or infinity, which JSON does not know.
    """
    rest = {key: value for key, value in report.items() if key not in ("report_sha256", "results")}
    rest["results"] = [{k: v for k, v in result.items() if k != "samples_s"} for result in report["results"]]
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()
