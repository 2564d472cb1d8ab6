"""What is asked of the C format, and how far it was reached: a literal table, and a line for each row of it.

Ratios are of times that were taken in one interleaved run.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeline_bench import units
from edgeline_bench.peers.cases import EAGER, OURS, Case, Outcome, Row
from edgeline_bench.peers.program import Floor, Start
from edgeline_bench.verdicts import MIN_ROUNDS, ratio_interval

FLOOR_MODEL = "lenet"
MAX_FLOOR_RATIO = 1.25
MAX_START_S = 5e-3
MAX_PEAK_BYTES = 3e6


@dataclass(frozen=True, slots=True)
class Speed:
    """A row: in `case` we are to be at least `asked` times as fast as the fastest peer, or as eager PyTorch."""

    case: Case
    asked: float
    against: str = "the fastest peer"

    @property
    def words(self) -> str:
        """What is asked, for people."""
        return f"at least {self.asked:g} times as fast as {self.against}"


@dataclass(frozen=True, slots=True)
class Slowness(Speed):
    """A row: in `case` we are to take at most `asked` times the time of the fastest peer."""

    @property
    def words(self) -> str:
        """What is asked, for people."""
        return f"at most {self.asked:g} times the time of {self.against}"


SPEEDS = (
    Speed(Case("lenet", "fp32"), 2.0),
    Speed(Case("lenet", "int8"), 3.0),
    Speed(Case("lenet-relu", "fp32"), 1.4),
    Speed(Case("lenet-relu", "int8"), 2.5),
    Speed(Case("lenet", "fp32"), 12.0, "eager PyTorch"),
    *(Slowness(Case("alexnet", precision, threads=threads), 1.05)
      for precision in ("fp32", "int8") for threads in (1, 2)),
    *(Speed(Case(model, precision, batch=256), 1.5)
      for model in ("lenet", "lenet-relu") for precision in ("fp32", "int8")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One requirement in words, and `reached`: whether it was; None where it could not be measured.

    `margin` is the share by which the figure is better (above 0) or worse than what is asked.
    """

    subject: str
    asked: str
    found: str
    reached: bool | None
    margin: float | None
    detail: str

    @property
    def verdict(self) -> str:
        """Reached or missed, and by how much."""
        if self.reached is None or self.margin is None:
            return "not measured"
        return f"{'reached' if self.reached else 'MISSED'} by {abs(self.margin):.0%}"


def speed_lines(outcomes: Sequence[Outcome]) -> list[Line]:
    """Return a line for each of SPEEDS; one whose case was not run, or had nobody to compare with, says so."""
    by_case = {outcome.case: outcome for outcome in outcomes}
    return [_speed_line(wanted, by_case.get(wanted.case)) for wanted in SPEEDS]


def _speed_line(wanted: Speed, outcome: Outcome | None) -> Line:
    subject, why = wanted.case.title, "this case was not run"
    if outcome is not None:
        ours = outcome.row(OURS)
        other = outcome.row(EAGER) if wanted.against == "eager PyTorch" else outcome.fastest_peer
        if ours is not None and other is not None:
            return _compared(wanted, ours, other)
        missing = next((row for row in outcome.rows if row.engine == OURS and row.why), None)
        why = f"ours: {missing.why}" if missing else "there is nobody to compare with"
    return Line(subject, wanted.words, "-", None, None, why)


def _compared(wanted: Speed, ours: Row, other: Row) -> Line:
    slow, fast = (ours, other) if isinstance(wanted, Slowness) else (other, ours)
    ratio = statistics.median(slow.round_medians_s) / statistics.median(fast.round_medians_s)
    if min(len(slow.round_medians_s), len(fast.round_medians_s)) >= MIN_ROUNDS:
        low, high = ratio_interval(fast.round_medians_s, slow.round_medians_s)
        interval = f" ({low:.2f} to {high:.2f})"
    else:
        interval = " (too few rounds for an interval)"
    detail = f"ours {units.seconds(ours.median_s)}, {other.engine} {units.seconds(other.median_s)}"
    margin = (-1 if isinstance(wanted, Slowness) else 1) * (ratio / wanted.asked - 1)
    return Line(wanted.case.title, wanted.words, f"{ratio:.2f}{interval}", margin >= 0, margin, detail)


def floor_line(floor: Floor | str) -> Line:
    """Return the line of the C function against the warm floor; a string says why it was not measured."""
    subject, asked = f"{FLOOR_MODEL} fp32 from C", f"within {MAX_FLOOR_RATIO} of the warm floor"
    if isinstance(floor, str):
        return Line(subject, asked, "-", None, None, floor)
    detail = (
        f"{units.seconds(floor.median_s)}, floor {units.seconds(floor.warm_s)} (cold {units.seconds(floor.cold_s)}) at "
        f"a peak of {units.flops(floor.flops_per_s)}"
    )
    return _at_most(subject, asked, floor.ratio, MAX_FLOOR_RATIO, f"{floor.ratio:.2f}", detail)


def start_lines(starts: Mapping[str, Start | str], program: str) -> list[Line]:
    """Return the lines of the C program's start and memory; `starts` is by engine, a string says why there is none."""
    subject, found = f"{FLOOR_MODEL} fp32, C program", starts[program]
    asked = (f"start to first logits within {units.seconds(MAX_START_S)}",
             f"peak memory within {units.megabytes(MAX_PEAK_BYTES)}")  # fmt: skip
    if isinstance(found, str):
        return [Line(subject, words, "-", None, None, found) for words in asked]
    peers = {name: start for name, start in starts.items() if name != program and isinstance(start, Start)}
    times = ", ".join(f"{name} {units.seconds(start.median_s)}" for name, start in peers.items())
    peaks = ", ".join(f"{name} {units.megabytes(start.peak_bytes)}" for name, start in peers.items())
    start_s, peak = found.median_s, float(found.peak_bytes)
    return [
        _at_most(subject, asked[0], start_s, MAX_START_S, units.seconds(start_s), times),
        _at_most(subject, asked[1], peak, MAX_PEAK_BYTES, units.megabytes(peak), peaks),
    ]


def _at_most(subject: str, asked: str, value: float, limit: float, found: str, detail: str) -> Line:
    margin = 1 - value / limit
    return Line(subject, asked, found, margin >= 0, margin, detail)
