"""Which form of a network to use on a device: measured rows ranked by an objective, under limits.

Two rows whose times do not differ beyond noise, by the rule of compare-reports, are a tie, and the next objective
decides: a figure that the next run may turn round is no reason. Nothing is measured here, and nothing said in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeline.errors import InputError
from edgeline_bench.recommend_candidates import Candidate
from edgeline_bench.recommend_limits import Limits, NearestMiss, nearest_miss, violations_of
from edgeline_bench.verdicts import Verdict, verdicts

# What breaks a tie, in this order, for each objective.
OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "latency": ("memory", "size"),
    "throughput": ("memory", "size"),
    "memory": ("size", "latency"),
    "size": ("memory", "latency"),
}
_TIMED = ("latency", "throughput")
# The highest resident memory is read once a process, and pages of libraries come and go: nearer than this is the same.
SAME_MEMORY = 0.01

# A figure to be small; None where the row does not tell it.
_FIGURES: Mapping[str, Callable[[Candidate], float | None]] = {
    "latency": lambda candidate: candidate.p50_s * candidate.scale,
    "throughput": lambda candidate: candidate.scale / candidate.throughput_per_s,
    "memory": lambda candidate: candidate.peak_bytes,
    "size": lambda candidate: candidate.size_bytes,
}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row in its place. `verdict` is of its time against the winner's (above 1: slower), None for the winner itself.

    `tied` rows cannot be told from the best by the objective.
    """

    candidate: Candidate
    tied: bool
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not ranked, and why."""

    candidate: Candidate
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows by one objective, the winner first. `broken_by` is the objective that broke a tie for first place.

    It is None where there was no tie, and the objective itself where no other one told the tied rows apart.
    """

    objective: str
    rows: tuple[Ranked, ...]
    left_out: tuple[LeftOut, ...]
    broken_by: str | None
    nearest: NearestMiss | None

    @property
    def winner(self) -> Candidate | None:
        """The first row; None when no row met the limits."""
        return self.rows[0].candidate if self.rows else None


def rank(candidates: Sequence[Candidate], objective: str, limits: Limits, batch: int | None = None) -> Ranking:
    """Rank rows by an objective; each form of the network has one row in it.

    That is the row at `batch`, or at the smallest batch that was measured; for throughput without a `batch` it is the
    form's best row within the limits. Raises InputError where no row has that batch, or none is single-stream.
    """
    pool, left_out = _at_batch(candidates, objective, batch)
    broken = {index: violations_of(candidate, limits) for index, candidate in enumerate(pool)}
    left_out += [
        LeftOut(pool[index], tuple(violation.text for violation in found)) for index, found in broken.items() if found
    ]
    figure = _FIGURES[objective]
    within = [candidate for index, candidate in enumerate(pool) if not broken[index]]
    left_out += [LeftOut(one, (f"its {objective} is not known",)) for one in within if figure(one) is None]
    within = _best_of_each_form([one for one in within if figure(one) is not None], objective)
    if not within:
        return Ranking(objective, (), tuple(left_out), None, nearest_miss(broken, pool))
    tied = _tied_for_first(within, objective)
    winner, broken_by = _by_next_objective(tied, objective)
    others = sorted(
        (one for one in within if one is not winner), key=lambda one: (one not in tied, _key(one, objective))
    )
    judged = against(winner, others)
    rows = [Ranked(winner, len(tied) > 1, None)]
    rows += [Ranked(one, one in tied, verdict) for one, verdict in zip(others, judged, strict=True)]
    return Ranking(objective, tuple(rows), tuple(left_out), broken_by, None)


def rank_or_none(candidates: Sequence[Candidate], objective: str, limits: Limits, batch: int | None = None) -> Ranking:
    """Rank as `rank` does; where it would raise, as no row has the batch or the scenario, return a ranking of none."""
    try:
        return rank(candidates, objective, limits, batch)
    except InputError:
        return Ranking(objective, (), (), None, None)


def against(first: Candidate, others: Sequence[Candidate]) -> list[Verdict]:
    """Judge the times a sample of rows against one row's, as compare-reports would: `slower` is slower than `first`.

    Between two reports the share by which the reference kernel differs counts as noise.
    """
    changes = [
        0.0
        if first.report == other.report
        else max(first.kernel_s, other.kernel_s) / min(first.kernel_s, other.kernel_s) - 1
        for other in others
    ]
    return verdicts([(first.rounds, other.rounds) for other in others], None, changes)


def _at_batch(
    candidates: Sequence[Candidate], objective: str, batch: int | None
) -> tuple[list[Candidate], list[LeftOut]]:
    """Return the rows that are of the objective's scenario and batch, and the forms that were not measured there."""
    pool = [one for one in candidates if objective == "throughput" or one.row["scenario"] == "single-stream"]
    if not pool:
        raise InputError(
            f"{objective} is that of scenario single-stream, and no such row was measured: add --scenario "
            "single-stream to benchmark-model, or give --objective throughput"
        )
    measured = sorted({one.batch for one in pool})
    if batch is not None and batch not in measured:
        raise InputError(
            f"no row has batch {batch}, those measured are {', '.join(map(str, measured))}: give one of them, or add "
            f"--batch {batch} to benchmark-model"
        )
    if objective == "throughput" and batch is None:
        return pool, []
    wanted = measured[0] if batch is None else batch
    there = [one for one in pool if one.batch == wanted]
    forms = {_form(one) for one in there}
    elsewhere = {_form(one): one for one in reversed(pool) if _form(one) not in forms}
    return there, [LeftOut(one, (f"not measured at batch {wanted}",)) for one in elsewhere.values()]


def _best_of_each_form(pool: Sequence[Candidate], objective: str) -> list[Candidate]:
    best: dict[tuple[str, str, str], Candidate] = {}
    for one in sorted(pool, key=lambda one: _key(one, objective)):
        best.setdefault(_form(one), one)
    return list(best.values())


def _form(candidate: Candidate) -> tuple[str, str, str]:
    row = candidate.row
    return row["engine"], row["artefact"], row["precision"]


def _key(candidate: Candidate, objective: str) -> tuple[float, str, int]:
    """Order by the objective's figure, unknown ones last, and then by name, so that the order is always the same."""
    figure = _FIGURES[objective](candidate)
    return (float("inf") if figure is None else figure, candidate.title, candidate.batch)


def _tied_for_first(pool: Sequence[Candidate], objective: str) -> list[Candidate]:
    """Return the best row by an objective and those that cannot be told from it; rows of unknown figures are none."""
    best, *others = sorted(pool, key=lambda one: _key(one, objective))
    if objective in _TIMED:
        judged = against(best, others)
        return [best, *(one for one, verdict in zip(others, judged, strict=True) if verdict.word != "slower")]
    least, figure = _FIGURES[objective](best), _FIGURES[objective]
    room = 1 + SAME_MEMORY if objective == "memory" else 1.0
    known = [(one, figure(one)) for one in others]
    same = [one for one, value in known if least is not None and value is not None and value <= least * room]
    return [best, *same] if least is not None else list(pool)


def _by_next_objective(tied: list[Candidate], objective: str) -> tuple[Candidate, str | None]:
    """Return the winner among rows that are tied, and the objective that made it one."""
    if len(tied) == 1:
        return tied[0], None
    for following in OBJECTIVES[objective]:
        fewer = _tied_for_first(tied, following)
        if len(fewer) == 1:
            return fewer[0], following
        tied = fewer
    return min(tied, key=lambda one: _key(one, objective)), objective
