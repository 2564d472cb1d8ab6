"""When a report is not VALID, and why: each rule is one line, in words a reader can act on.

The rules on the machine and on single rows are in edgeline_bench.health; here is which of them a run must pass.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeline_bench import figures, health, units
from edgeline_bench.rounds import Measured, Run
from edgeline_bench.scenarios import scenario_from_name

MIN_ROUNDS = 20
MAX_REFERENCE_DRIFT = 0.10
MAX_REFERENCE_SPREAD = 0.10
MAX_FOREIGN_LOAD = 0.20


def reasons_beforehand(rounds: int, threads: int, cores: int) -> list[str]:
    """Return what is wrong before anything is measured; `cores` is how many the engines may use."""
    reasons = []
    if rounds < MIN_ROUNDS:
        reasons.append(f"{units.counted(rounds, 'round')}, intervals need at least {MIN_ROUNDS}: leave --rounds out")
    if threads > cores:
        reasons.append(f"{threads} threads on {cores} core{'s' * (cores != 1)}: lower --threads, or --pin more cores")
    return reasons


def invalid_reasons(run: Run, threads: int, cores: int, load_average: float) -> list[str]:
    """Return the reasons why a run's figures should not be relied on; none when it is valid.

    `load_average` is that of before the run.
    """
    reasons = reasons_beforehand(len(run.reference.rounds_s), threads, cores)
    drift = figures.drift(run.reference.round_medians_s)
    if abs(drift) > MAX_REFERENCE_DRIFT:
        reasons.append(f"the machine drifted by {drift:+.0%} between the first and the last third: run again")
    spread = figures.relative_spread(run.reference.round_medians_s)
    if spread > MAX_REFERENCE_SPREAD:
        reasons.append(f"the reference kernel's time spreads by {spread:.0%} from round to round: stop other work")
    if run.foreign_load is None:
        reasons += _known(health.load_average_reason(load_average, 0))
    elif run.foreign_load > MAX_FOREIGN_LOAD:
        reasons.append(f"other processes used {run.foreign_load:.0%} of a core meanwhile: stop them and run again")
    reasons += health.throttling_reasons(run.before, run.after)
    for measured in run.measured:
        reasons += _row_reasons(measured, run.reference)
    return reasons


def _row_reasons(measured: Measured, reference: Measured) -> list[str]:
    point = measured.point
    relative = [time / unit for time, unit in zip(measured.round_medians_s, reference.round_medians_s, strict=True)]
    samples = [sample for samples in measured.rounds_s for sample in samples]
    steady = [health.drift_reason(point.title, relative), health.spread_reason(point.title, relative)]
    reasons = [
        # A server's latencies are waiting in a queue near its limit: they swing on the steadiest machine.
        *(steady if point.scenario != "server" else ()),
        health.oversubscription_reason(point.title, point.threads, measured.busy_threads),
        _mlperf_reason(point.title, measured.mlperf),
    ]
    percent = scenario_from_name(point.scenario).percent
    # MLPerf judges a query of its own size; at other batch sizes percentiles are withheld, and no rule asks for them.
    if percent is not None and (point.batch == 1 or point.scenario != "single-stream"):
        reasons.append(health.query_reason(point.title, samples, percent))
    return [reason for reason in reasons if reason]


def _mlperf_reason(title: str, record: Mapping[str, object] | None) -> str | None:
    return None if record is None or record["valid"] else f"{title}: LoadGen says INVALID: {record['invalid_reason']}"


def _known(reason: str | None) -> list[str]:
    return [reason] if reason else []
