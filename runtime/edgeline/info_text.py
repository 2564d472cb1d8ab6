"""What `edgeline info` and `edgeline build` print for people, as (key, value) lines. It looks nothing up itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from edgeline.artefact import Artefact
from edgeline.manifest import Manifest
from edgeline.native_library import LibraryReport
from edgeline.selftest import SelftestResult
from edgeline.tensorrt.building import Built
from edgeline.tensorrt.preflight import EngineReport, Obstacle, PlanReport

Lines = list[tuple[str, str]]


def print_lines(lines: Lines) -> None:
    """Print the lines on stdout, values in a column."""
    for key, value in lines:
        print(f"{key:<10}{value}")


def lines_of_artefact(artefact: Artefact) -> Lines:
    """Describe an artefact by its manifest."""
    manifest, check = artefact.manifest, artefact.manifest.verification
    return [
        ("artefact", artefact.name),
        ("model", _model_text(manifest)),
        ("form", f"{manifest.format}, {manifest.precision}, {manifest.build}, created {manifest.created}"),
        ("input", "; ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in manifest.inputs)),
        *_pixels_lines(manifest),
        ("output", "; ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in manifest.outputs)),
        ("batch", f"{', '.join(map(str, sorted(set(astuple(manifest.batch)))))} verified"),
        ("accuracy", _accuracy_text(check)),
        ("precision", _precision_text(manifest.precision_coverage)),
        (
            "verified",
            f"with {check['engine']} on {check['samples']} samples ({check['data']}), "
            f"largest difference {_difference_text(check)}",
        ),
        ("size", f"{artefact.total_bytes / 1e6:.2f} MB in {len(manifest.files) + 1} files, all hashes right"),
    ]


def lines_of_engine(report: EngineReport) -> Lines:
    """Describe the engine of a trt or trt-rtx artefact, and whether it loads here."""
    if report.plan is not None:
        brings = f"{report.plan.product} {report.plan.version}, built for {_targets_text(report.plan)}"
    else:
        brings = f"{report.product}, built on the device"
    cached = str(report.cached) if report.cached else "no engine built for this machine"
    return [("engine", brings), *_loads_lines(report.obstacles, f"from the {report.uses}"), ("cached", cached)]


def lines_of_library(report: LibraryReport) -> Lines:
    """Describe the library of a C artefact, and whether it runs here."""
    variants = ", ".join(report.variants) or "none, C sources only"
    arena = "not known" if report.arena_bytes is None else f"{report.arena_bytes} bytes for one sample a call"
    loads = f"no: {report.obstacle}" if report.obstacle else f"yes, and chooses {report.isa}"
    target = f"{report.target} ({report.architecture})" if report.architecture else report.target
    return [("target", target), ("library", variants), ("arena", arena), ("loads", loads)]


def lines_of_board(manifest: Manifest) -> Lines:
    """Describe the flash image of an artefact for a board, and what it needs; nothing for other artefacts."""
    compilation = manifest.compilation or {}
    board, network, image = (_mapping(compilation.get(part)) for part in ("board", "network", "image"))
    if not board:
        return []
    lines = [
        ("target", f"{manifest.target.get('name')}, tried on {board.get('machine')} ({board.get('what')})"),
        ("budgets", f"{_count(board.get('flash_bytes'))} bytes of flash, {_count(board.get('ram_bytes'))} of RAM"),
    ]
    weights, arena = (
        compilation.get("weights_bytes"),
        compilation.get("u8_arena_bytes") or compilation.get("arena_bytes"),
    )
    if not network or not image:
        return [*lines, ("image", f"none, sources only: {_count(weights)} bytes of weights, arena {_count(arena)}")]
    rows = (
        ("code", *_pair("code_bytes", network, image)),
        ("constants", *_pair("constants_bytes", network, image)),
        ("- weights", _count(weights), _count(weights)),
        ("flash", *_pair("flash_bytes", network, image)),
        ("arena", _count(network.get("arena_bytes")), _count(network.get("arena_bytes"))),
        ("stack", *_pair("stack_bytes", network, image)),
        ("RAM", *_pair("ram_bytes", network, image)),
    )
    lines.append(("bytes", f"{'':<10}{'network':>10}{'with the self-test':>20}"))
    lines += [("", f"{what:<10}{one:>10}{other:>20}") for what, one, other in rows]
    if network.get("instructions") is None:
        return [*lines, ("counted", "nothing: it was not run")]
    held = "bit for bit" if image.get("exact") else "within the tolerance"
    inputs = f"{_count(image.get('selftest_inputs'))} inputs {held} as expected"
    return [
        *lines,
        ("counted", f"{_count(network['instructions'])} instructions of {network.get('function')}; {inputs}"),
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _pair(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str]:
    return _count(one.get(key)), _count(other.get(key))


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "not known"


def lines_of_plan(report: PlanReport) -> Lines:
    """Describe an engine file, and whether it loads here."""
    whole = {True: "whole", False: "NOT whole", None: "its header does not tell whether that is all"}[report.whole]
    return [
        ("file", str(report.path)),
        ("engine", f"{report.product} {report.version}"),
        ("targets", _targets_text(report)),
        ("size", f"{report.bytes} bytes, {whole}"),
        *_loads_lines(report.obstacles, "as far as its header tells"),
    ]


def lines_of_built(built: Built) -> Lines:
    """Say what `edgeline build` did."""
    done = {
        "built": "built, tested and cached",
        "cached": "found in the cache and tested again: nothing to build",
        "artefact": "the artefact's own, tested here: nothing to build",
    }[built.origin]
    return [("engine", done), ("file", str(built.path)), ("selftest", selftest_text(built.selftest))]


def selftest_text(result: SelftestResult, on: str = "") -> str:
    """Return the result of a self-test that passed, in a line."""
    return (
        f"passed: {result.samples} inputs{on}, largest difference {result.max_abs_diff:.2g}, "
        f"allowed {result.tolerance:.2g}"
    )


def _loads_lines(obstacles: Sequence[Obstacle], how: str) -> Lines:
    lines = [("loads", f"no: {obstacle.why}    -> {obstacle.fix}") for obstacle in obstacles]
    return lines or [("loads", f"yes, {how}")]


def _targets_text(report: PlanReport) -> str:
    if report.targets:
        return f"compute capability {', '.join(report.targets)}"
    return f"the GPU that it was built on ({report.product}'s header does not tell which)"


def _model_text(manifest: Manifest) -> str:
    if manifest.source["kind"] == "model":
        return f"{manifest.name}, trained on {manifest.dataset}"
    return f"{manifest.name}, from {manifest.source.get('factory') or 'an .onnx file'}"


def _pixels_lines(manifest: Manifest) -> Lines:
    """Say what images a network takes whose input is larger than they are."""
    preprocessing = manifest.preprocessing
    if preprocessing is None or preprocessing.pad is None:
        return []
    (rows, columns), (height, width) = preprocessing.pad, manifest.inputs[0].shape[2:]
    size = "any size, resized to " if preprocessing.resize else ""
    text = f"{size}{height - 2 * rows} x {width - 2 * columns}, with {rows} rows and {columns} columns of black"
    return [("pixels", f"{text} added on each side")]


def _precision_text(coverage: Mapping[str, Any]) -> str:
    shares = ", ".join(f"{share:.1%} {name}" for name, share in coverage["macs"].items())
    return f"{shares or 'nothing'} of the multiply-accumulates, says the {coverage['source']}"


def _difference_text(check: Mapping[str, Any]) -> str:
    return "not known" if check["max_abs_diff"] is None else f"{check['max_abs_diff']:.2g}"


def _accuracy_text(check: Mapping[str, Any]) -> str:
    if check.get("accuracy_exported") is None:
        return "not known: no labelled data"
    return f"{check['accuracy_exported']:.4f} exported, {check['accuracy_reference']:.4f} before"
