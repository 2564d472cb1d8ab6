"""The command `benchmark-model`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgeline import interrupts
from edgeline.artefact import Artefact, open_artefact
from edgeline.backends import choose_engine
from edgeline.command import note, run_command
from edgeline.errors import EdgelineError, InputError, MissingCapabilityError, ResourceError
from edgeline_bench.arguments import parser

if TYPE_CHECKING:
    from edgeline_bench.exports import LeftOut
    from edgeline_bench.report import Report

DEFAULT_BATCHES = (1, 8, 64)
_PROFILE_S = 2.0  # for the time per layer of each row


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(parser(), _body, argv)


def _body(args: argparse.Namespace) -> None:
    if args.threads < 1 or args.rounds < 1:
        raise InputError("--threads and --rounds must be above 0")
    _check_options(args)
    artefacts, left_out = _forms(args) if args.formats else (_open_all(args.artefacts), [])
    _check_engines(artefacts, args.engine)
    out: Path = args.out or _new_report_path(str(args.artefacts[0]) if args.formats else artefacts[0].name)
    if out.suffix != ".json":
        raise InputError(f"--out names the JSON report, so it ends in .json, unlike {out}")
    _need_packages(args.baseline, args.mode)
    _check_writable(out)
    with interrupts.held():
        from edgeline_bench.report import write_report

    report = _measure(args, artefacts, out, left_out)
    write_report(out, report)
    _print(out, report, args.json)  # before what may still fail: what was measured is then seen at least
    _write_beside(out, report)
    if not args.json:
        print(f"report: {out} (and {out.with_suffix('.md').name}, {out.with_suffix('.html').name})")


def _open_all(paths: Sequence[Path]) -> list[Artefact]:
    """Open the artefacts; their names tell the rows of a report apart, so no two may share one."""
    artefacts = [open_artefact(path) for path in dict.fromkeys(paths)]
    names = [artefact.name for artefact in artefacts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"two of the artefacts are named {twice}; measure them one at a time")
    return artefacts


def _check_engines(artefacts: Sequence[Artefact], asked: str | None) -> None:
    """Find out before any worker starts that an engine cannot run here; say where a time would mislead."""
    from edgeline.tensorrt.preflight import need_engine
    from edgeline_bench.points import arithmetic_of

    for artefact in artefacts:
        manifest = artefact.manifest
        engine = choose_engine(manifest.format, asked)
        need_engine(artefact, engine)
        if engine == "onnxruntime" and arithmetic_of(artefact, engine, "cpu") not in (manifest.precision, "tf32"):
            note(f"{artefact.name}: ONNX Runtime computes it in float32 here: its time is no {manifest.precision} time")


def _forms(args: argparse.Namespace) -> tuple[list[Artefact], list[LeftOut]]:
    """Return the forms of the networks, exported where they are missing, and those that cannot be had."""
    with interrupts.held():
        from edgeline_bench.exports import Wanted, forms_of

    found: list[Artefact] = []
    left_out: list[LeftOut] = []
    for model in map(str, args.artefacts):
        wanted = Wanted(
            model, args.formats, args.precision or ("fp32",), args.batch or DEFAULT_BATCHES, args.weights,
            args.artifacts or Path("artifacts"),
        )  # fmt: skip
        forms = forms_of(wanted)
        found += forms[0]
        left_out += forms[1]
    return found, left_out


def _measure(args: argparse.Namespace, artefacts: Sequence[Artefact], out: Path, left_out: Sequence[LeftOut]) -> Report:
    with interrupts.held():
        from edgeline_bench.fingerprint import fingerprint
        from edgeline_bench.points import PointOptions, baseline_points, compiled_points, points_of_artefact
        from edgeline_bench.progress import StepPrinter
        from edgeline_bench.report import report_from_run
        from edgeline_bench.roofline.ceilings import stability_reasons
        from edgeline_bench.roofline.gpu_probe import cuda_ceilings_from_child
        from edgeline_bench.roofline.measure import measure_ceilings, remeasure
        from edgeline_bench.rounds import Loadgen, Plan, run_rounds, wants_loadgen
        from edgeline_bench.validity import invalid_reasons, reasons_beforehand

    pinned = _choose_cores(args.pin, args.threads)
    machine = fingerprint()
    batches = args.batch or _default_batches(artefacts)
    options = PointOptions(
        batches, args.threads, pinned, args.weights, args.factory, args.engine, args.scenario, args.server_qps,
        args.slowdown,
    )  # fmt: skip
    cores = len(pinned) or machine["usable_cores"]
    points = [point for artefact in artefacts for point in points_of_artefact(artefact, options)]
    device = "cuda" if any(point.device == "cuda" for point in points) else "cpu"
    if args.formats == ("all",):
        points = [replace(point, optional=True) for point in points]
    if args.baseline == "eager":
        baseline = baseline_points(artefacts, options)
        points = [*baseline, *(compiled_points(baseline) if args.formats == ("all",) else []), *points]
    slot_s = args.seconds / args.rounds
    for reason in reasons_beforehand(args.rounds, args.threads, cores):
        note(f"this report will be INVALID: {reason}")
    if args.mode == "mlperf" and not any(map(wants_loadgen, points)):
        raise InputError("LoadGen's single-stream has one sample a query: add --batch 1, or another --scenario")
    plan = Plan(
        rounds=args.rounds,
        slot_s=slot_s,
        profile_s=None if args.no_roofline else _PROFILE_S,
        latency_bound_s=args.latency_bound,
        loadgen=Loadgen(out.with_suffix(".mlperf"), args.mlperf_seconds) if args.mode == "mlperf" else None,
    )
    ceilings = None
    if not args.no_roofline:
        note("measuring what this machine can do at most")
        ceilings = cuda_ceilings_from_child() if device == "cuda" else measure_ceilings(args.threads, pinned)
    with StepPrinter() as progress:
        run = run_rounds(points, plan, progress)
    reasons = invalid_reasons(run, args.threads, cores, machine["load_average"])
    if ceilings is not None:
        note("measuring it again")
        try:
            again = remeasure(ceilings)
            reasons += stability_reasons(ceilings.figures(), again)
            ceilings = ceilings.after(again)
        except EdgelineError as error:
            reasons.append(f"the ceilings could not be measured again: {error}")
    protocol = {
        "mode": args.mode, "threads": args.threads, "pinned": list(pinned), "rounds": args.rounds, "slot_s": slot_s,
        "batches": list(batches), "device": device, "scenarios": list(args.scenario),
        "server_qps": args.server_qps, "latency_bound_s": args.latency_bound, "slowdown": args.slowdown,
    }  # fmt: skip
    records = [form.to_record() for form in left_out]
    return report_from_run(run, protocol, machine, ceilings, reasons, records)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored."""
    for option, other in (("precision", "artifacts"), ("artifacts", "precision")):
        if getattr(args, option) is not None and not args.formats:
            raise InputError(f"--{option} goes with --formats, as does --{other}; artefacts have theirs: leave it out")
    if args.formats and args.engine:
        raise InputError("--engine is for artefacts; with --formats each form runs on its own engine: leave it out")
    if args.formats and "all" in args.formats and len(args.formats) > 1:
        raise InputError("--formats all takes them all already: leave the other names out")
    server = "server" in args.scenario
    for option, applies, where in (
        ("server_qps", server, "--scenario server"),
        ("latency_bound", server, "--scenario server"),
        ("mlperf_seconds", args.mode == "mlperf", "--mode mlperf"),
    ):
        if getattr(args, option) is not None and not applies:
            raise InputError(f"--{option.replace('_', '-')} is for {where}; leave it out, or add that")


