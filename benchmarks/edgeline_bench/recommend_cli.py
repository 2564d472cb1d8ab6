"""The command `recommend-model`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeline import interrupts
from edgeline.command import Parser, note, run_command, share
from edgeline.errors import EXIT_GATE, EXIT_OK, MissingCapabilityError
from edgeline_export.c.budgets import size

if TYPE_CHECKING:
    from edgeline_bench.recommend_limits import Limits
    from edgeline_bench.recommend_reports import Source
    from edgeline_bench.recommend_text import Recommendation

OBJECTIVES = ("latency", "throughput", "memory", "size")

EPILOG = """Rows whose times do not differ beyond noise, by the rule of compare-reports, are a tie, which the next
objective breaks. Nothing is recommended from an INVALID report, nor from another device's.

exit codes: 0 recommended, 1 no row meets the limits, 2 no report to recommend from

examples:
  recommend-model lenet
  recommend-model lenet --objective memory --max-drop 0.01 --max-memory 64MB
  recommend-model lenet --objective throughput --batch 64 --json
  recommend-model lenet-mnist-10k --report reports/onnx.json --report reports/c.json"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("recommend-model", "Say which measured form of a network to use on this device, and why.", EPILOG)
    parser.add_argument("model", metavar="MODEL", help="a network, as lenet, or lenet-mnist-10k with its data set")
    parser.add_argument(
        "--report", type=Path, action="append", metavar="FILE.json",
        help="a report of benchmark-model; may be given again (default: this device's newest on MODEL in reports/)",
    )  # fmt: skip
    parser.add_argument("--objective", choices=OBJECTIVES, default="latency", help="what the best has the best of")
    parser.add_argument(
        "--max-drop", type=share, default=0.01, metavar="SHARE",
        help="accuracy that may be lost against the network as it was trained; 1: any, known or not",
    )  # fmt: skip
    parser.add_argument(
        "--max-memory", type=size, metavar="SIZE", help="a process's peak memory, as 64MB (KB: 1,024 bytes)"
    )
    parser.add_argument("--max-size", type=size, metavar="SIZE", help="size on disk, without the engine")
    parser.add_argument("--max-latency", type=_positive, metavar="S", help="median seconds of a call")
    parser.add_argument("--min-throughput", type=_positive, metavar="N", help="samples a second")
    parser.add_argument(
        "--batch", type=_count, metavar="N",
        help="a batch size that was measured (default: the smallest; for throughput each form's best)",
    )  # fmt: skip
    parser.add_argument("--threads", type=_count, metavar="N", help="rows that ran with so many threads (default: any)")
    parser.add_argument(
        "--across-hosts", action="store_true", help="take another device's reports on purpose: it holds for that device"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 10**7:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return value


def _body(args: argparse.Namespace) -> int:
    _need_packages()
    with interrupts.held():
        from edgeline_bench import recommend_text
        from edgeline_bench.fingerprint import fingerprint
        from edgeline_bench.recommend_limits import Limits
        from edgeline_bench.recommend_reports import Wanted, sources_of

    wanted = Wanted(args.model, args.threads, args.across_hosts, fingerprint())
    sources = sources_of(args.report or [], wanted)
    limits = Limits(args.max_drop, args.max_memory, args.max_size, args.max_latency, args.min_throughput)
    found = _recommendation(args, wanted.here, sources, limits)
    for line in found.notes:
        note(line)
    print(json.dumps(recommend_text.record(found), indent=2) if args.json else recommend_text.plain_text(found))
    if found.ranking.winner is None:
        note(f"recommend-model: {recommend_text.no_row_text(found)}")
        return EXIT_GATE
    return EXIT_OK


def _recommendation(
    args: argparse.Namespace, here: Mapping[str, Any], sources: Sequence[Source], limits: Limits
) -> Recommendation:
    """Rank the reports' rows by the objective, and by the others for comparison."""
    with interrupts.held():
        from edgeline_bench.comparable import device_differences
        from edgeline_bench.recommend import rank, rank_or_none
        from edgeline_bench.recommend_candidates import candidates_of
        from edgeline_bench.recommend_text import Recommendation

    candidates, notes = candidates_of([source.report for source in sources], args.model, args.threads)
    elsewhere = bool(device_differences(sources[0].report["fingerprint"], here))
    return Recommendation(
        model=args.model,
        sources=tuple(sources),
        ranking=rank(candidates, args.objective, limits, args.batch),
        others=tuple(rank_or_none(candidates, one, limits, args.batch) for one in OBJECTIVES if one != args.objective),
        limits=limits,
        batch=args.batch,
        elsewhere=elsewhere,
        notes=(*notes, *([] if elsewhere else _version_notes(sources, here))),
    )


def _version_notes(sources: Sequence[Source], here: Mapping[str, Any]) -> list[str]:
    """Say which packages are other ones here now than when a report was made: its figures are those of then."""
    return [
        f"{package} is {here['versions'][package]} here now, and was {version} when {source.path} was made"
        for source in sources
        for package, version in sorted(source.report["fingerprint"]["versions"].items())
        if here["versions"].get(package, version) != version
    ]


def _need_packages() -> None:
    if find_spec("scipy") is None:
        raise MissingCapabilityError("recommending needs scipy: pip install 'edgeline[bench]'")


if __name__ == "__main__":
    raise SystemExit(main())
