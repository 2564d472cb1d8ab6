"""docs/results/peers.md: every engine side by side, from the raw reports of benchmark-model --formats all.

Nothing is measured or weighed here. What is not VALID is shown and marked, and Edgeline's own form is named where
another engine is faster.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeline_bench import units
from edgeline_bench.pareto import Result, front_of, size_bytes
from edgeline_bench.report import Report
from edgeline_bench.tables import Table, arithmetic, markdown, start_s
from edgeline_bench.verdicts import MIN_ROUNDS, ratio_interval

OURS = "native"
_EAGER = ("eager", "torch-compile")
_FLOATS = ("fp32", "bf16")  # side by side in one table: some engines take bf16 where fp32 is asked for


@dataclass(frozen=True, slots=True)
class Run:
    """One raw report: of one network at one batch size, on so many threads; `file` is its name beside the page."""

    model: str
    threads: int
    batch: int
    file: str
    report: Report

    @property
    def rows(self) -> list[Result]:
        """Its rows."""
        return list(self.report["results"])


def page_of(runs: Sequence[Run], command: str) -> str:
    """Return the page; `command` makes it again."""
    newest = max(runs, key=lambda run: str(run.report["created"])).report
    return "\n".join([
        "# Every engine side by side",
        "",
        _summary(runs),
        "",
        *_not_fastest(runs),
        *(part for model in _models(runs) for part in _of_model(runs, model)),
        markdown(_left_out(runs)),
        _how(newest),
        markdown(_facts(newest, command)),
        markdown(_reports(runs)),
    ])  # fmt: skip


def engines_of(runs: Iterable[Run]) -> list[str]:
    """Return the engines that were measured, in the order of the reports."""
    return list(dict.fromkeys(row["engine"] for run in runs for row in run.rows))


def _models(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.model for run in runs))


def _summary(runs: Sequence[Run]) -> str:
    counts = ", ".join(
        f"{model} on {len(found)} engines ({', '.join(found)})"
        for model in _models(runs)
        for found in [engines_of(run for run in runs if run.model == model)]
    )
    valid = sum(run.report["valid"] for run in runs)
    return (
        f"{counts}. Each through its own converter and its session in Edgeline, numpy in and numpy out, interleaved in "
        f"rounds, a process each, pinned to the same cores. {valid} of {units.counted(len(runs), 'report')} VALID; "
        "rows of the others are marked (!)."
    )


def _not_fastest(runs: Sequence[Run]) -> list[str]:
    """Say where Edgeline's own form is not the fastest, by how much, and where it is."""
    slower, cases = [], 0
    for run in runs:
        for group in _groups(run):
            ours = next((row for row in group if row["engine"] == OURS), None)
            if ours is None:
                continue
            cases += 1
            best = min(group, key=_median_s)
            if best is not ours:
                slower.append(f"- {_case(run, ours)}: {_name(best)} {units.seconds(_median_s(best))}, "
                              f"{OURS} {units.seconds(_median_s(ours))}: {_ratio_text(ours, best)}.")  # fmt: skip
    return [
        "## Where Edgeline's own form is not the fastest",
        "",
        f"Edgeline's own form is `native`, the C library. Of {cases} cases (a network, precision, batch size and "
        f"number of threads; bf16 counts among fp32's) it is not the fastest in {len(slower)}{':' if slower else '.'}",
        "",
        *slower,
        "",
    ]  # fmt: skip


def _groups(run: Run) -> list[list[Result]]:
    """Return the rows that compete: those in floats, those in integers."""
    floats = [row for row in run.rows if row["precision"] in _FLOATS]
    integers = [row for row in run.rows if row["precision"] == "int8"]
    return [group for group in (floats, integers) if group]


def _case(run: Run, row: Result) -> str:
    return f"{run.model} {row['precision']}, batch {run.batch}, {units.counted(run.threads, 'thread')}{_mark(run)}"


def _mark(run: Run) -> str:
    return "" if run.report["valid"] else " (!)"


def _name(row: Result) -> str:
    return f"{row['engine']} {row['precision']}" if row["precision"] == "bf16" else str(row["engine"])


def _median_s(row: Result) -> float:
    return float(statistics.median(row["round_medians_s"]))


def _ratio_text(slow: Result, fast: Result) -> str:
    """Return how many times the time of `fast` the other takes, with the interval over rounds."""
    ratio = _median_s(slow) / _median_s(fast)
    if min(len(slow["round_medians_s"]), len(fast["round_medians_s"])) < MIN_ROUNDS:
        return f"{ratio:.2f} times its time"
    low, high = ratio_interval(fast["round_medians_s"], slow["round_medians_s"])
    return f"{ratio:.2f} times its time ({low:.2f} to {high:.2f})"


def _of_model(runs: Sequence[Run], model: str) -> list[str]:
    """Return the tables of one network: per precision and number of threads, and what it costs beside time."""
    chosen = [run for run in runs if run.model == model]
    parts = []
    for precisions in (_FLOATS, ("int8",)):
        for threads in sorted({run.threads for run in chosen}):
            ordered = sorted((run for run in chosen if run.threads == threads), key=lambda run: run.batch)
            parts.append(markdown(_time_table(model, ordered, precisions)))
    first = min(chosen, key=lambda run: (run.threads, run.batch))
    return [*parts, markdown(_cost_table(model, first)), _front(first)]


