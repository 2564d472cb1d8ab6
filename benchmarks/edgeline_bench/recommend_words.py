"""Why the winner wins and what the runner-up costs, in sentences made from the report's own figures.

Where a figure was not measured, its sentence says so or is not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeline_bench import units
from edgeline_bench.recommend import SAME_MEMORY, Ranked, Ranking
from edgeline_bench.recommend_candidates import Candidate
from edgeline_bench.recommend_gap import Gap, gap_of, layer_gap_of
from edgeline_bench.tables import arithmetic

_TIMED = ("latency", "throughput")
_MOST = 0.95  # of a gap in logarithms: "nearly all"
_WHAT = {
    "latency": "latency",
    "throughput": "throughput",
    "memory": f"peak memory (by more than {SAME_MEMORY:.0%})",
    "size": "size",
}


def sentences(ranking: Ranking, without_roofline: Sequence[int]) -> list[str]:
    """Return why the first row wins; `without_roofline` are the numbers of the reports that have none."""
    winner, *others = ranking.rows
    first, second = winner.candidate, (others[0] if others else None)
    lines = [_headline(ranking), *_tie_lines(ranking)]
    if ranking.objective == "memory" or ranking.broken_by == "memory":
        lines += _memory_lines(first, second.candidate if second else None)
    if ranking.objective in _TIMED:
        rows = [first, *([second.candidate] if second else [])]
        if any(row.report in without_roofline for row in rows):
            lines.append(
                "Why it takes that long is not known: the report has no roofline; measure without --no-roofline."
            )
        else:
            lines += _roofline_lines(first, second)
    if ranking.objective == "size":
        lines += _size_lines(first, second.candidate if second else None)
    return lines


def cost_text(first: Candidate, runner_up: Ranked, objective: str) -> str:
    """Say what the runner-up would cost or gain against the winner."""
    other, verdict = runner_up.candidate, runner_up.verdict
    parts = []
    if verdict is not None:
        rate = objective == "throughput"
        ratio = 1 / verdict.ratio if rate else verdict.ratio
        interval = verdict.ci95 and sorted(1 / end if rate else end for end in verdict.ci95)
        within = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
        same = verdict.word in ("same", "withheld")
        what = "throughput" if rate else "latency" if other.batch == first.batch else "time a sample"
        parts.append(f"{ratio:.2f} times the {what}{within}{', no measurable difference' if same else ''}")
    parts += [
        _difference(first.peak_bytes, other.peak_bytes, "memory"),
        _difference(first.size_bytes, other.size_bytes, "on disk"),
        _accuracy_text(first, other),
    ]
    return f"{described(other)}: {', '.join(part for part in parts if part)}."


def described(candidate: Candidate) -> str:
    """Name a row with its batch."""
    return f"{candidate.title} at batch {candidate.batch}"


def figure_text(candidate: Candidate, objective: str) -> str:
    """Return a row's figure of an objective as people read it."""
    if objective == "latency":
        return units.seconds(candidate.p50_s)
    if objective == "throughput":
        return units.rate(candidate.throughput_per_s)
    return units.megabytes(candidate.peak_bytes if objective == "memory" else candidate.size_bytes)


def _headline(ranking: Ranking) -> str:
    first = ranking.rows[0].candidate
    figure = figure_text(first, ranking.objective)
    what = {
        "latency": f"answers in {figure} (median)",
        "throughput": f"does {figure}",
        "memory": f"peaks at {figure}",
        "size": f"takes {figure} on disk",
    }
    among = f"the best of {len(ranking.rows)} forms" if len(ranking.rows) > 1 else "the only form that is left"
    return f"{described(first)} {what[ranking.objective]}: {among}."


def _tie_lines(ranking: Ranking) -> list[str]:
    tied = [row.candidate for row in ranking.rows if row.tied]
    if len(tied) < 2:
        return []
    winner, others = tied[0], tied[1:]
    what = _WHAT[ranking.objective]
    line = f"No measurable difference in {what} to {', '.join(map(described, others))}"
    if ranking.broken_by in (None, ranking.objective):
        return [f"{line}, nor in what else counts: the better figure stands first, and may not in another run."]
    by = str(ranking.broken_by)
    figures = ", ".join(figure_text(other, by) for other in others)
    return [f"{line}: {by} decides, {figure_text(winner, by)} against {figures}."]


def _roofline_lines(first: Candidate, second: Ranked | None) -> list[str]:
    lines = [_light_text(first)]
    if second is None:
        return lines
    other = second.candidate
    lines.append(_light_text(other))
    gap = gap_of(first, other)
    if gap is None or second.verdict is None or second.verdict.word != "slower":
        return lines
    lines.append(_gap_text(gap, first, other))
    layer = layer_gap_of(first, other)
    if layer is not None:
        ours = f"bound by {layer.bounds[0]}" if layer.bounds[0] else "which has no such layer of its own"
        theirs = f"bound by {layer.bounds[1]}" if layer.bounds[1] else "which has no such layer of its own"
        share = f"{layer.share:.0%} of" if layer.share <= 1 else "more than"
        lines.append(
            f"The largest part of it lies in {layer.label}, {share} what all layers together differ by: "
            f"{units.seconds(layer.first_s)} a sample on {first.title} ({ours}), {units.seconds(layer.second_s)} on "
            f"{other.title} ({theirs})."
        )
    return lines


