"""What is asked of the C format, and how far it was reached: a literal table, and a line for each row of it.

Speeds are ratios of times that were taken in one interleaved run: the other's over ours, so that 2 is twice as fast.
"""

from __future__ import annotations

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
_NO_SLOWER = 1 / 1.05


@dataclass(frozen=True, slots=True)
class Speed:
    """A row: in `case` we are to be at least `asked` times as fast as the fastest peer, or as eager PyTorch."""

    case: Case
    asked: float
    against: str = "the fastest peer"

    @property
    def words(self) -> str:
        """What is asked, for people."""
        if self.asked == _NO_SLOWER:
            return f"no slower than 1.05 times {self.against}"
        return f"{self.asked:g} times as fast as {self.against}"


SPEEDS = (
    Speed(Case("lenet", "fp32"), 2.0),
    Speed(Case("lenet", "int8"), 3.0),
    Speed(Case("lenet-relu", "fp32"), 1.4),
    Speed(Case("lenet-relu", "int8"), 2.5),
    Speed(Case("lenet", "fp32"), 12.0, "eager PyTorch"),
    *(Speed(Case("alexnet", precision, threads=threads), _NO_SLOWER)
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
    assert ours.median_s is not None
    assert other.median_s is not None
    ratio = other.median_s / ours.median_s
    if min(len(ours.round_medians_s), len(other.round_medians_s)) >= MIN_ROUNDS:
        low, high = ratio_interval(ours.round_medians_s, other.round_medians_s)
        interval = f" ({low:.2f} to {high:.2f})"
    else:
        interval = " (too few rounds for an interval)"
    detail = f"ours {units.seconds(ours.median_s)}, {other.engine} {units.seconds(other.median_s)}"
    margin = ratio / wanted.asked - 1
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
    """Return the lines of the C program's start and of its memory; `starts` by engine, strings say why there is none."""
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
    margin = limit / value - 1
    return Line(subject, asked, found, margin >= 0, margin, detail)
