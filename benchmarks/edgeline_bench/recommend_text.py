"""A recommendation as a table and sentences, and as a record for JSON; and the lines to type to use what won."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeline.backends import engine_of_format
from edgeline.errors import UnknownNameError
from edgeline_bench import tables, units
from edgeline_bench.recommend import LeftOut, Ranked, Ranking
from edgeline_bench.recommend_candidates import Candidate, network_name
from edgeline_bench.recommend_gap import gap_of, layer_gap_of
from edgeline_bench.recommend_limits import Limits
from edgeline_bench.recommend_reports import Source, registered_network
from edgeline_bench.recommend_words import cost_text, described, figure_text, sentences
from edgeline_bench.tables import Table
from edgeline_train.models.weights import DEFAULT_FOLDER as WEIGHTS_FOLDER
from edgeline_train.models.weights import SUFFIX

# History of the schema of `--json`:
# 1  2026-11  the first
SCHEMA_VERSION = 1
_ARTEFACTS = "artifacts"  # export-model's own default; a report does not say where its artefacts lay


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A ranking, with the reports it rests on, the rankings by the other objectives, and what the user asked for."""

    model: str
    sources: tuple[Source, ...]
    ranking: Ranking
    others: tuple[Ranking, ...]
    limits: Limits
    batch: int | None
    elsewhere: bool  # the reports are another device's
    notes: tuple[str, ...]


def plain_text(found: Recommendation) -> str:
    """Lay a recommendation out for a terminal: the table, what was left out, and the sentences."""
    ranking = found.ranking
    parts = [_elsewhere_text(found)] if found.elsewhere else []
    if ranking.rows:
        parts.append(tables.plain_text(ranked_table(ranking)))
    if ranking.left_out:
        parts.append("Left out:\n" + "\n".join(f"  {line}" for line in _left_out_lines(ranking.left_out)))
    if ranking.rows:
        parts.append("\n".join(_why(found)))
        cost = _cost(ranking)
        parts += [f"Instead of it, {cost}"] if cost else []
        parts.append("\n".join(_other_lines(found.others)))
        parts.append("\n".join(use_lines(ranking.rows[0].candidate)))
    return "\n\n".join(parts)


def ranked_table(ranking: Ranking) -> Table:
    """Return the rows in their order. Those that cannot be told from the best are marked `=`."""
    with_engine = any(row.candidate.engine_bytes is not None for row in ranking.rows)
    heading = ("rank", "engine", "artefact", "batch", "p50", "throughput", "peak memory", "size",
               *(["with engine"] if with_engine else []), "accuracy", "drop")  # fmt: skip
    cells = tuple(
        (
            f"{place}{' =' if row.tied else ''}", one.row["engine"], one.row["artefact"], _batch_text(one),
            units.seconds(one.p50_s), units.rate(one.throughput_per_s), units.megabytes(one.peak_bytes),
            units.megabytes(one.size_bytes), *([units.megabytes(_with_engine(one))] if with_engine else []),
            "-" if one.row["accuracy"] is None else f"{one.row['accuracy']:.4f}",
            "-" if one.drop is None else f"{one.drop:.4f}",
        )
        for place, row in enumerate(ranking.rows, 1)
        for one in [row.candidate]
    )  # fmt: skip
    return Table(f"By {ranking.objective}", heading, cells, 3)


def no_row_text(found: Recommendation) -> str:
    """Say in one line that no row met the limits, which was the nearest, and what would let it pass."""
    ranking, nearest = found.ranking, found.ranking.nearest
    count = units.counted(len(ranking.left_out), "row")
    if nearest is None:
        return (
            f"none of {count} can be ranked: figures that are needed are not known; measure again, or lift the limits "
            "(--max-drop 1: rows of unknown accuracy pass, too)"
        )
    in_bytes = any(violation.option in ("--max-memory", "--max-size") for violation in nearest.violations)
    broken = ", ".join(violation.text for violation in nearest.violations)
    return (
        f"none of {count} meets the limits; the nearest is {described(nearest.candidate)} ({broken}): "
        f"{nearest.options} would let it pass{' (1MB of an option is 1,048,576 bytes)' if in_bytes else ''}"
    )


def use_lines(winner: Candidate) -> list[str]:
    """Return what to type to use a row, and to make its artefact again."""
    row, registered = winner.row, registered_network(network_name(winner.row))
    if row["engine"] == "eager":
        if registered is None or "@" in row["artefact"]:  # one of several networks of that name
            return ["Use it: it is PyTorch itself, with the weights that it was trained with."]
        weights = WEIGHTS_FOLDER / f"{network_name(row)}{SUFFIX}"
        return [
            f'Use it: network = edgeline_train.models.model_from_name("{registered[0]}").build(), with the weights of '
            f"{weights}; it is PyTorch itself.",
        ]
    base, _, target = str(row["artefact"]).partition("@")
    *_, precision, form = base.rsplit(".", 2)
    try:
        usual = engine_of_format(form)
    except UnknownNameError:
        return []
    options = [f'"{_ARTEFACTS}/{row["artefact"]}"']
    options += [f"threads={row['threads']}"] if row["threads"] != 1 else []
    options += [f'engine="{row["engine"]}"'] if row["engine"] != usual else []
    lines = [f"Use it: edgeline.load({', '.join(options)})"]
    if registered is not None:
        model, dataset = registered
        command = f"export-model {model} --dataset {dataset} --format {form} --precision {precision}"
        lines.append(f"Make it: {command}{_target_option(target)}")
    return lines