def _time_table(model: str, runs: Sequence[Run], precisions: Sequence[str]) -> Table:
    """Return the median time of a sample by batch size, fastest at the first batch size first."""
    names: dict[str, dict[int, Result]] = {}
    for run in runs:
        for row in run.rows:
            if row["precision"] in precisions:
                names.setdefault(_name(row), {})[run.batch] = row
    batches = [run.batch for run in runs]
    ordered = sorted(names.items(), key=lambda item: (batches[0] not in item[1], _sample_s(item[1].get(batches[0]))))
    cells = tuple(
        (name, *(text for run in runs for text in _time_cells(by_batch.get(run.batch), run, precisions)))
        for name, by_batch in ordered
    )
    heading = ("engine", *(text for batch in batches for text in (f"batch {batch}", "x native")))
    note = (
        "Median time of a sample: a call's time over its batch size. x native: times the time of Edgeline's C library "
        "in the same rounds."
    )
    title = f"{model} {precisions[0]}, {units.counted(runs[0].threads, 'thread')}"
    return Table(title, heading, cells, 1, note)


def _sample_s(row: Result | None) -> float:
    return 0.0 if row is None else _median_s(row) / int(row["batch"])


def _time_cells(row: Result | None, run: Run, precisions: Sequence[str]) -> tuple[str, str]:
    if row is None:
        return "-", "-"
    ours = [r for r in run.rows if r["engine"] == OURS and r["precision"] in precisions]
    ratio = "-" if not ours else f"{_median_s(row) / _median_s(ours[0]):.2f}"
    return units.seconds(_sample_s(row)) + _mark(run), ratio


def _cost_table(model: str, run: Run) -> Table:
    """Return what each form costs beside time, and how near the machine's limit it comes."""
    cells = tuple(
        (
            str(row["engine"]), str(row["precision"]), units.seconds(start_s(row)),
            units.megabytes(row["memory_bytes"]["peak"]), units.megabytes(size_bytes(row)),
            units.megabytes(row.get("engine_bytes")),
            "-" if row["accuracy"] is None else f"{row['accuracy']:.4f}", _light_text(row),
        )
        for row in run.rows
    )  # fmt: skip
    heading = ("engine", "precision", "start to logits", "peak memory", "reads", "engine's package", "accuracy",
               "of the speed of light")  # fmt: skip
    note = (
        f"At batch {run.batch}, {units.counted(run.threads, 'thread')}. Reads: the files that the engine opens. The "
        "package is the engine's own as installed, without what it depends on. The speed of light is what the measured "
        "roofline allows for the row's own precision."
    )
    return Table(f"{model}: what else it costs", heading, cells, 2, note)


def _light_text(row: Result) -> str:
    light = (row["speed_of_light_s"] or {}).get("warm")
    return f"{light / row['latency_s']['p50']:.0%}" if light else "-"


def _front(run: Run) -> str:
    names = ", ".join(f"{row['engine']} {arithmetic(row)}" for row in front_of(run.rows))
    return (
        f"Pareto front of latency, peak memory, size and accuracy at batch {run.batch}, "
        f"{units.counted(run.threads, 'thread')}: {names}.\n"
    )


def _left_out(runs: Sequence[Run]) -> Table:
    whys: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        for form in run.report.get("left_out") or ():
            models = whys.setdefault((form["format"], form["precision"], form["why"]), [])
            if run.model not in models:
                models.append(run.model)
    cells = tuple((name, precision, ", ".join(models), why) for (name, precision, why), models in whys.items())
    return Table("Left out", ("format", "precision", "network", "why"), cells, 4)


def _how(report: Report) -> str:
    protocol = report["protocol"]
    return (
        "## How they are called\n\n"
        "Each artefact is written by `export-model` through the project's own converter, judged on the test split, and "
        "run by its session with the settings that its documentation recommends for latency; docs/formats.md names "
        f"them and their sources. {protocol['rounds']} rounds in shuffled order; in its turn a worker warms up and is "
        "timed, off turn it is stopped. fp32 is fp32: OpenVINO takes bf16 where the processor has it unless told "
        "otherwise, so bf16 is a row of its own. Times of engines with Python bindings hold their bindings' cost; "
        "docs/results/c-peers.md times ONNX Runtime, OpenVINO and LiteRT through their own interfaces on bound "
        "arrays.\n"
    )


def _facts(report: Report, command: str) -> Table:
    machine: dict[str, Any] = report["fingerprint"]
    facts = (
        ("command", f"`{command}`"),
        ("cpu", f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores usable"),
        ("isa", " ".join(machine["isa"]) or "-"),
        ("memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB"),
        ("system", f"{machine['os']}, Python {machine['python']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())),
    )
    return Table("Machine and versions", ("what", "found"), facts, 2)


def _invalid(reasons: Sequence[str]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"INVALID: {reasons[0]}{more}"


def _reports(runs: Sequence[Run]) -> Table:
    cells = tuple(
        (f"[{run.file}](peers/{run.file})", run.report["created"],
         "VALID" if run.report["valid"] else _invalid(run.report["invalid_reasons"]))
        for run in runs
    )  # fmt: skip
    note = "`compare-reports` and `recommend-model --report` read them as they are."
    return Table("Raw reports", ("report", "measured", "verdict"), cells, 3, note)
