"""Every engine side by side: LeNet and AlexNet, fp32 and int8, four batch sizes, one and two threads.

    python benchmarks/experiments/engines.py --weights weights --out docs/results/peers.md

Runs benchmark-model once per network, number of threads and batch size, which exports what is missing, and writes the
page with the raw reports beside it, compressed. Reports that are there are kept, so that it goes on where it was
stopped; those that are INVALID are measured again, --tries times. Nothing else may run on the machine meanwhile; it
takes about two hours on two cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeline.command import Parser, note, run_command
from edgeline.errors import InputError, ResourceError
from edgeline.files import write_atomically
from edgeline_bench.peers.overview import Run, page_of
from edgeline_bench.report import Report, read_report
from edgeline_train.models.weights import DEFAULT_FOLDER

MODELS = ("lenet", "alexnet")
BATCHES = (256, 1, 8, 64)  # the largest first: what is exported for it serves the others
THREADS = (1, 2)
_SECONDS = {"lenet": 2.0, "alexnet": 12.0}  # of a row; p90 needs 64 calls of the slowest engine at batch 1
COMMAND = "python benchmarks/experiments/engines.py --weights weights --out docs/results/peers.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("engines.py", "Time every engine that can be had here, and write a page.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md", help="the page; reports go into FILE/")
    parser.add_argument("--weights", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="trained weights")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), metavar="FOLDER", help="for the exports")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="which networks")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), metavar="N", help="which batch sizes")
    parser.add_argument("--threads", nargs="+", type=int, default=list(THREADS), metavar="N", help="which threads")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="interleaved turns")
    parser.add_argument("--tries", type=int, default=1, metavar="N", help="for reports that are INVALID")
    parser.add_argument("--page-only", action="store_true", help="write the page from the reports that are there")
    return parser


def _body(args: argparse.Namespace) -> None:
    if args.rounds < 1 or args.tries < 1:
        raise InputError("--rounds and --tries must be above 0")
    folder = args.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    cases = [(m, t, b) for m in args.models for t in args.threads for b in args.batches]
    if not args.page_only:
        for number, (model, threads, batch) in enumerate(cases):
            note(f"{number + 1} of {len(cases)}: {model}, batch {batch}, {threads} thread(s)")
            _measure(args, folder, model, threads, batch)
    runs = _runs(folder)
    if not runs:
        raise InputError(f"there are no reports in {folder}: leave --page-only out")
    write_atomically(args.out, page_of(runs, COMMAND))
    print(f"{args.out}: {len(runs)} reports")


def _measure(args: argparse.Namespace, folder: Path, model: str, threads: int, batch: int) -> None:
    path = folder / f"{model}-threads{threads}-batch{batch}.json.gz"
    for _ in range(args.tries):
        if path.exists() and read_report(path)["valid"]:
            return
        report = _report(args, folder / "new.json", model, threads, batch)
        content = gzip.compress(json.dumps(report, separators=(",", ":")).encode(), mtime=0)
        write_atomically(path, content)
        note(f"{path.name}: {'VALID' if report['valid'] else '; '.join(report['invalid_reasons'])}")


def _report(args: argparse.Namespace, path: Path, model: str, threads: int, batch: int) -> Report:
    """Run benchmark-model and return its report. Raises ResourceError with its last words."""
    command = [
        sys.executable, "-m", "edgeline_bench", model, "--formats", "all", "--precision", "fp32,int8", "--batch", batch,
        "--threads", threads, "--seconds", _SECONDS[model], "--rounds", args.rounds, "--weights", args.weights,
        "--artifacts", args.artifacts, "--out", path,
    ]  # fmt: skip
    result = subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL)
    if result.returncode != 0:
        raise ResourceError(f"benchmark-model {model} ended with {result.returncode}")
    report = read_report(path)
    for suffix in (".json", ".md", ".html"):
        path.with_suffix(suffix).unlink()
    return report


def _runs(folder: Path) -> list[Run]:
    """Return the reports of a folder, by network, threads and batch size."""
    runs = []
    for path in folder.glob("*.json.gz"):
        model, threads, batch = path.name.removesuffix(".json.gz").rsplit("-", 2)
        runs.append(
            Run(
                model,
                int(threads.removeprefix("threads")),
                int(batch.removeprefix("batch")),
                path.name,
                read_report(path),
            )
        )
    return sorted(runs, key=lambda run: (MODELS.index(run.model), run.threads, run.batch))


if __name__ == "__main__":
    sys.exit(main())
