"""The command `compare-reports`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgeline.command import Parser, note, run_command, share
from edgeline.errors import EXIT_GATE, EXIT_OK
from edgeline_bench import units
from edgeline_bench.compare import NOISE_FLOOR, Row, compare
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
    parser.add_argument(
        "--noise", type=share, default=NOISE_FLOOR, metavar="SHARE", help="differences below it are none, e.g. 3%%"
    )
    parser.add_argument(
        "--fail-on-regression",
        type=share,
        metavar="SHARE",
        help="exit 1 when a row is called slower by more, e.g. 5%%",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


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
    return EXIT_OK if args.fail_on_regression is None else _gate(rows, (old, new), args.fail_on_regression)


def _gate(rows: Sequence[Row], reports: tuple[Report, Report], limit: float) -> int:
    """Return 1 when a row is called slower by more than `limit`, or when a report is INVALID and nothing is shown."""
    if not all(report["valid"] for report in reports):
        note("compare-reports: an INVALID report shows no absence of a regression: measure again")
        return EXIT_GATE
    worse = [row for row in rows if row.verdict.word == "slower" and row.verdict.ratio > 1 + limit]
    if worse:
        note(f"compare-reports: {len(worse)} of {len(rows)} rows are slower by more than {limit:.0%}")
        return EXIT_GATE
    open_rows = [row for row in rows if row.verdict.ci95 is None or row.verdict.ci95[1] > 1 + limit]
    if open_rows:
        note(f"in {len(open_rows)} of {len(rows)} rows the interval reaches above {limit:.0%}: one could hide there")
    return EXIT_OK


def _table(rows: Sequence[Row]) -> Table:
    cells = tuple(
        (
            row.key[0], row.key[1], str(row.key[4]), units.seconds(row.old_s), units.seconds(row.new_s),
            f"{row.verdict.ratio:.3f}", _interval(row),
            f"{row.verdict.noise:.1%}", row.verdict.word,
        )
        for row in rows
    )  # fmt: skip
    heading = ("engine", "artefact", "batch", "old p50", "new p50", "ratio", "95 % interval", "noise", "verdict")
    return Table("Comparison", heading, cells, 2)


def _interval(row: Row) -> str:
    return "-" if row.verdict.ci95 is None else f"{row.verdict.ci95[0]:.3f} to {row.verdict.ci95[1]:.3f}"


def _note_versions(old: Report, new: Report) -> None:
    before, after = old["fingerprint"]["versions"], new["fingerprint"]["versions"]
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            note(f"{name}: {before.get(name, 'absent')} in the old report, {after.get(name, 'absent')} in the new one")


if __name__ == "__main__":
    raise SystemExit(main())
