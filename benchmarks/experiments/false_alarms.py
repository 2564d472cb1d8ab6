"""How often compare-reports cries wolf, and how often it sees a wolf: runs of the same thing, compared in pairs.

    python benchmarks/experiments/false_alarms.py --pairs 40 --out docs/false-alarms.md
    python benchmarks/experiments/false_alarms.py --pairs 40 --inject 10% --out docs/seen-slowdowns.md

Measures one artefact beside eager PyTorch twice for each pair, as the command benchmark-model in a process of its own.
The reports are kept in a folder; one that is there is not measured again, so an interrupted experiment goes on where it
stopped. With --inject the artefact's engine is slowed in the second run of each pair; eager is left alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeline.command import Parser, note, run_command, share
from edgeline.errors import InputError, ResourceError
from edgeline.files import write_atomically
from edgeline_bench.compare import Row, compare
from edgeline_bench.report import Report, read_report
from edgeline_bench.tables import Table, markdown
from edgeline_bench.verdicts import MIN_ROUNDS, NOISE_FLOOR

_GATE = 0.05  # what a slowdown is held against: --fail-on-regression 5%
Pair = tuple[Report, Report, list[Row]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("false_alarms.py", "Compare runs of the same thing in pairs, and write how often they differ.")
    parser.add_argument("--pairs", type=int, default=40, metavar="N", help="how many pairs of runs")
    parser.add_argument("--inject", type=share, default=0.0, metavar="SHARE", help="slow the second runs, e.g. 10%%")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md", help="where the outcome is written")
    parser.add_argument("--artefact", type=Path, default=Path("artifacts/lenet-mnist-10k.fp32.onnx"), help="the folder")
    parser.add_argument("--weights", type=Path, default=Path("weights"), metavar="PATH", help="the baseline's weights")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="for each engine at each batch size")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS, metavar="N", help="interleaved turns")
    parser.add_argument("--folder", type=Path, metavar="PATH", help="the reports (default: one in reports/)")
    return parser


def _body(args: argparse.Namespace) -> None:
    if args.pairs < 1 or args.rounds < MIN_ROUNDS:
        raise InputError(f"--pairs must be above 0, and --rounds at least {MIN_ROUNDS}: fewer give no verdict")
    name = f"slowed-by-{args.inject:.0%}" if args.inject else "false-alarms"
    folder: Path = args.folder or Path("reports") / name
    pairs: list[Pair] = []
    for index in range(args.pairs):
        paths = folder / f"{index:03d}-first.json", folder / f"{index:03d}-second.json"
        first = _measured(args, paths[0], 0.0)
        second = _measured(args, paths[1], args.inject)
        pairs.append((first, second, compare(first, second)))
        words = sorted({row.verdict.word for row in pairs[-1][2]})
        note(f"pair {index + 1} of {args.pairs}: {', '.join(words)}")
    write_atomically(args.out, text_of(pairs, args.artefact.name, args.inject, _settings(args)))


def _measured(args: argparse.Namespace, path: Path, slowdown: float) -> Report:
    """Return the report at `path`, measured now unless it is there. Raises ResourceError when it cannot be measured."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        note(f"measuring {path.name}")
        command = [
            sys.executable, "-m", "edgeline_bench.cli", args.artefact, "--weights", args.weights, "--seconds",
            args.seconds, "--rounds", args.rounds, "--slowdown", slowdown, "--no-roofline", "--out", path,
        ]  # fmt: skip
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if result.returncode != 0:
            raise ResourceError(f"benchmark-model ended with {result.returncode}: {result.stderr.strip()[-500:]}")
    report = read_report(path)
    protocol = report["protocol"]
    wanted = (args.rounds, args.seconds / args.rounds, slowdown)
    artefacts = {result["artefact"] for result in report["results"] if result["engine"] != "eager"}
    found = (protocol["rounds"], protocol["slot_s"], protocol["slowdown"])
    if found != wanted or artefacts != {args.artefact.name}:
        raise InputError(f"{path} was measured with other settings: name another --folder, or remove {path.parent}")
    return report


def _settings(args: argparse.Namespace) -> str:
    """Return what was typed, without paths."""
    inject = f" --inject {args.inject:.0%}" if args.inject else ""
    return f"--pairs {args.pairs} --seconds {args.seconds:g} --rounds {args.rounds}{inject}"


