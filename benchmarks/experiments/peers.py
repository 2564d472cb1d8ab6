"""The C format beside the fastest of other people's engines, against what is asked of it.

    python benchmarks/experiments/litert_models.py --weights weights
    python benchmarks/experiments/peers.py --weights weights --out docs/results/c-peers.md

Exports each network, lets every engine that is installed answer the test digits, times those in interleaved rounds, a
process each, and writes what was asked and what was reached; all figures go into a .json beside it. A peer that is
missing is named in the outcome. Nothing else may run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeline.artefact import Artefact
from edgeline.command import Parser, note, run_command
from edgeline.errors import EdgelineError, InputError
from edgeline.files import write_atomically
from edgeline_bench import units
from edgeline_bench.fingerprint import fingerprint
from edgeline_bench.peers.cases import CASES, Case, Outcome, Setting, judge, measure, points_of
from edgeline_bench.peers.models import DATASET, exported, weights_of
from edgeline_bench.peers.page import page_of, record_of
from edgeline_bench.peers.program import Floor, Start, engine_start, measure_floor, program_start
from edgeline_bench.peers.requirements import FLOOR_MODEL, Line, floor_line, speed_lines, start_lines
from edgeline_bench.progress import StepPrinter
from edgeline_bench.units import counted
from edgeline_bench.validity import MIN_ROUNDS
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models.weights import DEFAULT_FOLDER

PROGRAM = "C program"
_LARGE_SLOT_S = 0.5  # alexnet's calls take 3 to 15 ms
_QUICK_ROUNDS, _QUICK_SLOT_S, _QUICK_DIGITS = 3, 0.05, 100
_FLOOR_SLOT_S = 0.1
_STARTS, _PROGRAM_STARTS = 5, 101


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("peers.py", "Time the C format beside ONNX Runtime, OpenVINO and LiteRT, and write tables.")
    models = list(dict.fromkeys(case.model for case in CASES))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md", help="where the outcome is written")
    parser.add_argument("--weights", type=Path, nargs="+", default=[DEFAULT_FOLDER], metavar="PATH",
                        help="weights files, or folders that hold them")  # fmt: skip
    parser.add_argument("--models", nargs="+", choices=models, default=models, help="which networks")
    parser.add_argument("--format", default="c", metavar="NAME", help="our format; others try the experiment out")
    parser.add_argument("--tflite", type=Path, default=Path("artifacts/litert"), metavar="FOLDER",
                        help="what litert_models.py wrote")  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("artifacts/peers"), metavar="FOLDER", help="for our exports")
    parser.add_argument("--rounds", type=int, default=31, metavar="N", help="interleaved turns")
    parser.add_argument("--slot", type=float, default=0.25, metavar="S", help="seconds of a turn, for small networks")
    parser.add_argument("--digits", type=int, default=2_000, metavar="N", help="test digits that judge the answers")
    parser.add_argument("--quick", action="store_true", help="only see that all of it works: the figures mean nothing")
    return parser


def _body(args: argparse.Namespace) -> None:
    if args.rounds < 1 or args.slot <= 0 or args.digits < 1:
        raise InputError("--rounds, --slot and --digits must be above 0")
    if args.quick:
        args.rounds, args.slot, args.digits = _QUICK_ROUNDS, _QUICK_SLOT_S, _QUICK_DIGITS
    created = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    machine = fingerprint()
    cores = tuple(sorted(os.sched_getaffinity(0)))
    setting = Setting(
        {model: weights_of(model, args.weights) for model in args.models}, args.tflite, args.work, args.digits,
        args.rounds, args.slot, cores,
    )  # fmt: skip
    cases = [case for case in CASES if case.model in args.models]
    artefacts = {
        key: exported(key[0], key[1], args.format, setting.weights[key[0]], args.work)
        # fp32 first: NNCF starts from that graph.
        for key in sorted({(case.model, case.precision) for case in cases})
    }
    outcomes = [_outcome(case, artefacts[case.model, case.precision], setting) for case in cases]
    lines, floor = speed_lines(outcomes), None
    starts: dict[str, Start | str] = {}
    if FLOOR_MODEL in args.models:
        artefact = artefacts[FLOOR_MODEL, "fp32"]
        floor = _floor(artefact, setting, args.quick)
        starts = _starts(artefact, setting, args.quick)
        lines += [floor_line(floor), *start_lines(starts, PROGRAM)]
    remarks = ["--quick: nothing here was measured long enough to mean anything"] if args.quick else []
    if args.rounds < MIN_ROUNDS:
        remarks.append(f"{counted(args.rounds, 'round')}: intervals need at least {MIN_ROUNDS}")
    remarks += floor.remarks if isinstance(floor, Floor) else ()
    facts = (
        ("command", " ".join(["python benchmarks/experiments/peers.py", *_settings(args)])),
        ("cpu", f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores usable"),
        ("isa", " ".join(machine["isa"]) or "-"),
        ("memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB"),
        ("system", f"{machine['os']}, Python {machine['python']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())),
        ("protocol", f"{args.rounds} interleaved rounds in shuffled order, {args.slot:g} s a turn ({_LARGE_SLOT_S} s "
                     f"for alexnet) after a warm-up until stable; a process each, stopped off turn; one thread on core "
                     f"{cores[-1]}, two on {' and '.join(map(str, cores[-2:]))}"),
        ("answers", f"{args.digits} digits of {DATASET}'s test split"),
        ("measured", created),
    )  # fmt: skip
    _write(args.out, lines, outcomes, starts, facts, remarks, floor)


def _write(
    out: Path,
    lines: list[Line],
    outcomes: list[Outcome],
    starts: dict[str, Start | str],
    facts: tuple[tuple[str, str], ...],
    remarks: list[str],
    floor: Floor | str | None,
) -> None:
    rest = {
        "facts": dict(facts),
        "remarks": remarks,
        "floor": floor.to_record() if isinstance(floor, Floor) else floor,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out.with_suffix(".json"), json.dumps(record_of(lines, outcomes, starts, rest), indent=1) + "\n")
    write_atomically(out, page_of(lines, outcomes, starts, facts, remarks))
    for line in lines:
        print(f"{line.subject}: {line.asked}: {line.found}, {line.verdict} ({line.detail})")


def _outcome(case: Case, artefact: Artefact, setting: Setting) -> Outcome:
    points, missing = points_of(case, artefact, setting)
    labels = load_split(DATASETS[DATASET], "test").labels
    judgements = judge(case, points, setting, labels)
    slot_s = max(setting.slot_s, _LARGE_SLOT_S) if case.model == "alexnet" else setting.slot_s
    with StepPrinter() as progress:
        found = measure(case, points, judgements, replace(setting, slot_s=slot_s), progress)
    outcome = replace(found, rows=(*found.rows, *missing))
    for row in outcome.rows:
        if row.median_s is not None:
            note(f"{case.title}: {row.engine} {units.seconds(row.median_s)}")
    return outcome


def _floor(artefact: Artefact, setting: Setting, quick: bool) -> Floor | str:
    note("timing the C function against the machine's floor")
    try:
        return measure_floor(artefact, setting.rounds, _QUICK_SLOT_S if quick else _FLOOR_SLOT_S, setting.cores[-1])
    except EdgelineError as error:
        note(f"no floor: {error}")
        return str(error)


def _starts(artefact: Artefact, setting: Setting, quick: bool) -> dict[str, Start | str]:
    note("timing starts")
    found: dict[str, Start | str] = {}
    try:
        found[PROGRAM] = program_start(artefact, 3 if quick else _PROGRAM_STARTS, setting.cores[-1])
    except EdgelineError as error:
        note(f"no start of a C program: {error}")
        found[PROGRAM] = str(error)
    points, missing = points_of(Case(FLOOR_MODEL, "fp32"), artefact, setting)
    found |= {row.engine: row.why or "" for row in missing}
    for point in points:
        try:
            found[point.engine] = engine_start(point, 1 if quick else _STARTS)
        except EdgelineError as error:
            found[point.engine] = str(error)
    return found


def _settings(args: argparse.Namespace) -> list[str]:
    """Return what was typed, without paths."""
    found = ["--quick"] if args.quick else ["--rounds", str(args.rounds), "--slot", f"{args.slot:g}"]
    return [*found, "--digits", str(args.digits), "--format", args.format, "--models", *args.models]


if __name__ == "__main__":
    sys.exit(main())
