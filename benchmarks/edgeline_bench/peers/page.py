"""The outcome as Markdown: a line for each requirement first, then every engine in every case, then how it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeline_bench import units
from edgeline_bench.figures import relative_spread
from edgeline_bench.peers import PEERS
from edgeline_bench.peers.cases import EAGER, OURS, Outcome, Row
from edgeline_bench.peers.program import Start
from edgeline_bench.peers.requirements import Line
from edgeline_bench.tables import Table, markdown


def page_of(
    lines: Sequence[Line],
    outcomes: Sequence[Outcome],
    starts: Mapping[str, Start | str],
    facts: Sequence[tuple[str, str]],
    remarks: Sequence[str],
) -> str:
    """Return the whole page; `facts` are of the machine and the run, `remarks` of what may have spoilt it."""
    return "\n".join([
        "# The C format beside ONNX Runtime, OpenVINO and LiteRT", "", _summary(lines), "",
        markdown(_requirements_table(lines)),
        *(markdown(_case_table(outcome)) for outcome in outcomes),
        markdown(_start_table(starts)),
        markdown(_how_table()),
        markdown(Table("Machine and run", ("what", "found"), tuple(facts), 2)),
        *_remarks(remarks, outcomes),
    ])  # fmt: skip


def _summary(lines: Sequence[Line]) -> str:
    reached = sum(line.reached is True for line in lines)
    missed = [f"{line.subject} ({line.asked})" for line in lines if line.reached is False]
    unknown = sum(line.reached is None for line in lines)
    words = f"**{reached} of {len(lines)} requirements reached**"
    words += f"; missed: {'; '.join(missed)}" if missed else ""
    return f"{words}{f'; {unknown} not measured' if unknown else ''}."


def _requirements_table(lines: Sequence[Line]) -> Table:
    cells = tuple((line.subject, line.asked, line.found, line.verdict, line.detail) for line in lines)
    note = (
        "Medians of the rounds' medians. In brackets the 95 % interval of a bootstrap over rounds. The fastest peer is "
        "the fastest with the right answers."
    )
    return Table("Asked and reached", ("network", "asked", "reached", "verdict", "figures"), cells, 5, note)


def _case_table(outcome: Outcome) -> Table:
    ours = outcome.row(OURS)
    rows = sorted(outcome.rows, key=lambda row: (row.median_s is None, row.median_s))
    cells = tuple(_cells(row, ours, outcome.case.batch) for row in rows)
    heading = ("engine", "median", "a sample", "this / ours", "spread", "accuracy", "labels as eager", "remark")
    return Table(outcome.case.title, heading, cells, 1)


def _cells(row: Row, ours: Row | None, batch: int) -> tuple[str, ...]:
    judgement, median_s = row.judgement, row.median_s
    words = ("-", "-") if judgement is None else (f"{judgement.accuracy:.4f}", f"{judgement.agreement:.2%}")
    remark = f"not compared: {row.why}" if row.why else ""
    if median_s is None:
        return (row.engine, "-", "-", "-", "-", *words, remark)
    ratio = "-" if ours is None or ours.median_s is None else f"{median_s / ours.median_s:.2f}"
    spread = f"{relative_spread(row.round_medians_s):.1%}"
    return (row.engine, units.seconds(median_s), units.seconds(median_s / batch), ratio, spread, *words, remark)


def _start_table(starts: Mapping[str, Start | str]) -> Table:
    cells = tuple(
        (engine, units.seconds(start.median_s), units.megabytes(start.peak_bytes), str(len(start.seconds)), "")
        if isinstance(start, Start)
        else (engine, "-", "-", "0", start)
        for engine, start in starts.items()
    )
    note = (
        "From the start of the process to its first logits, imports included (of the C program: to its end, 16 images "
        "later), medians of so many starts; the peak is VmHWM, of the C program ru_maxrss."
    )
    return Table("Start and memory, lenet fp32", ("engine", "start", "peak memory", "starts", "remark"), cells, 1, note)


def _how_table() -> Table:
    how = {
        OURS: "edgeline.load(...).infer(batch, out=...)",
        **{peer.name: peer.how for peer in PEERS},
        EAGER: "the trained module under inference_mode, tensors in and out",
    }
    version = {peer.name: f"{peer.distribution} {peer.version or 'not installed'}" for peer in PEERS}
    cells = tuple((name, version.get(name, ""), words) for name, words in how.items())
    return Table("How each engine is called", ("engine", "version", "call"), cells, 3)


def _remarks(remarks: Sequence[str], outcomes: Sequence[Outcome]) -> list[str]:
    found = [*remarks, *(f"{outcome.case.title}: {words}" for outcome in outcomes for words in outcome.remarks)]
    if not found:
        return []
    return ["## What may have spoilt it", "", *(f"- {words}" for words in found), ""]


def record_of(
    lines: Sequence[Line], outcomes: Sequence[Outcome], starts: Mapping[str, Start | str], rest: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the outcome as plain JSON."""
    from dataclasses import asdict

    return {
        **rest,
        "requirements": [{**asdict(line), "verdict": line.verdict} for line in lines],
        "cases": [outcome.to_record() for outcome in outcomes],
        "starts": {name: start if isinstance(start, str) else asdict(start) for name, start in starts.items()},
    }