def text_of(pairs: Sequence[Pair], artefact: str, inject: float, settings: str) -> str:
    """Return the outcome as Markdown: the count first, then a row's ratios, then settings and machine."""
    lines = _slowdown_lines(pairs, artefact, inject) if inject else _alarm_lines(pairs)
    valid = sum(first["valid"] and second["valid"] for first, second, _ in pairs)
    title = f"A slowdown of {inject:.0%}: how often it is seen" if inject else "False alarms of compare-reports"
    return "\n".join([
        f"# {title}", "", *lines, "",
        f"In {valid} of the {len(pairs)} pairs both reports were VALID; all pairs are counted.", "",
        markdown(_ratios(pairs)), markdown(_machine(pairs, settings)),
    ])  # fmt: skip


def _alarm_lines(pairs: Sequence[Pair]) -> list[str]:
    rows = [row for _, _, found in pairs for row in found]
    wrong = [row for row in rows if row.verdict.word != "same"]
    alarmed = sum(any(row.verdict.word != "same" for row in found) for _, _, found in pairs)
    return [
        "Two runs of the same thing, one after the other, no run in more than one pair: each verdict of faster or "
        "slower is a false alarm.", "",
        f"**{alarmed} of {len(pairs)} comparisons said faster or slower in any row** "
        f"({len(wrong)} of {len(rows)} rows).",
    ]  # fmt: skip


def _slowdown_lines(pairs: Sequence[Pair], artefact: str, inject: float) -> list[str]:
    slowed = [[row for row in found if row.key[1] == artefact] for _, _, found in pairs]
    rows = [row for found in slowed for row in found]
    others = [row for _, _, found in pairs for row in found if row.key[1] != artefact]
    seen = sum(row.verdict.word == "slower" for row in rows)
    failed = sum(any(r.verdict.word == "slower" and r.verdict.ratio > 1 + _GATE for r in found) for found in slowed)
    wrong = sum(row.verdict.word != "same" for row in others)
    return [
        f"In the second run of each pair each call of {artefact} took {inject:.0%} longer, by keeping the core busy.",
        "",
        f"**{seen} of {len(rows)} slowed rows were called slower; {failed} of {len(pairs)} comparisons would end "
        f"--fail-on-regression {_GATE:.0%} with exit code 1.** Of the rows that were not slowed, {wrong} of "
        f"{len(others)} were called faster or slower.",
    ]  # fmt: skip


def _ratios(pairs: Sequence[Pair]) -> Table:
    """Return how the ratios of each row spread over the pairs."""
    heading = ("engine", "artefact", "batch", "lowest", "5 %", "median", "95 %", "highest", "median noise", "faster",
               "slower")  # fmt: skip
    cells = []
    for same_row in zip(*(found for _, _, found in pairs), strict=True):
        verdicts = [row.verdict for row in same_row]
        ratios = np.quantile([verdict.ratio for verdict in verdicts], [0, 0.05, 0.5, 0.95, 1])
        noise = np.median([verdict.noise for verdict in verdicts if verdict.noise is not None])
        words = [verdict.word for verdict in verdicts]
        key = same_row[0].key
        cells.append((key[0], key[1], str(key[4]), *(f"{ratio:.3f}" for ratio in ratios), f"{noise:.1%}",
                      str(words.count("faster")), str(words.count("slower"))))  # fmt: skip
    note_ = (
        f"Ratios of the second run to the first; the noise is {NOISE_FLOOR:.0%}, what the rounds show, and by how much "
        "the reference kernel changed."
    )
    return Table("Ratios", heading, tuple(cells), 2, note_)


def _machine(pairs: Sequence[Pair], settings: str) -> Table:
    first, last = pairs[0][0], pairs[-1][1]
    machine, protocol = first["fingerprint"], first["protocol"]
    loads = [report["protocol"]["foreign_load"] for pair in pairs for report in pair[:2]]
    known = [load for load in loads if load is not None]
    load = f"{np.median(known):.1%} of a core in the median run, {max(known):.1%} at most" if known else "not readable"
    facts = (
        ("settings", settings),
        ("cpu", f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores usable"),
        ("isa", " ".join(machine["isa"]) or "-"),
        ("memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB"),
        ("system", f"{machine['os']}, Python {machine['python']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())),
        ("protocol", f"{protocol['rounds']} rounds of {protocol['slot_s']:.3g} s"),
        ("threads", str(protocol["threads"])),
        ("other processes", load),
        ("measured", f"{first['created']} to {last['created']}"),
    )
    return Table("Machine and settings", ("what", "found"), facts, 2)


if __name__ == "__main__":
    raise SystemExit(main())
