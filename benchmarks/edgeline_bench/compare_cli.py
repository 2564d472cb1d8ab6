"""The command `compare-reports`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgeline import interrupts
from edgeline.command import Parser, note, run_command, share
from edgeline.errors import EXIT_GATE, EXIT_OK, InputError, MissingCapabilityError
from edgeline.files import write_atomically
from edgeline_bench.report import read_report

if TYPE_CHECKING:
    from edgeline_bench.compare import Comparison

_SUFFIXES = (".md", ".html", ".json")

EPILOG = """A row's ratio is the new time over the old one, each divided by the reference kernel's time in the
same round. "slower" or "faster" is said where Mann-Whitney's p, corrected for the number of rows, is
below 0.05 and the ratio lies beyond the noise.

exit codes: 0 compared, 1 a row is slower than --fail-on-regression allows, 2 the reports are not comparable

examples:
  compare-reports before.json after.json
  compare-reports before.json after.json --fail-on-regression 5% --out comparison.md
  compare-reports monday.json tuesday.json wednesday.json --out week.html
  compare-reports desk.json board.json --across-hosts"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("compare-reports", "Say, row by row, whether a new report is faster, slower or the same.", EPILOG)
    parser.add_argument("old", metavar="OLD", type=Path, help="a report of benchmark-model: the base")
    parser.add_argument("new", metavar="NEW", type=Path, help="a later one, compared with it")
    parser.add_argument("more", metavar="MORE", type=Path, nargs="*", help="further ones, each compared with OLD")
    parser.add_argument(
        "--noise",
        type=share,
        metavar="SHARE",
        help="differences below it are none, e.g. 3%% (default: 5%% and what the rounds of the two reports show)",
    )
    parser.add_argument(
        "--across-hosts", action="store_true", help="compare devices on purpose: raw times, labelled so"
    )
    parser.add_argument(
        "--fail-on-regression",
        type=share,
        metavar="SHARE",
        help="exit 1 when a row is called slower by more, e.g. 5%%",
    )
    parser.add_argument(
        "--out", type=_out, action="append", metavar="FILE",
        help="write the comparison, too: FILE.md, FILE.html or FILE.json; may be given again",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


def _out(text: str) -> Path:
    if Path(text).suffix not in _SUFFIXES:
        raise argparse.ArgumentTypeError(f"expected a file that ends in {', '.join(_SUFFIXES)}, got '{text}'")
    return Path(text)


def _body(args: argparse.Namespace) -> int:
    outs: list[Path] = args.out or []
    paths = [args.old, args.new, *args.more]
    for out in outs:
        if out.resolve() in [path.resolve() for path in paths]:
            raise InputError(f"--out {out} is one of the reports: it would be lost; name another file")
    reports = [read_report(path) for path in paths]
    _need_packages(outs)
    with interrupts.held():
        from edgeline_bench import compare_text
        from edgeline_bench.compare import compare_all
    comparison = compare_all(_names(paths), reports, args.noise, args.across_hosts)
    for line in comparison.notes:
        note(line)
    if args.json:
        print(json.dumps(compare_text.record(comparison), indent=2))
    else:
        print(compare_text.plain_text(comparison))
    for out in outs:
        write_atomically(out, _content(out.suffix, comparison))
        note(f"comparison: {out}")
    return EXIT_OK if args.fail_on_regression is None else _gate(comparison, args.fail_on_regression)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what the reports are called: their file names; where these do not tell them apart, with their folders."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    whole = [path.absolute() for path in paths]
    shared = os.path.commonpath(
        [path.parent for path in whole]
    )  # a page that is sent around names no more than it must
    return [str(path.relative_to(shared)) for path in whole]


def _content(suffix: str, comparison: Comparison) -> str:
    with interrupts.held():
        from edgeline_bench import compare_text

        if suffix == ".html":
            from edgeline_bench.compare_page import page_from_comparison
    if suffix == ".html":
        return page_from_comparison(comparison)
    if suffix == ".json":
        return json.dumps(compare_text.record(comparison), indent=2) + "\n"
    return compare_text.markdown(comparison)


def _gate(comparison: Comparison, limit: float) -> int:
    """Return 1 when a row is called slower by more than `limit`, or when a report is INVALID and nothing is shown."""
    if not all(report["valid"] for report in comparison.reports):
        note("compare-reports: an INVALID report shows no absence of a regression: measure again")
        return EXIT_GATE
    verdicts = [row.verdict for rows in comparison.rows for row in rows]
    worse = [verdict for verdict in verdicts if verdict.word == "slower" and verdict.ratio > 1 + limit]
    if worse:
        note(f"compare-reports: {len(worse)} of {len(verdicts)} rows are slower by more than {limit:.0%}")
        return EXIT_GATE
    open_rows = [verdict for verdict in verdicts if verdict.ci95 is None or verdict.ci95[1] > 1 + limit]
    if open_rows:
        note(
            f"in {len(open_rows)} of {len(verdicts)} rows the interval reaches above {limit:.0%}: one could hide there"
        )
    return EXIT_OK


def _need_packages(outs: Sequence[Path]) -> None:
    needed = ["scipy", *(["plotly"] if any(out.suffix == ".html" for out in outs) else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingCapabilityError(f"comparing needs {', '.join(missing)}: pip install 'edgeline[bench]'")


if __name__ == "__main__":
    raise SystemExit(main())
