"""The command `edgeline`: info, build, run, selftest and doctor, on the device."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline import interrupts, native_library
from edgeline.artefact import open_artefact
from edgeline.backends import ENGINES, choose_engine, import_packages, session_class
from edgeline.command import Parser, note, run_command
from edgeline.doctor import can_run, examine
from edgeline.emulator import board_of, run_selftest_image
from edgeline.errors import (
    EXIT_CAPABILITY,
    EXIT_INPUT,
    EXIT_OK,
    GateError,
    InputError,
    MissingCapabilityError,
    ShapeError,
)
from edgeline.images import array_from_file
from edgeline.info_text import (
    lines_of_artefact,
    lines_of_board,
    lines_of_built,
    lines_of_engine,
    lines_of_library,
    lines_of_plan,
    print_lines,
    selftest_text,
)
from edgeline.loading import BUILDS, load
from edgeline.selftest import run_selftest
from edgeline.session import DEVICES, Session
from edgeline.tensorrt.building import build_plan, builder_of
from edgeline.tensorrt.preflight import examine_engine, examine_plan
from edgeline.tensorrt.products import PRODUCTS

EPILOG = """examples:
  edgeline info artifacts/lenet-mnist-10k.fp32.onnx
  edgeline run artifacts/lenet-mnist-10k.fp32.onnx digit.pgm
  edgeline selftest artifacts/lenet-mnist-10k.fp32.onnx
  edgeline build artifacts/lenet-mnist-10k.int8.trt
  edgeline info artifacts/lenet-mnist-10k.int8.trt/model.plan
  edgeline doctor"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_parser(), lambda args: int(args.body(args)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("edgeline", "Inspect, run and check artefacts on this device.", EPILOG)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, summary: str) -> Parser:
        return commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")

    info = add("info", "what an artefact or an engine file is, whether it is whole, and whether it can run here")
    run = add("run", "classify images or run arrays")
    selftest = add("selftest", "check that this device computes what the exporter verified")
    build = add("build", "build the TensorRT engine of an artefact for this device, test it, and cache it")
    doctor = add("doctor", "what this machine can run, why not the rest, and what fixes it")
    info.add_argument("path", metavar="PATH", type=Path, help="an artefact's folder, or a TensorRT engine (.plan, ...)")
    for command in (run, selftest, build):
        command.add_argument("artefact", metavar="ARTEFACT", type=Path, help="an artefact's folder")
    run.add_argument(
        "inputs", metavar="INPUT", nargs="+", type=Path, help=".png, .pgm, or .npy (pixels or network input)"
    )
    run.add_argument("--top", type=int, default=3, metavar="K", help="print the K most probable labels")
    build.add_argument("--rebuild", action="store_true", help="build it also where one is ready")
    for command in (run, selftest):
        command.add_argument("--device", choices=DEVICES, default="auto", help="where to run")
        command.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of one call")
        command.add_argument("--engine", choices=sorted(ENGINES), help="instead of the one that fits the format")
        command.add_argument("--build", choices=BUILDS, default="never", help="whether to build a missing engine first")
    bodies = ((info, _info), (run, _run), (selftest, _selftest), (build, _build), (doctor, _doctor))
    for command, body in bodies:
        command.add_argument("--json", action="store_true", help="print JSON on stdout")
        command.set_defaults(body=body)
    return parser


def _info(args: argparse.Namespace) -> int:
    if args.path.is_file():
        plan = examine_plan(args.path)
        print(json.dumps(plan.to_record(), indent=2)) if args.json else print_lines(lines_of_plan(plan))
        return EXIT_INPUT if plan.whole is False else EXIT_OK
    artefact = open_artefact(args.path)
    more: Mapping[str, Any] = {}
    lines: list[tuple[str, str]] = []
    if artefact.manifest.format in PRODUCTS:
        engine = examine_engine(artefact)
        more, lines = {"engine": engine.to_record()}, lines_of_engine(engine)
    elif board_of(artefact) is not None:
        lines = lines_of_board(artefact.manifest)
    elif artefact.manifest.format == native_library.FORMAT:
        library = native_library.examine_library(artefact)
        more, lines = {"library": library.to_record()}, lines_of_library(library)
    if args.json:
        print(json.dumps({**json.loads(artefact.manifest.to_json()), **more}, indent=2))
    else:
        print_lines([*lines_of_artefact(artefact), *lines])
    return EXIT_OK


