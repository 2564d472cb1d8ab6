"""Reads what LoadGen wrote of a run: mlperf_log_detail.txt, whose lines are JSON. What it says is not judged again.

One thing is held back: LoadGen prints percentiles of any number of queries; those that it cannot carry are None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeline.errors import ResourceError
from edgeline_bench.percentiles import MIN_SAMPLES, percentile_name

_DETAIL = "mlperf_log_detail.txt"
_PREFIX = ":::MLLOG "
_SETTING = "effective_"
_PERCENTS = (50, 90, 95, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Log:
    """The last value of each key in the log."""

    values: Mapping[str, Any]

    @property
    def version(self) -> str:
        """LoadGen's version and commit."""
        return str(self.values["loadgen_version"])

    @property
    def valid(self) -> bool:
        """LoadGen's own verdict."""
        return bool(self.values["result_validity"] == "VALID")

    @property
    def invalid_reason(self) -> str | None:
        """Why it is not valid, in LoadGen's words; None where it is."""
        if self.valid:
            return None
        words = f"{self.values.get('result_invalid_reason', '')} {self.values.get('early_stopping_result', '')}"
        return " ".join(words.replace(" * ", " ").split()) or "LoadGen gives no reason"

    @property
    def queries(self) -> int:
        """How many queries were issued; offline has one."""
        return int(self.values["result_query_count"])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that LoadGen ran with, under its own names."""
        return {key.removeprefix(_SETTING): value for key, value in self.values.items() if key.startswith(_SETTING)}

    def latency_s(self, scenario: str) -> dict[str, float | None]:
        """The latency of a query by percentile; none for offline, whose one query is the whole run."""
        if scenario == "offline":
            return {}
        of = "per_query_latency_ns" if scenario == "multi-stream" else "latency_ns"
        return {
            percentile_name(percent): self._seconds(f"result_{percent:.2f}_percentile_{of}")
            if self.queries >= MIN_SAMPLES[percent]
            else None
            for percent in _PERCENTS
        }

    def metric(self, scenario: str) -> dict[str, float | None]:
        """What MLPerf judges the scenario by; an estimate by early stopping is None where queries were too few."""
        if scenario == "offline":
            return {"throughput_per_s": float(self.values["result_samples_per_second"])}
        if scenario == "server":
            return {
                "completed_per_s": float(self.values["result_completed_samples_per_sec"]),
                "scheduled_per_s": float(self.values["result_scheduled_samples_per_sec"]),
                "latency_bound_s": self._seconds("effective_target_latency_ns"),
                "p99_s": self.latency_s(scenario)["p99"],
            }
        percent, estimate = (90, "ss") if scenario == "single-stream" else (99, "ms")
        name = percentile_name(percent)
        # 0 where LoadGen has none
        early = self._seconds(f"early_stopping_latency_{estimate}") or None
        return {f"{name}_s": self.latency_s(scenario)[name], f"early_stopping_{name}_s": early}

    def _seconds(self, key: str) -> float:
        return round(int(self.values[key]) * 1e-9, 9)


def read_log(folder: Path) -> Log:
    """Read the log of a run that has ended. Raises ResourceError when it is missing or tells of no result."""
    path = folder / _DETAIL
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ResourceError(f"LoadGen's log {path} cannot be read: {error.strerror}") from None
    values: dict[str, Any] = {}
    for line in lines:
        try:
            entry = json.loads(line.removeprefix(_PREFIX)) if line.startswith(_PREFIX) else None
        except ValueError:
            continue  # a line that another thread has written into: what is needed is asked for below
        if entry is not None:
            values[entry["key"]] = entry["value"]
    missing = [key for key in ("loadgen_version", "result_validity", "result_query_count") if key not in values]
    if missing:
        raise ResourceError(f"LoadGen's log {path} has no {missing[0]}: the run did not come to its end; run it again")
    return Log(values)