def _default_batches(artefacts: Sequence[Artefact]) -> tuple[int, ...]:
    fixed = {artefact.manifest.inputs[0].shape[0] for artefact in artefacts} - {-1}
    return tuple(sorted(fixed)) or DEFAULT_BATCHES


def _choose_cores(asked: tuple[int, ...] | None, threads: int) -> tuple[int, ...]:
    """Return the cores to pin to: those asked for, else the last ones, as the first ones serve most interrupts."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    usable = sorted(os.sched_getaffinity(0))
    if asked is None:
        return tuple(usable[-threads:]) if threads <= len(usable) else ()
    missing = [core for core in asked if core not in usable]
    if missing:
        raise InputError(f"--pin: core {missing[0]} is not usable here; usable: {', '.join(map(str, usable))}")
    return asked


def _new_report_path(name: str) -> Path:
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    return Path("reports") / f"{name}-{stamp}.json"


def _check_writable(out: Path) -> None:
    """Find out now, not after a minute of measuring, that the report cannot be written."""
    folder = next(parent for parent in out.resolve().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ResourceError(f"the report cannot be written: {folder} is not a folder that you may write to")
    for path in (out, out.with_suffix(".md"), out.with_suffix(".html")):
        if path.is_dir():
            raise ResourceError(f"the report cannot be written: {path} is a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResourceError(f"the report cannot be written to {folder}: {error.strerror}") from None


def _write_beside(out: Path, report: Report) -> None:
    with interrupts.held():
        from edgeline.files import write_atomically
        from edgeline_bench.markdown import markdown_from_report
        from edgeline_bench.page import page_from_report

    for suffix, content in ((".md", markdown_from_report(report)), (".html", page_from_report(report))):
        try:
            write_atomically(out.with_suffix(suffix), content)
        except OSError as error:
            raise ResourceError(
                f"{out} is written and whole, but {out.with_suffix(suffix).name} could not be: {error.strerror}"
            ) from None


def _print(out: Path, report: Report, as_json: bool) -> None:
    from edgeline_bench import tables

    if as_json:
        brief = {**report, "results": [{k: v for k, v in r.items() if k != "samples_s"} for r in report["results"]]}
        print(json.dumps({"report": str(out), **brief}, indent=2))
        return
    for table in (tables.latency_table(report), tables.scenario_table(report), tables.start_table(report),
                  tables.left_out_table(report)):  # fmt: skip
        if table.cells:
            print(tables.plain_text(table) + "\n")
    for answer in report["words"]:
        lines = answer["answer"].replace("\n", "\n  ")
        print(f"{answer['question']}\n  {lines}\n")
    print(tables.verdict_line(report))


def _need_packages(baseline: str, mode: str) -> None:
    needed = ["plotly", "rich", "onnx", *(["torch", "safetensors"] if baseline == "eager" else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingCapabilityError(f"benchmarking needs {', '.join(missing)}: pip install 'edgeline[bench]'")
    if mode == "mlperf" and find_spec("mlperf_loadgen") is None:
        raise MissingCapabilityError("--mode mlperf needs mlperf_loadgen: pip install 'edgeline[mlperf]'")


if __name__ == "__main__":
    raise SystemExit(main())
