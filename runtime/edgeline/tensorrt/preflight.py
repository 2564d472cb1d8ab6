"""Before anything is loaded: what an engine file is, whether it can load here, and if not, why and what fixes it.

It reads headers and looks at the machine; it needs neither a GPU nor TensorRT, and it does not deserialise. What it
calls loadable may still fail to load, since TensorRT's header does not tell its GPU; what it refuses cannot work.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeline.artefact import Artefact
from edgeline.cuda import Gpu, gpu
from edgeline.errors import ArtefactError, EdgelineError, MissingCapabilityError
from edgeline.native_library import open_library
from edgeline.tensorrt import plans
from edgeline.tensorrt.install import bindings_obstacle, install_line, is_jetson
from edgeline.tensorrt.plan_header import HEADER_BYTES, PlanHeader, read_plan_header
from edgeline.tensorrt.products import PRODUCTS, ProductInfo, load_product, product_state

_ONNX_IR_VERSIONS = range(1, 33)
_ONNX_KEYS = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42\x72")  # producer, domain, graph, opset ...: ModelProto's next key
_METADATA_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why an engine cannot load here, and the way out of it."""

    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What an engine file tells, and what keeps it from loading here.

    `targets` are compute capabilities, () where untold; `whole` is None where the header does not tell its size.
    """

    path: Path
    product: str
    version: str
    targets: tuple[str, ...]
    bytes: int
    whole: bool | None
    obstacles: tuple[Obstacle, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "path": str(self.path), "product": self.product, "version": self.version, "targets": list(self.targets),
            "bytes": self.bytes, "whole": self.whole, **_loading(self.obstacles),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class EngineReport:
    """An artefact's engine: what it brings, what the cache holds, which is used here, and what keeps it from loading.

    `plan` is None for one that is built on the device; `uses` is "artefact", "cache" or None; `cached` is the plan in
    the cache, None where there is none for this machine.
    """

    product: str
    build: str
    plan: PlanReport | None
    cached: Path | None
    uses: str | None
    obstacles: tuple[Obstacle, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "product": self.product, "build": self.build, "plan": self.plan and self.plan.to_record(),
            "cached": self.cached and str(self.cached), "uses": self.uses, **_loading(self.obstacles),
        }  # fmt: skip


def examine_plan(path: Path) -> PlanReport:
    """Read an engine file of anyone's making.

    Raises ArtefactError when it is none: it says so of an ONNX file, and where the engine begins in a file with
    metadata glued in front. Raises OSError when it cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    try:
        header = read_plan_header(head, str(path))
    except ArtefactError as error:
        raise ArtefactError(_what_it_is(path, head) or f"{error}; edgeline info takes artefacts and engines") from None
    info = next(info for info in PRODUCTS.values() if info.name == header.product)
    return _plan_report(path, header, header.targets, info, "ARTEFACT")


def examine_engine(artefact: Artefact) -> EngineReport:
    """Say which engine a trt or trt-rtx artefact has, and whether it can run here.

    Raises ArtefactError when the engine that it brings is no plan.
    """
    manifest = artefact.manifest
    info = PRODUCTS[manifest.format]
    own = None
    if manifest.build == "built":
        path = artefact.file(info.plan_file)
        header, _ = plans.header_of_file(path)
        own = _plan_report(path, header, plans.targets_of(header, manifest), info, str(artefact.folder))
    cached, missing = None, _missing(info, gpu())
    if not missing:
        cached, missing = _look_into_cache(artefact, info)
    uses = "cache" if cached else "artefact" if own and not own.obstacles else None
    if uses:
        missing = []
    elif own:
        missing = list(own.obstacles)
    elif not missing:
        missing = [Obstacle("its engine was not built here yet", f"edgeline build {artefact.folder}")]
    return EngineReport(info.name, manifest.build, own, cached, uses, tuple(missing))


