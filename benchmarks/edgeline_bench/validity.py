"""When a report is not VALID, and why: each rule is one function's line, in words a reader can act on."""

from __future__ import annotations

from edgeline_bench import figures
from edgeline_bench.rounds import Run

MIN_ROUNDS = 20
MAX_REFERENCE_DRIFT = 0.10
MAX_REFERENCE_SPREAD = 0.10
MAX_FOREIGN_LOAD = 0.20


def invalid_reasons(run: Run, threads: int, usable_cores: int) -> list[str]:
    """Return the reasons why a run's figures should not be relied on; none when it is valid."""
    reasons = []
    rounds = len(run.reference.rounds_s)
    if rounds < MIN_ROUNDS:
        reasons.append(f"{rounds} rounds, intervals need at least {MIN_ROUNDS}: leave --rounds out")
    if threads > usable_cores:
        reasons.append(f"{threads} threads on {usable_cores} usable cores: lower --threads")
    drift = figures.drift(run.reference.round_medians_s)
    if abs(drift) > MAX_REFERENCE_DRIFT:
        reasons.append(f"the machine drifted by {drift:+.0%} between the first and the last third: run again")
    spread = figures.relative_spread(run.reference.round_medians_s)
    if spread > MAX_REFERENCE_SPREAD:
        reasons.append(f"the reference kernel's time spreads by {spread:.0%} from round to round: stop other work")
    if run.foreign_load is not None and run.foreign_load > MAX_FOREIGN_LOAD:
        reasons.append(f"other processes used {run.foreign_load:.0%} of a core meanwhile: stop them and run again")
    return reasons