def record(found: Recommendation) -> dict[str, Any]:
    """Return a recommendation as plain JSON; `winner` is null where no row met the limits."""
    ranking = found.ranking
    first, second = (*ranking.rows, None, None)[:2]
    nearest = ranking.nearest
    return {
        "schema_version": SCHEMA_VERSION,
        "model": found.model,
        "objective": ranking.objective,
        "batch": found.batch,
        "limits": asdict(found.limits),
        "reports": [{"path": str(source.path), "created": source.report["created"]} for source in found.sources],
        "of_another_device": found.elsewhere,
        "notes": list(found.notes),
        "winner": first and _candidate_record(first.candidate),
        "tie_broken_by": ranking.broken_by,
        "ranked": [_ranked_record(row) for row in ranking.rows],
        "left_out": [{**_candidate_record(out.candidate), "reasons": list(out.reasons)} for out in ranking.left_out],
        "nearest_miss": nearest and {**_candidate_record(nearest.candidate), "options": nearest.options},
        "why": _why(found) if ranking.rows else [],
        "gap": _gap_record(first, second),
        "runner_up_costs": _cost(ranking),
        "others": {other.objective: other.winner and _candidate_record(other.winner) for other in found.others},
        "use": use_lines(first.candidate) if first else [],
    }


def _why(found: Recommendation) -> list[str]:
    without = [index for index, source in enumerate(found.sources) if source.report["roofline"] is None]
    return sentences(found.ranking, without)


def _cost(ranking: Ranking) -> str | None:
    if len(ranking.rows) < 2:
        return None
    return cost_text(ranking.rows[0].candidate, ranking.rows[1], ranking.objective)


def _elsewhere_text(found: Recommendation) -> str:
    cpu = found.sources[0].report["fingerprint"]["cpu"]
    gpu = found.sources[0].report["fingerprint"]["gpu"]
    return (
        f"Across hosts: measured on {cpu}{f' with {gpu}' if gpu else ''}. It holds for that device, not for this one."
    )


def _left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    return [f"{described(out.candidate)}: {', '.join(out.reasons)}" for out in left_out]


def _other_lines(others: Sequence[Ranking]) -> list[str]:
    lines = []
    for other in others:
        if not other.rows:
            lines.append(f"By {other.objective}: none, as no row has what it takes.")
            continue
        winner, tied = other.rows[0].candidate, [row.candidate for row in other.rows[1:] if row.tied]
        level = f", level with {', '.join(map(described, tied))}" if tied else ""
        lines.append(f"By {other.objective}: {described(winner)}, {figure_text(winner, other.objective)}{level}.")
    return lines


def _batch_text(candidate: Candidate) -> str:
    scenario = candidate.row["scenario"]
    return str(candidate.batch) if scenario == "single-stream" else f"{candidate.batch} {scenario}"


def _with_engine(candidate: Candidate) -> int | None:
    size, engine = candidate.size_bytes, candidate.engine_bytes
    return None if size is None or engine is None else size + engine


def _target_option(target: str) -> str:
    """Return the option behind an artefact's `@`: GPUs as `sm89-sm120`, else a target of the C format."""
    if not target:
        return ""
    if re.fullmatch(r"sm\d{2,3}(-sm\d{2,3})*", target):
        numbers = (part.removeprefix("sm") for part in target.split("-"))
        return f" --compute-capability {','.join(f'{number[:-1]}.{number[-1]}' for number in numbers)}"
    return f" --target {target}"


def _candidate_record(one: Candidate) -> dict[str, Any]:
    row = one.row
    return {
        "engine": row["engine"], "artefact": row["artefact"], "precision": row["precision"],
        "scenario": row["scenario"], "batch": one.batch, "threads": row["threads"], "p50_s": one.p50_s,
        "throughput_per_s": one.throughput_per_s, "peak_bytes": one.peak_bytes, "size_bytes": one.size_bytes,
        "engine_bytes": one.engine_bytes, "accuracy": row["accuracy"], "drop": one.drop,
        "speed_of_light_s": one.light_s,
    }  # fmt: skip


def _ranked_record(row: Ranked) -> dict[str, Any]:
    verdict = row.verdict
    judged: Mapping[str, Any] = {
        "time_ratio": verdict and verdict.ratio, "time_ci95": verdict and verdict.ci95,
        "time_noise": verdict and verdict.noise, "time_verdict": verdict and verdict.word,
    }  # fmt: skip
    return {**_candidate_record(row.candidate), "tied": row.tied, **judged}


def _gap_record(first: Ranked | None, second: Ranked | None) -> dict[str, Any] | None:
    """Return the factors of the runner-up's time over the winner's, and the layer in which most of it lies."""
    if first is None or second is None:
        return None
    gap, layer = gap_of(first.candidate, second.candidate), layer_gap_of(first.candidate, second.candidate)
    return None if gap is None else {**asdict(gap), "layer": layer and asdict(layer)}