def _build(args: argparse.Namespace) -> int:
    artefact = open_artefact(args.artefact)
    with interrupts.held():  # only the imports: Ctrl-C may end the build
        builder_of(artefact)
        import_packages("tensorrt", artefact.manifest.format)
    built = build_plan(artefact, rebuild=args.rebuild)
    for warning in built.warnings:
        note(f"the builder warns: {warning}")
    if built.strongly_typed is False:
        note(f"built without strong typing: {artefact.manifest.precision} is allowed in this engine, not demanded")
    if args.json:
        record = {**asdict(built), "path": str(built.path), "bytes": built.path.stat().st_size}
        print(json.dumps(record, indent=2))
    else:
        print_lines(lines_of_built(built))
    return EXIT_OK


def _run(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise InputError(f"--top must be at least 1, got {args.top}")
    rows = []
    with _load(args) as session:
        for path in args.inputs:
            found = _run_file(session, path, args.top)
            rows += found
            if not args.json:  # as it comes: a file that fails must not take the answers before it along
                _print_rows(found)
    if args.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
    return EXIT_OK


def _load(args: argparse.Namespace) -> Session:
    artefact = open_artefact(args.artefact)
    engine = choose_engine(artefact.manifest.format, args.engine)
    with interrupts.held():  # only the imports: what follows may build an engine, and Ctrl-C may end that
        session_class(engine)
        with contextlib.suppress(MissingCapabilityError):  # load() knows better which lack to name first
            import_packages(engine, artefact.manifest.format)
    return load(artefact, args.device, args.threads, args.engine, args.build)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        best = "  ".join(f"{guess['label']} {guess['probability']:.4f}" for guess in row["top"])
        print(f"{row['input']}: {row['top'][0]['label']}    ({best})", flush=True)


def _run_file(session: Session, path: Path, top: int) -> list[dict[str, Any]]:
    shape = session.manifest.inputs[0].shape
    try:
        batch = _batch_from_array(session, array_from_file(path, grey=len(shape) == 4 and shape[1] == 1), path)
        if not np.isfinite(batch).all():
            raise InputError(f"{path} holds NaN or infinity; the network was not run")
        logits = session.infer_all(batch)
    except ShapeError as error:
        raise ShapeError(f"{path}: {error}") from None
    if not np.isfinite(logits).all():
        raise GateError(f"{path}: an output of {session.artefact.name} is NaN or infinite")
    probabilities = _softmax(logits.reshape(len(logits), -1))
    rows = []
    for i, row in enumerate(probabilities):
        best = np.argsort(-row, kind="stable")[:top]
        guesses = [{"label": _label(session, int(j)), "class": int(j), "probability": float(row[j])} for j in best]
        rows.append({"input": str(path) if len(probabilities) == 1 else f"{path}[{i}]", "top": guesses})
    return rows


def _batch_from_array(session: Session, array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Pixels (uint8) are preprocessed, network input goes in as it is; a single item becomes a batch of one."""
    shape = session.manifest.inputs[0].shape
    if array.dtype == np.uint8 and session.manifest.inputs[0].dtype != "uint8":
        return session.preprocess(array[np.newaxis] if array.ndim == 2 else array)
    if array.ndim == len(shape) - 1:
        array = array[np.newaxis]
    if array.dtype != session.manifest.inputs[0].dtype:
        raise InputError(
            f"{path}: expected uint8 pixels or {session.manifest.inputs[0].dtype} input, got {array.dtype}"
        )
    return array


def _label(session: Session, index: int) -> str:
    return session.labels[index] if session.labels else str(index)


def _softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float64)


def _selftest(args: argparse.Namespace) -> int:
    artefact = open_artefact(args.artefact)
    if board_of(artefact) is not None and args.engine is None:
        run = run_selftest_image(artefact)
        if args.json:
            print(json.dumps({"passed": True, **asdict(run), "instructions": run.instructions}, indent=2))
            return EXIT_OK
        passed = f"passed: {run.figures['passed']} inputs on {run.machine}, emulated"
        print(f"{passed}, {run.instructions:,} instructions a call")
        return EXIT_OK
    with _load(args) as session:
        result = run_selftest(session)
        engine, device = session.engine, session.device
    if args.json:
        print(json.dumps({"passed": True, "engine": engine, "device": device, **asdict(result)}, indent=2))
        return EXIT_OK
    print(selftest_text(result, f" on {engine} ({device})"))
    return EXIT_OK


def _doctor(args: argparse.Namespace) -> int:
    findings = examine()
    usable = can_run(findings)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            fix = f"    -> {finding.fix}" if finding.fix else ""
            print(f"{'yes' if finding.ok else 'no':<4}{finding.what:<22}{finding.detail}{fix}")
    if not usable:
        note("edgeline doctor: no engine can run here; install one with a line above")
    return EXIT_OK if usable else EXIT_CAPABILITY


if __name__ == "__main__":
    raise SystemExit(main())
