"""When a report is not VALID, and why: each rule is one function's line, in words a reader can act on."""

from __future__ import annotations

from edgeline_bench import figures
from edgeline_bench.rounds import Run

MIN_ROUNDS = 20
MAX_REFERENCE_DRIFT = 0.10
MAX_REFERENCE_SPREAD = 0.10
MAX_FOREIGN_LOAD = 0.20


def reasons_beforehand(rounds: int, threads: int, cores: int) -> list[str]:
    """Return what is wrong before anything is measured; `cores` is how many the engines may use."""
    reasons = []
    if rounds < MIN_ROUNDS:
        reasons.append(f"{rounds} rounds, intervals need at least {MIN_ROUNDS}: leave --rounds out")
    if threads > cores:
        reasons.append(f"{threads} threads on {cores} core{'s' * (cores != 1)}: lower --threads, or --pin more cores")
    return reasons


def invalid_reasons(run: Run, threads: int, cores: int) -> list[str]:
    """Return the reasons why a run's figures should not be relied on; none when it is valid."""
    reasons = reasons_beforehand(len(run.reference.rounds_s), threads, cores)
    drift = figures.drift(run.reference.round_medians_s)
    if abs(drift) > MAX_REFERENCE_DRIFT:
        reasons.append(f"the machine drifted by {drift:+.0%} between the first and the last third: run again")
    spread = figures.relative_spread(run.reference.round_medians_s)
    if spread > MAX_REFERENCE_SPREAD:
        reasons.append(f"the reference kernel's time spreads by {spread:.0%} from round to round: stop other work")
    if run.foreign_load is not None and run.foreign_load > MAX_FOREIGN_LOAD:
        reasons.append(f"other processes used {run.foreign_load:.0%} of a core meanwhile: stop them and run again")
    return reasons
