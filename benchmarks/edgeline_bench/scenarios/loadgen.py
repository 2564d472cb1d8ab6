"""Hands the four scenarios to LoadGen, MLPerf Inference's own load generator, by its own rules.

LoadGen (MLCommons, `mlcommons-loadgen` on PyPI) issues the queries, reads its own clock, judges the run and writes its
log; this module only answers the queries with the engine and returns what LoadGen says. The rules (600 s, seeds,
percentiles, query counts) are read from the mlperf.conf that is built into LoadGen. What departs from them is listed
in the record: such a run is no measure by MLPerf's rules. Even one that departs from nothing is no MLPerf submission,
which also takes one of MLPerf's networks, an accuracy run, and audits.

It runs inside the worker. Queries are answered on the thread that issues them, one after another; LoadGen counts a
server query from the moment for which it was scheduled, so waiting is in its latency.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import InputError, MissingCapabilityError, ResourceError
from edgeline_bench import clock
from edgeline_bench.scenarios.loadgen_log import Log, read_log
from edgeline_bench.scenarios.multi_stream import SAMPLES_PER_QUERY

Infer = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

# A data set's whole test split, and no more than this, is what Offline has to run at least (mlperf.conf).
_OFFLINE_SAMPLES = 24_576
# The fewest samples that MLPerf's image classification keeps at hand (mlperf.conf, resnet50).
LIBRARY_SAMPLES = 1_024
_MODEL = "edgeline"  # in no rule of its own: what mlperf.conf says of every model holds
_WARMUP_S = 1.0
# LoadGen makes its queries beforehand, from the speed that it is told; too few, and it ends before its time.
_HEADROOM = 1.25


@dataclass(frozen=True, slots=True)
class Request:
    """What LoadGen shall run, and where its log goes.

    `batch`: samples of one call, for offline; the others take as many as a query has. `min_duration_s` and
    `min_queries`: shorter than LoadGen's rules, None to keep them. `rate_per_s`: for server. `latency_bound_s`: for
    server, None for LoadGen's 10 ms.
    """

    scenario: str
    log: Path
    batch: int = 1
    min_duration_s: float | None = None
    min_queries: int | None = None
    rate_per_s: float | None = None
    latency_bound_s: float | None = None


def run_loadgen(infer: Infer, samples: npt.NDArray[Any], request: Request) -> dict[str, Any]:
    """Let LoadGen run one scenario; return its record, plain JSON, as the `mlperf` of a report's row.

    `infer` takes any number of samples [n, ...] and returns their logits [n, ...] (Session.infer_all). `samples`
    [k, ...] are what LoadGen draws from.

    Raises MissingCapabilityError without LoadGen, InputError for a request that no scenario takes, ResourceError where
    the log cannot be written, and whatever `infer` raises; LoadGen's threads do not survive that, so the process should
    end then.
    """
    lg = import_loadgen()
    settings = _settings(lg, infer, samples, request)
    try:
        request.log.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"LoadGen's log cannot be written to {request.log}: {error.strerror}") from None
    sut = lg.ConstructFastSUT(_issue(lg, infer, samples, _samples_per_call(request)), _nothing)
    library = lg.ConstructQSL(len(samples), len(samples), _in_memory, _in_memory)
    try:
        # LoadGen would take settings from an audit.config in the current folder; this name is never there.
        no_audit = str(request.log / "no-audit.config")
        lg.StartTestWithLogSettings(sut, library, settings, _log_settings(lg, request.log), no_audit)
    finally:
        lg.DestroyFastSUT(sut)
        lg.DestroyQSL(library)
    return record_from_log(read_log(request.log), request, _rules(lg, request.scenario), len(samples))


def import_loadgen() -> ModuleType:
    """Import LoadGen. Raises MissingCapabilityError, naming the extra that holds it."""
    try:
        return importlib.import_module("mlperf_loadgen")
    except ImportError as error:
        raise MissingCapabilityError(
            f"--mode mlperf needs LoadGen, which does not import ({error}): pip install 'edgeline[mlperf]'"
        ) from None


def record_from_log(log: Log, request: Request, rules: Any, library: int) -> dict[str, Any]:
    """Put what LoadGen said into a record; `rules` are its settings before anything was shortened."""
    departures = _departures(log, request, rules, library)
    return {
        "scenario": request.scenario,
        "loadgen_version": log.version,
        "valid": log.valid,
        "invalid_reason": log.invalid_reason,
        "compliant": not departures,
        "why_not_compliant": departures,
        "metric": log.metric(request.scenario),
        "latency_s": log.latency_s(request.scenario),
        "queries": log.queries,
        "log": str(request.log),
        "settings": log.settings,
    }


def _departures(log: Log, request: Request, rules: Any, library: int) -> list[str]:
    """Say in words which settings are not those of the rules."""
    used, found = log.settings, []
    if used["min_duration_ms"] < rules.min_duration_ms:
        found.append(f"min_duration {used['min_duration_ms'] / 1e3:g} s, the rule is {rules.min_duration_ms / 1e3:g} s")
    if request.scenario == "server" and used["target_latency_ns"] != rules.server_target_latency_ns:
        bounds = used["target_latency_ns"] * 1e-9, rules.server_target_latency_ns * 1e-9
        found.append(f"latency bound {bounds[0]:g} s, the rule is {bounds[1]:g} s")
    # Of offline's one query, LoadGen counts samples.
    kind = "sample" if request.scenario == "offline" else "query"
    needed = min(library, _OFFLINE_SAMPLES) if request.scenario == "offline" else 0
    needed = max(needed, rules.min_query_count)
    if used[f"min_{kind}_count"] < needed:
        found.append(f"min_{kind}_count {used[f'min_{kind}_count']}, the rule is {needed}")
    if library < LIBRARY_SAMPLES:
        found.append(f"{library} samples at hand, MLPerf's image classification keeps {LIBRARY_SAMPLES:,}")
    return found


_NAMES = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "server": "Server",
    "offline": "Offline",
}


def _rules(lg: ModuleType, scenario: str) -> Any:
    """Return LoadGen's settings for a scenario, as the mlperf.conf that is built into it has them."""
    if scenario not in _NAMES:
        raise InputError(f"LoadGen has no scenario '{scenario}'; it has {', '.join(_NAMES)}")
    settings = lg.TestSettings()
    built_in = 0
    if settings.FromConfig("", _MODEL, _NAMES[scenario], built_in) != 0:
        raise MissingCapabilityError("this LoadGen has no rules built in: pip install 'mlcommons-loadgen>=6.0.17,<7'")
    settings.scenario = getattr(lg.TestScenario, _NAMES[scenario])
    settings.mode = lg.TestMode.PerformanceOnly
    return settings