def _light_text(candidate: Candidate) -> str:
    light, time_s = candidate.light_s, candidate.p50_s
    if light is None:
        return f"How far {described(candidate)} is from its speed of light is not known: its row has none."
    far = f"{time_s / light:.2f} times the least" if time_s >= light else "less than the model's least"
    return (
        f"{described(candidate)} takes {units.seconds(time_s)} where {units.seconds(light)} would be possible: {far}."
    )


def _gap_text(gap: Gap, first: Candidate, other: Candidate) -> str:
    text = (
        f"{other.title} takes {gap.ratio:.2f} times as long a sample = {gap.lights:.2f} (its speed of light over the "
        f"winner's) x {gap.overheads:.2f} (how many times its own it takes, over the winner's)"
    )
    ours, theirs = (arithmetic(dict(one.row)) for one in (first, other))
    work = f"less to do at least ({ours} against {theirs})" if ours != theirs else "less to do at least"
    return f"{text}: {_cause(gap, work)}."


def _cause(gap: Gap, work: str) -> str:
    """Say which factor makes the gap, by its share of the logarithm: factors multiply."""
    if gap.ratio <= 1:
        return "the medians of all samples say otherwise than those of the rounds"
    share = math.log(gap.lights) / math.log(gap.ratio)
    if abs(1 - share) <= 1 - _MOST:
        return f"nearly all of it is {work}"
    if abs(share) <= 1 - _MOST:
        return "nearly all of it is efficiency, the work being the same or nearly so"
    if gap.lights < 1:
        return "the winner has more to do at least, and is that much closer to it"
    if gap.overheads < 1:
        return f"the winner has so much {work} that it wins, though it is further from its own least"
    return f"{share:.0%} of it (in logarithms) is {work}, {1 - share:.0%} efficiency"


def _memory_lines(first: Candidate, second: Candidate | None) -> list[str]:
    """Say in which stage of the process its memory was taken, and in which the runner-up takes more."""
    ours = _stages(first)
    if ours is None:
        return ["In which stage the memory was taken is not known: the report does not tell all of them."]
    listed = ", ".join(f"{units.megabytes(size)} came {stage}" for stage, size in ours.items())
    weights = first.row["memory_bytes"].get("weights")
    lines = [f"Of its memory, {listed}{f'; the weights are {units.megabytes(weights)} of it' if weights else ''}."]
    theirs = _stages(second) if second else None
    if second and theirs and (more := sum(theirs.values()) - sum(ours.values())) > 0:
        stage = max(ours, key=lambda stage: theirs[stage] - ours[stage])
        lines.append(
            f"{second.title} takes {units.megabytes(more)} more, and most of that came {stage}: "
            f"{units.megabytes(theirs[stage])} there."
        )
    return lines


def _stages(candidate: Candidate) -> dict[str, int] | None:
    """Return by how much each stage of a process raised its resident memory; None where one is not known."""
    memory = candidate.row["memory_bytes"]
    known = [memory.get(key) for key in ("interpreter", "import", "load", "peak")]
    if None in known:
        return None
    interpreter, imported, loaded, peak = known
    return {
        "with Python itself": interpreter,
        "with importing the engine": imported - interpreter,
        "with loading the network": loaded - imported,
        "with running it": peak - loaded,
    }


def _size_lines(first: Candidate, second: Candidate | None) -> list[str]:
    return [_parts_text(candidate) for candidate in (first, second) if candidate is not None]


def _parts_text(candidate: Candidate) -> str:
    """Say what a row's bytes on disk are: weights by the graph, and the engine's own package besides."""
    weights, engine = candidate.row["memory_bytes"].get("weights"), candidate.engine_bytes
    parts = [f"{candidate.title}: {units.megabytes(candidate.size_bytes)}"]
    if weights:
        parts.append(f"the network's weights are {units.megabytes(weights)}")
    if engine is None:
        parts.append("what the engine itself takes is not known")
    elif candidate.size_bytes is not None:
        total = units.megabytes(candidate.size_bytes + engine)
        parts.append(f"with the engine's own package, {units.megabytes(engine)}, it is {total}")
    return f"{'; '.join(parts)}."


def _difference(ours: int | None, theirs: int | None, what: str) -> str:
    if ours is None or theirs is None:
        return ""
    if ours == theirs:
        return "the same memory" if what == "memory" else f"the same {what}"
    size, more = units.megabytes(abs(theirs - ours)), "more" if theirs > ours else "less"
    return f"{size} {more} {what}"


def _accuracy_text(first: Candidate, other: Candidate) -> str:
    ours, theirs = first.row["accuracy"], other.row["accuracy"]
    if ours is None or theirs is None:
        return ""
    change = theirs - ours
    if round(change, 4) == 0:
        return "the same accuracy"
    return f"{abs(change):.4f} {'more' if change > 0 else 'less'} accuracy"
