"""The command `compare-reports`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgeline.command import Parser, note, run_command
from edgeline.errors import EXIT_GATE, EXIT_OK

from edgeline_bench import units
from edgeline_bench.compare import Row, compare
from edgeline_bench.report import Report, read_report
from edgeline_bench.tables import Table, plain_text

EPILOG = """A row's ratio is the new time over the old one, each divided by the reference kernel's time in the
same round. "slower" or "faster" is said where the whole 95 % interval lies outside the noise.

exit codes: 0 compared, 1 a row is slower than --fail-on-regression allows, 2 the reports are not comparable

examples:
  compare-reports before.json after.json
  compare-reports before.json after.json --fail-on-regression 5%"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("compare-reports", "Say, row by row, whether a new report is faster, slower or the same.", EPILOG)
    parser.add_argument("old", metavar="OLD", type=Path, help="a report of benchmark-model")
    parser.add_argument("new", metavar="NEW", type=Path, help="a later one")
    parser.add_argument("--noise", type=_share, metavar="SHARE", help="differences below it are none, e.g. 3%% "
                        "(default: what the reports' own rounds show, at least 5%%)")  # fmt: skip
    parser.add_argument(
        "--fail-on-regression",
        type=_share,
        metavar="SHARE",
        help="exit 1 when a row is called slower by more, e.g. 5%%",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


def _share(text: str) -> float:
    value = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    if not 0 <= value < 1:
        raise ValueError(text)
    return value


def _body(args: argparse.Namespace) -> int:
    old, new = read_report(args.old), read_report(args.new)
    rows = compare(old, new, args.noise)
    for path, report in ((args.old, old), (args.new, new)):
        if not report["valid"]:
            note(f"{path} is INVALID, take what follows with care: {'; '.join(report['invalid_reasons'])}")
    _note_versions(old, new)
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print(plain_text(_table(rows)))
    limit = args.fail_on_regression
    worse = [] if limit is None else [r for r in rows if r.verdict.word == "slower" and r.verdict.ratio > 1 + limit]
    if worse:
        note(f"compare-reports: {len(worse)} of {len(rows)} rows are slower by more than {limit:.0%}")
        return EXIT_GATE
    return EXIT_OK


def _table(rows: Sequence[Row]) -> Table:
    cells = tuple(
        (
            row.key[0], row.key[1], str(row.key[4]), units.seconds(row.old_s), units.seconds(row.new_s),
            f"{row.verdict.ratio:.3f}", f"{row.verdict.ci95[0]:.3f} to {row.verdict.ci95[1]:.3f}",
            f"{row.verdict.noise:.1%}", row.verdict.word,
        )
        for row in rows
    )  # fmt: skip
    heading = ("engine", "artefact", "batch", "old p50", "new p50", "ratio", "95 % interval", "noise", "verdict")
    return Table("Comparison", heading, cells, 2)


def _note_versions(old: Report, new: Report) -> None:
    before, after = old["fingerprint"]["versions"], new["fingerprint"]["versions"]
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            note(f"{name}: {before.get(name, 'absent')} in the old report, {after.get(name, 'absent')} in the new one")


if __name__ == "__main__":
    raise SystemExit(main())
