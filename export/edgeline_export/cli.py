"""The command `export-model`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgeline import interrupts
from edgeline.artefact import GRAPH_FILE, Artefact, open_artefact
from edgeline.command import Parser, note, run_command, share
from edgeline.errors import InputError, MissingCapabilityError, UnknownNameError
from edgeline.info_text import lines_of_board, print_lines
from edgeline.manifest import FILE_NAME, BatchRange
from edgeline_export.c.budgets import size
from edgeline_export.c.targets import TARGETS, target_from_name
from edgeline_export.formats.interface import (
    DEFAULT_CALIBRATION_METHOD,
    DEFAULT_CALIBRATION_SAMPLES,
    NATIVE,
    CalibrationRequest,
    ExportRequest,
)
from edgeline_export.ranges import METHODS
from edgeline_export.subject import DEFAULT_MAX_DROP, Subject, SubjectRequest
from edgeline_train.data.datasets import DATASETS, dataset_from_name
from edgeline_train.models import MODELS, model_from_name

if TYPE_CHECKING:
    from edgeline_export.formats.interface import Format

EPILOG = """SUBJECT is one of
  a network of train-model --list, with its trained weights
  a path to an .onnx file
  package.module:factory, a function or class that returns a torch module
  an artefact that is there already, for --triton-repository