def need_engine(artefact: Artefact, engine: str = "tensorrt") -> None:
    """Raise MissingCapabilityError, in one line with the ways out, where `engine` cannot run the artefact here.

    For onnxruntime-tensorrt it looks for the GPU alone, for native at the library, for onnxruntime, which runs
    anywhere, at nothing.
    """
    if engine == "native":
        open_library(artefact)
    if engine == "onnxruntime-tensorrt" and gpu() is None:
        raise MissingCapabilityError(
            f"{artefact.name} cannot run on {engine} here (there is no NVIDIA GPU or driver here): run it on the "
            "device, --engine onnxruntime runs its graph"
        )
    report = examine_engine(artefact) if engine == "tensorrt" else None
    if report is not None and report.obstacles:
        why = "; ".join(obstacle.why for obstacle in report.obstacles)
        raise MissingCapabilityError(
            f"{artefact.name} cannot run on {report.product} here ({why}): edgeline build {artefact.folder} makes "
            "its engine on the device, --engine onnxruntime runs its graph"
        )


def _loading(obstacles: tuple[Obstacle, ...]) -> dict[str, Any]:
    return {
        "loads_here": not obstacles,
        "obstacles": [{"why": obstacle.why, "fix": obstacle.fix} for obstacle in obstacles],
    }


def _plan_report(
    path: Path, header: PlanHeader, targets: tuple[str, ...], info: ProductInfo, artefact: str
) -> PlanReport:
    found, size_bytes, version = gpu(), path.stat().st_size, product_state(info.format).version
    build = f"edgeline build {artefact}"
    pairs = [(why, "copy or export it again") for why in plans.size_misfits(header, size_bytes)]
    if version is not None:
        misfits = plans.product_misfits(header, info.name, version)
        pairs += [(why, f"{build}, or install {header.product} {header.version}") for why in misfits]
    if found is not None:
        pairs += [(why, build) for why in plans.target_misfits(targets, found)]
    obstacles = (*(Obstacle(why, fix) for why, fix in pairs), *_missing(info, found))
    whole = plans.is_whole_plan(header, size_bytes)
    return PlanReport(path, header.product, header.version, targets, size_bytes, whole, obstacles)


def _missing(info: ProductInfo, found: Gpu | None) -> list[Obstacle]:
    """Say what this machine lacks to run any engine of a product."""
    obstacles = []
    if found is None:
        obstacles.append(Obstacle("there is no NVIDIA GPU or driver here", "run it on the device"))
    state = product_state(info.format)
    if state.module is None:
        obstacles.append(Obstacle(state.why, install_line(info, found)))
    # Where the product is still to come from pip, its line brings cuda-bindings that fit; JetPack's brings none.
    unfit = bindings_obstacle(found) if state.module is not None or is_jetson() else None
    return [*obstacles, Obstacle(*unfit)] if unfit else obstacles


def _look_into_cache(artefact: Artefact, info: ProductInfo) -> tuple[Path | None, list[Obstacle]]:
    """Return the cached plan for this machine, or what keeps us from looking. The key needs the loaded product."""
    found = gpu()
    try:
        return (plans.whole_cached_plan(artefact, load_product(info.format), found) if found else None), []
    except EdgelineError as error:
        return None, [Obstacle(str(error), "edgeline doctor says more")]


def _what_it_is(path: Path, head: bytes) -> str | None:
    """Recognise what people take for an engine; None where it is something else."""
    quoted = shlex.quote(str(path))
    if len(head) > 2 and head[0] == 0x08 and head[1] in _ONNX_IR_VERSIONS and head[2] in _ONNX_KEYS:
        return f"{path} is an ONNX graph, not an engine: export-model {quoted} --format trt makes an artefact of it"
    length = int.from_bytes(head[:4], "little")
    if not 2 <= length <= min(_METADATA_LIMIT_BYTES, path.stat().st_size - 4):
        return None
    with path.open("rb") as stream:
        stream.seek(4)
        metadata, engine = stream.read(length), stream.read(HEADER_BYTES)
    try:
        if not isinstance(json.loads(metadata), dict):
            return None
    except (ValueError, RecursionError):  # no JSON, or nested so deep that nobody's metadata looks like it
        return None
    try:
        header = read_plan_header(engine, "what follows")
    except ArtefactError as error:
        return f"{path} begins with {length} bytes of metadata (JSON), and {error}"
    begins = 4 + length
    return (
        f"{path} is an engine with {length} bytes of metadata glued in front, and {header.product} does not load that: "
        f"the engine ({header.version}) begins at byte {begins}: tail -c +{begins + 1} {quoted} > {quoted}.plan"
    )
