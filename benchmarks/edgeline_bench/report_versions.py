"""The versions of report.json's schema, and the way from an older one to this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeline_bench.checksums import sealed

# History of the schema:
# 1  2026-11  the first. `roofline`, `speed_of_light_s` and `activations` are null and `layers` empty: not measured yet.
# 2  2026-11  the measured roofline, work and time per layer, more stages of memory, energy, scenarios; `report_sha256`
#             covers all that `samples_sha256` does not. Of a report of version 1, what is missing is null or empty.
#             Later ones have `accuracy_reference` too, which readers must do without in older ones.
SCHEMA_VERSION = 2
_MEMORY_KEYS = ("interpreter", "import", "load", "first", "peak", "anonymous", "file_backed", "weights", "activations")


def upgrade(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report of any version from 1 on as one of SCHEMA_VERSION, sealed again; the one given stays as it is.

    What an older version did not measure is null or empty. Raises KeyError or TypeError for a damaged report, and
    KeyError for a version that `is_known` does not know.
    """
    found = dict(report)
    while found["schema_version"] != SCHEMA_VERSION:
        found = _STEPS[found["schema_version"]](found)
    return found


def is_known(version: object) -> bool:
    """Say whether reports of this version can be read."""
    return type(version) is int and 1 <= version <= SCHEMA_VERSION


def _second_from_first(report: Mapping[str, Any]) -> dict[str, Any]:
    results = [
        {
            "arithmetic": result["precision"],  # the first reports did not tell it apart
            "device": "cpu",
            **result,
            "memory_bytes": {**dict.fromkeys(_MEMORY_KEYS), **result["memory_bytes"]},
            "layers": [],
            "layer_profile": None,
            "speed_of_light_s": None,
            "energy": None,
        }
        for result in report["results"]
    ]
    return sealed({**report, "schema_version": 2, "roofline": None, "results": results})


_STEPS: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _second_from_first}