examples:
  export-model lenet --format trt
  export-model lenet --format trt-rtx --precision int8
  export-model lenet --format c --target x86-64-v3
  export-model lenet-relu --format c --precision int8 --target cortex-m4 --ram 16KB --flash 96KB
  export-model lenet --triton-repository models
  export-model artifacts/lenet-mnist-10k.fp32.trt --triton-repository models
  export-model net.onnx --samples inputs.npz
  export-model mypackage.nets:SmallNet --input-shape 1,28,28 --dataset mnist-10k"""

_DO_NOT_APPLY = {
    "an .onnx file": ("weights", "input_shape"),
    "a factory": ("weights",),
    "a network of ours": ("input_shape",),
}

_APPLY_TO_AN_ARTEFACT = {"subject", "name", "triton_repository", "json"}

DEFAULT_OUT = Path("artifacts")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("export-model", "Export a network to an artefact that a device can load, and verify it.", EPILOG)
    parser.add_argument("subject", metavar="SUBJECT", nargs="?", help="what to export")
    parser.add_argument("--format", default="onnx", metavar="NAME", help="a format of --list-formats")
    parser.add_argument("--precision", default="fp32", metavar="NAME", help="the precision in the graph")
    parser.add_argument("--list-formats", action="store_true", help="list the formats, and whether they work here")
    parser.add_argument(
        "--weights", type=Path, metavar="PATH", help="a weights file, or the folder to look in (weights)"
    )
    parser.add_argument("--dataset", metavar="NAME", help=f"whose test split judges the export: {', '.join(DATASETS)}")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where the data set's files are")
    parser.add_argument("--samples", type=Path, metavar="FILE", help=".npz with `inputs` and, optionally, `labels`")
    parser.add_argument("--input-shape", type=_shape, metavar="C,H,W", help="of a factory's module, without the batch")
    parser.add_argument("--name", metavar="NAME", help="of the artefact, instead of the subject's own")
    parser.add_argument(
        "--batch",
        type=_batch_sizes,
        default="1:8:64",
        metavar="MIN:OPT:MAX",
        help="batch sizes to verify, also as a list (1,8,64,256) or one size; formats with fixed shapes compile each",
    )
    parser.add_argument(
        "--max-drop",
        type=share,
        default=DEFAULT_MAX_DROP,
        metavar="SHARE",
        help="accuracy that may be lost before the export fails",
    )
    calibration = parser.add_argument_group("calibration (int8; fp16 looks for activations that are too large)")
    calibration.add_argument(
        "--calibration",
        metavar="SOURCE",
        help="a data set's training split, an .npz file of `inputs`, or a folder of images (default: the data set that "
        "the weights were trained on)",
    )
    calibration.add_argument(
        "--calibration-samples", type=_count, metavar="N", help=f"how many samples ({DEFAULT_CALIBRATION_SAMPLES})"
    )
    calibration.add_argument(
        "--calibration-method",
        choices=METHODS,
        help=f"where int8 saturates ({DEFAULT_CALIBRATION_METHOD}, or what train-model --qat found)",
    )
    engine = parser.add_argument_group("engines (trt, trt-rtx)")
    engine.add_argument(
        "--compute-capability",
        type=_compute_capabilities,
        metavar="CC[,CC]",
        help="the GPUs of a trt-rtx engine, for instance 8.9,12.0 (default: Ampere and later)",
    )
    engine.add_argument(
        "--require-engine", action="store_true",
        help="fail, rather than leave it to the device, where the engine or the C library cannot be built",
    )  # fmt: skip
    library = parser.add_argument_group("C libraries (c)")
    library.add_argument(
        "--target", metavar="NAME", help=f"the CPUs of the library: {', '.join((NATIVE, *TARGETS))} (default: {NATIVE})"
    )
    library.add_argument("--cc", metavar="PROGRAM", help="the C compiler (default: $CC, else cc, gcc or clang)")
    library.add_argument(
        "--ram", type=size, metavar="SIZE", help="RAM for a board's image, as 16KB (KB: 1,024 bytes; default: all)"
    )
    library.add_argument("--flash", type=size, metavar="SIZE", help="flash for it, self-test included")
    serving = parser.add_argument_group("serving (onnx, trt, openvino)")
    serving.add_argument(
        "--triton-repository",
        type=_folder,
        metavar="DIR",
        help="put the artefact into this model repository of Triton Inference Server too, as the next version",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="FOLDER", help="where artefacts are written")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,6}(,[1-9]\d{0,6})*", text):
        raise argparse.ArgumentTypeError(f"expected sizes like 1,28,28, got '{text}'")
    return tuple(int(part) for part in text.split(","))


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder, got an empty text")
    return Path(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def _compute_capabilities(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"\d{1,2}\.\d(,\d{1,2}\.\d)*", text):
        raise argparse.ArgumentTypeError(f"expected numbers like 8.9 or 8.9,12.0, got '{text}'")
    wanted = tuple(text.split(","))
    if len(set(wanted)) != len(wanted):
        raise argparse.ArgumentTypeError(f"names a target twice: '{text}'")
    return tuple(sorted(wanted, key=lambda text: tuple(map(int, text.split(".")))))


def _batch_sizes(text: str) -> tuple[int, ...]:
    """Return ascending batch sizes: MIN, OPT and MAX, those of a list, or one."""
    sizes = (
        tuple(map(int, re.split("[:,]", text))) if re.fullmatch(r"\d{1,6}(:\d{1,6}:\d{1,6}|(,\d{1,6})*)", text) else ()
    )
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(sizes):
        raise argparse.ArgumentTypeError(
            f"expected MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX, a list like 1,8,64, or one size, got '{text}'"
        )
    return sizes


def _batch_range(sizes: tuple[int, ...]) -> BatchRange:
    """Return the range of batch sizes; the second of them is the one that is optimised for."""
    return BatchRange(sizes[0], sizes[min(1, len(sizes) - 1)], sizes[-1])


def _body(args: argparse.Namespace) -> None:
    with interrupts.held():
        from edgeline_export.formats import FORMATS, format_from_name

    if args.list_formats:
        return _print_formats(list(FORMATS.values()), args.json)
    if args.subject is None:
        raise InputError(f"name what to export: {', '.join(MODELS)}, an .onnx file, or package.module:factory")
    if args.triton_repository is not None and (Path(args.subject) / FILE_NAME).is_file():
        return _serve_artefact(args)
    chosen = format_from_name(args.format)
    if args.precision not in chosen.precisions:
        raise UnknownNameError(f"precision of format {chosen.name}", args.precision, chosen.precisions)
    state = chosen.availability()
    if not state.available:
        raise MissingCapabilityError(f"format {chosen.name} cannot be written here: {state.why}: {state.install}")
    if args.name is not None:
        _check_name(args.name)
    _check_engine_options(args, chosen, list(FORMATS.values()))
    if args.triton_repository is not None:
        with interrupts.held():
            from edgeline_export.triton.serve import check_batch, check_request

        check_request(chosen.name, args.triton_repository, state.remark)
    calibration = _calibration(args)
    subject = _subject(args)
    if args.triton_repository is not None:
        from edgeline_export.graph import inputs_of

        check_batch(chosen.name, _batch_range(args.batch), inputs_of(subject.graph)[0].shape)
    request = ExportRequest(
        precision=args.precision,
        out=args.out,
        batch=_batch_range(args.batch),
        given_sizes=tuple(dict.fromkeys(args.batch)),
        max_drop=args.max_drop,
        calibration=calibration,
        compute_capabilities=args.compute_capability or (),
        require_engine=args.require_engine,
        target=args.target or NATIVE,
        cc=args.cc,
        ram=args.ram,
        flash=args.flash,
    )
    artefact = chosen.export(subject, request)
    if not args.json:
        _print_artefact(artefact)  # before it is served: it is there whatever becomes of that
    return _serve_and_print(args, artefact)


def _serve_artefact(args: argparse.Namespace) -> None:
    """Serve an artefact that is there already, for instance once edgeline build has made its engine."""
    defaults = vars(_parser().parse_args([args.subject]))
    for option in sorted(defaults.keys() - _APPLY_TO_AN_ARTEFACT):
        if getattr(args, option) != defaults[option]:
            raise InputError(
                f"--{option.replace('_', '-')} does not apply to an artefact ({args.subject}); leave it out"
            )
    if args.name is not None:
        _check_name(args.name)
    _serve_and_print(args, open_artefact(args.subject))


def _serve_and_print(args: argparse.Namespace, artefact: Artefact) -> None:
    """Serve the artefact where that was asked for, and print what there is left to say."""
    placed = None
    if args.triton_repository is not None:
        with interrupts.held():
            from edgeline_export.triton.serve import serve

        placed = serve(artefact, args.triton_repository, args.name)
    if args.json:
        record = {"artefact": str(artefact.folder), "manifest": json.loads(artefact.manifest.to_json())}
        print(json.dumps(record | ({"triton": placed.to_record()} if placed else {}), indent=2))
    elif placed is not None:
        state = "" if placed.is_new else ", as before: the files are the same"
        print(f"{placed.folder}: version {placed.version} of {placed.model}{state}")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise InputError(f"--name takes letters, digits, '.', '_' and '-', not '{name}'")


def _check_engine_options(args: argparse.Namespace, chosen: Format, formats: Sequence[Format]) -> None:
    """Refuse options that the format would ignore."""
    for option in sorted({option for known in formats for option in known.options} - chosen.options):
        if getattr(args, option):
            names = [known.name for known in formats if option in known.options]
            takers = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
            raise InputError(
                f"--{option.replace('_', '-')} is for --format {takers}, not for {chosen.name}; leave it out"
            )
    target = target_from_name(args.target or NATIVE)
    for option in ("ram", "flash"):
        if getattr(args, option) is not None and target.board is None:
            boards = ", ".join(name for name, known in TARGETS.items() if known.board is not None)
            raise InputError(f"--{option} is for targets without an operating system ({boards}); leave it out")
    if args.cc is not None and not args.cc.strip():
        raise InputError("--cc is empty; name a C compiler, or leave it out")


def _calibration(args: argparse.Namespace) -> CalibrationRequest:
    given = {
        "source": args.calibration,
        "samples": args.calibration_samples,
        "method": args.calibration_method,
        "data_root": args.data_root,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if args.calibration == "":
        raise InputError("--calibration is empty; name a data set, an .npz file or a folder, or leave it out")
    if args.precision in ("fp32", "tf32", "bf16") and given.keys() - {"data_root"}:
        raise InputError(f"nothing is calibrated in {args.precision}; leave the --calibration options out")
    return CalibrationRequest(**given)


def _subject(args: argparse.Namespace) -> Subject:
    """Find out what SUBJECT is, and load it."""
    if args.dataset is not None:
        dataset_from_name(args.dataset)
    if (Path(args.subject) / FILE_NAME).is_file():
        raise InputError(f"{args.subject} is an artefact already; its graph is {Path(args.subject) / GRAPH_FILE}")
    kind = _kind(args.subject)
    for option in _DO_NOT_APPLY[kind]:
        if getattr(args, option) is not None:
            raise InputError(f"--{option.replace('_', '-')} does not apply to {kind} ({args.subject}); leave it out")
    if kind != "a network of ours" and args.dataset is not None and args.samples is not None:
        raise InputError("give --dataset or --samples, not both: one of them judges the export")
    samples = args.samples
    if (
        samples is None
        and kind != "a network of ours"
        and args.dataset is None
        and str(args.calibration).endswith(".npz")
    ):
        note(f"judged on {args.calibration}, which calibrates too; --samples names others")
        samples = Path(args.calibration)
    request = SubjectRequest(
        args.subject, args.weights, args.dataset, args.data_root, samples, args.input_shape, args.name,
        _batch_range(args.batch),
    )  # fmt: skip
    if kind == "an .onnx file":
        with interrupts.held():
            from edgeline_export.onnx_source import subject_from_onnx

        return subject_from_onnx(Path(args.subject), request)
    model = None if ":" in args.subject else model_from_name(args.subject)
    _need_torch()
    with interrupts.held():
        from edgeline_export.torch_source import subject_from_factory, subject_from_model

    return subject_from_factory(request) if model is None else subject_from_model(model, request)


def _kind(subject: str) -> str:
    if subject.lower().endswith(".onnx"):
        return "an .onnx file"
    return "a factory" if ":" in subject else "a network of ours"


def _print_formats(formats: Sequence[Format], as_json: bool) -> None:
    rows = [
        {"format": f.name, "summary": f.summary, "precisions": list(f.precisions), **asdict(f.availability())}
        for f in formats
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row, found in zip(rows, formats, strict=True):
        state = "available" if row["available"] else f"not available: {row['why']} -> {row['install']}"
        remark = f", {row['remark']}" if row["remark"] else ""
        print(f"{found.name:<8} {found.summary}")
        print(f"{'':<8} precisions: {', '.join(found.precisions)}; {state}{remark}")


def _print_artefact(artefact: Artefact) -> None:
    check = artefact.manifest.verification
    if check["accuracy_exported"] is None:
        note(f"no labelled data: accuracy is not known; outputs were compared on {check['data']}")
        figure = f"top-1 agreement {check['top1_agreement']:.4f}"
    else:
        low, high = check["drop_ci95"]
        figure = (
            f"accuracy {check['accuracy_exported']:.4f} (source {check['accuracy_reference']:.4f}, "
            f"drop {check['drop']:.4f}, 95 % interval {low:.4f} to {high:.4f})"
        )
    figure += _precision_text(artefact)
    print(f"{artefact.folder}: {figure}, largest difference {check['max_abs_diff']:.2g}")
    print_lines(lines_of_board(artefact.manifest))


def _precision_text(artefact: Artefact) -> str:
    """Say what share of the arithmetic is in the lower precision; what runs, only an engine can say."""
    coverage = artefact.manifest.precision_coverage
    lower = {name: share for name, share in coverage["macs"].items() if name != "fp32"}
    shares = " and ".join(f"{share:.1%} {name}" for name, share in lower.items())
    return f", {shares} by the {coverage['source']}" if lower else ""


def _need_torch() -> None:
    missing = [name for name in ("torch", "onnxscript", "safetensors") if find_spec(name) is None]
    if missing:
        raise MissingCapabilityError(
            f"exporting a torch network needs {', '.join(missing)}: pip install 'edgeline[export]'"
        )


if __name__ == "__main__":
    raise SystemExit(main())
