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
    board, library, image = (compilation.get(part) for part in ("board", "library", "image"))
    if not isinstance(board, Mapping):
        return []
    budgets = f"{board['flash_bytes']:,} bytes of flash, {board['ram_bytes']:,} of RAM"
    lines = [("target", f"{manifest.target.get('name')}, tried on {board['machine']} ({board['what']})")]
    lines.append(("budgets", budgets))
    if not isinstance(library, Mapping) or not isinstance(image, Mapping):
        arena = compilation.get("u8_arena_bytes") or compilation.get("arena_bytes")
        return [
            *lines,
            ("image", f"none, sources only: {compilation.get('weights_bytes'):,} of weights, arena {arena:,}"),
        ]
    inputs = image["selftest_inputs"]
    weights = min(int(compilation["weights_bytes"]), int(library["constants_bytes"]))  # what was not needed is gone
    held = "bit for bit" if image["exact"] else "within the tolerance"
    rows = (
        ("code", library["code_bytes"], image["code_bytes"]),
        ("weights", weights, weights),
        ("other constants", library["constants_bytes"] - weights, image["constants_bytes"] - weights),
        ("flash", library["flash_bytes"], image["flash_bytes"]),
        ("arena", library["arena_bytes"], library["arena_bytes"]),
        ("stack", library["stack_bytes"], image["stack_bytes"]),
        ("RAM", library["ram_bytes"], image["ram_bytes"]),
    )
    lines.append(("bytes", f"{'':<17}{'network':>10}{f'with self-test of {inputs}':>26}"))
    lines += [("", f"{what:<17}{_count(one):>10}{_count(other):>26}") for what, one, other in rows]
    if library["instructions"] is None:
        return [*lines, ("counted", "nothing: it was not run")]
    return [
        *lines,
        ("counted", f"{library['instructions']:,} instructions for {library['function']}, {held} as expected"),
    ]


def _count(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


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
