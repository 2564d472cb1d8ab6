"""What benchmark-model can be told: its arguments, and the checks that need nothing but their text."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from edgeline.backends import ENGINES
from edgeline.command import Parser, share
from edgeline_bench.scenarios import SCENARIOS

_DAY_S = 86_400
EPILOG = """examples:
  benchmark-model artifacts/lenet-mnist-10k.fp32.onnx
  benchmark-model artifacts/lenet-mnist-10k.fp32.onnx --batch 1 --threads 2 --out two-threads.json
  benchmark-model artifacts/* --baseline none
  benchmark-model lenet --formats all --precision fp32,int8
  benchmark-model artifacts/lenet-mnist-10k.fp16.trt --engine onnxruntime"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of benchmark-model."""
    parser = Parser(
        "benchmark-model",
        "Measure artefacts against eager PyTorch, and write a report: JSON, Markdown and a page.",
        EPILOG,
    )
    parser.add_argument("artefacts", metavar="ARTEFACT", nargs="+", type=Path,
                        help="artefact folders; with --formats, networks of train-model --list")  # fmt: skip
    forms = parser.add_argument_group("every form of a network (benchmark-model lenet --formats all)")
    forms.add_argument(
        "--formats", type=_names, metavar="NAME,NAME",
        help="all, or formats of export-model --list-formats: forms that are missing are exported first, and with all "
        "those that cannot be had are left out, with the reason",
    )  # fmt: skip
    forms.add_argument(
        "--precision", type=_names, metavar="NAME,NAME",
        help="their precisions (fp32); with all formats, fp32 adds bf16 where an engine has it",
    )  # fmt: skip
    forms.add_argument("--artifacts", type=Path, metavar="FOLDER", help="where they lie and are written (artifacts)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the report (default: a new one in reports/); "
                        ".md and .html are written beside it")  # fmt: skip
    parser.add_argument(
        "--batch", type=_sizes, metavar="N,N", help="batch sizes (1,8,64, or the one that the graph fixes)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of one call, for every engine")
    parser.add_argument(
        "--pin", type=_cores, metavar="CORE,CORE", help="cores to run on (default: the last ones; 'any': none)"
    )
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), help="for the artefacts, instead of the one that fits each"
    )
    parser.add_argument("--baseline", choices=("eager", "none"), default="eager", help="what to measure beside them")
    parser.add_argument(
        "--weights", type=Path, metavar="PATH", help="the baseline's weights: a file or a folder (weights)"
    )
    parser.add_argument(
        "--factory", metavar="NAME", help="the baseline of a factory's artefact: package.module:factory"
    )
    parser.add_argument(
        "--mode", choices=("quick", "mlperf"), default="quick",
        help="quick: about --seconds a point, our own clock; mlperf: then MLPerf's LoadGen, by its own rules",
    )  # fmt: skip
    parser.add_argument(
        "--scenario", type=_scenarios, default="single-stream", metavar="NAME,NAME",
        help=f"{', '.join(SCENARIOS)}, or all",
    )  # fmt: skip
    parser.add_argument("--server-qps", type=_positive, metavar="N", help="queries a second for the server scenario "
                        "(default: the highest rate that holds the latency bound is searched for)")  # fmt: skip
    parser.add_argument("--latency-bound", type=_positive, metavar="S", help="seconds within which 99 %% of a server's "
                        "queries must be answered (default: ten times the engine's median, at least 0.01)")  # fmt: skip
    parser.add_argument("--mlperf-seconds", type=_seconds, metavar="S", help="shorten LoadGen's 600 s a row; its "
                        "record is then stamped non-compliant")  # fmt: skip
    parser.add_argument("--no-roofline", action="store_true", help="measure no ceilings and no time per layer")
    parser.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="S", help="time for each engine at each batch size"
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="into how many interleaved turns it is cut")
    # For the harness's own check that it sees a slowdown: benchmarks/experiments/false_alarms.py.
    parser.add_argument("--slowdown", type=share, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout, without raw samples")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,6}(,[1-9]\d{0,6})*", text):
        raise argparse.ArgumentTypeError(f"expected batch sizes like 1,8,64, got '{text}'")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"[\w+-]+(,[\w+-]+)*", text):
        raise argparse.ArgumentTypeError(f"expected names like fp32,int8, got '{text}'")
    return tuple(dict.fromkeys(text.split(",")))


def _cores(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"any|\d{1,4}(,\d{1,4})*", text):
        raise argparse.ArgumentTypeError(f"expected cores like 0,1, or 'any', got '{text}'")
    return () if text == "any" else tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _seconds(text: str) -> float:
    expected = "seconds above 0 and below a day"
    value = _above_zero(text, expected)
    if value >= _DAY_S:
        raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'")
    return value


def _positive(text: str) -> float:
    return _above_zero(text, "a number above 0")


def _above_zero(text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'")
    return value


def _scenarios(text: str) -> tuple[str, ...]:
    names = tuple(SCENARIOS) if text == "all" else tuple(dict.fromkeys(text.split(",")))
    unknown = next((name for name in names if name not in SCENARIOS), None)
    if unknown is not None:
        raise argparse.ArgumentTypeError(f"unknown scenario '{unknown}'; known: {', '.join(SCENARIOS)}, all")
    return names