def _settings(lg: ModuleType, infer: Infer, samples: npt.NDArray[Any], request: Request) -> Any:
    """Return the rules, shortened as the request says, with the speed that LoadGen wants to be told."""
    settings = _rules(lg, request.scenario)
    size = _samples_per_call(request)
    batch = np.take(samples, np.arange(size), axis=0, mode="wrap")
    call_s = clock.warm_up(lambda: infer(batch), _WARMUP_S, clock.SystemClock()).call_s
    if request.scenario == "single-stream":
        settings.single_stream_expected_latency_ns = call_s * 1e9 / _HEADROOM
    elif request.scenario == "multi-stream":
        settings.multi_stream_expected_latency_ns = call_s * 1e9 / _HEADROOM
    elif request.scenario == "offline":
        settings.offline_expected_qps = size / call_s * _HEADROOM
        settings.min_query_count = max(settings.min_query_count, min(len(samples), _OFFLINE_SAMPLES))
    else:
        if request.rate_per_s is None or not 0 < request.rate_per_s < math.inf:
            raise InputError(f"LoadGen's server scenario needs a rate above 0, got {request.rate_per_s}: --server-qps")
        settings.server_target_qps = request.rate_per_s
        if request.latency_bound_s is not None:
            settings.server_target_latency_ns = round(request.latency_bound_s * 1e9)
    if request.min_duration_s is not None:
        settings.min_duration_ms = max(1, round(request.min_duration_s * 1e3))
    if request.min_queries is not None:
        settings.min_query_count = request.min_queries
    return settings


def _samples_per_call(request: Request) -> int:
    return {"multi-stream": SAMPLES_PER_QUERY, "offline": request.batch}.get(request.scenario, 1)


def _log_settings(lg: ModuleType, folder: Path) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    settings = lg.LogSettings()
    settings.log_output = output
    settings.enable_trace = False  # a line per query, and writing it disturbs
    return settings


def _issue(
    lg: ModuleType, infer: Infer, samples: npt.NDArray[Any], size: int
) -> Callable[[list[int], list[int]], None]:
    """Return what answers LoadGen's queries, `size` samples a call: `ids` are to be answered by samples `indices`."""
    response, complete = lg.QuerySampleResponse, lg.QuerySamplesComplete

    def issue(ids: list[int], indices: list[int]) -> None:
        for start in range(0, len(ids), size):
            chosen = indices[start : start + size]
            batch = samples[chosen[0] : chosen[0] + 1] if len(chosen) == 1 else samples[chosen]
            try:
                logits = np.ascontiguousarray(infer(batch))
            except Exception as error:
                # LoadGen's threads may end the process before anybody can say this: the parent reads its last words.
                print(error, file=sys.stderr, flush=True)
                raise
            address, row_bytes = logits.ctypes.data, logits.nbytes // len(logits)
            complete(
                [
                    response(id_, address + row * row_bytes, row_bytes)
                    for row, id_ in enumerate(ids[start : start + size])
                ]
            )  # LoadGen has copied what it wants of the logits when this returns

    return issue


def _nothing() -> None:
    """Every query is answered before the next: there is nothing to flush."""


def _in_memory(_indices: list[int]) -> None:
    """The samples are in memory from the start, and stay there."""
