"""The engines of an export: built with TensorRT or TensorRT-RTX through edgeline's one builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeline.artefact import Artefact
from edgeline.command import note
from edgeline.cuda import gpu
from edgeline.errors import InputError
from edgeline.session import Session
from edgeline.tensorrt.builder import BuildSettings, BuiltEngine, build_engine
from edgeline.tensorrt.inspector import UNKNOWN, inspect_plan, node_precisions
from edgeline.tensorrt.plan_header import read_plan_header
from edgeline.tensorrt.products import PRODUCTS, Product, load_product, product_state
from edgeline_export.assemble import Compiled
from edgeline_export.coverage import MACS_IN, Coverage, check_precision, coverage_of_engine, coverage_with
from edgeline_export.formats.interface import ExportRequest
from edgeline_export.precision import GraphInPrecision

_TURING = "7.5"  # TensorRT-RTX has no float32 matrix product for it


def compile_with_rtx(graph: bytes, request: ExportRequest) -> Compiled:
    """Build a TensorRT-RTX plan. Raises what load_product and build_engine raise."""
    product = load_product("trt-rtx")
    settings = BuildSettings(request.precision, request.batch, request.compute_capabilities)
    note(f"building the engine with {product.title}")
    try:
        built = build_engine(product, graph, settings)
    except InputError as error:
        if _TURING in request.compute_capabilities and "fp16" not in request.precision:
            raise InputError(f"{error}; for compute capability {_TURING}, take fp16 or int8+fp16") from None
        raise
    capabilities = list(request.compute_capabilities)
    return Compiled(
        files={product.info.plan_file: built.plan},
        target={"compute_capabilities": capabilities} if capabilities else {},
        compilation=_record(product, settings, built),
        versions={"tensorrt-rtx": product.version},
        open_session=_session_opener(product) if _runs_here(built) else None,
    )


def check_with_rtx(graph: bytes, request: ExportRequest) -> Compiled:
    """Let TensorRT-RTX parse and build the graph that a device will build with TensorRT, where it is installed."""
    settings = BuildSettings(request.precision, request.batch)
    record: dict[str, Any] = {"product": PRODUCTS["trt"].name, "settings": settings.to_record(), "checked_with": None}
    state = product_state("trt-rtx")
    if state.module is None:
        note(f"the graph was not tried on TensorRT's parser: {state.why} ({PRODUCTS['trt-rtx'].install})")
        return Compiled(build="on-device", compilation=record)
    product = load_product("trt-rtx")
    built = build_engine(product, graph, settings)
    note(f"{product.title}, which has the same parser, takes the graph and builds it")
    return Compiled(
        build="on-device",
        compilation={**record, "checked_with": _record(product, settings, built)},
        versions={"tensorrt-rtx": product.version},
    )


def compile_for_this_gpu(graph: bytes, prepared: GraphInPrecision, request: ExportRequest) -> Compiled:
    """Build a TensorRT plan for the GPU of this machine and read from it what runs in which precision."""
    product = load_product("trt")
    settings = BuildSettings(request.precision, request.batch)
    here = gpu()
    note(f"building the engine with {product.title}; this can take minutes")
    built = build_engine(product, graph, settings)
    nodes = frozenset(node.name for node in prepared.coverage.nodes)
    told = coverage_of_engine(prepared.coverage, node_precisions(inspect_plan(product, built.plan), nodes))
    _check_told(told, request.precision)
    return Compiled(
        files={product.info.plan_file: built.plan},
        coverage=None if told.macs.get(UNKNOWN) == 1.0 else told,
        target={} if here is None else {"gpu": here.name, "compute_capability": here.compute_capability},
        compilation=_record(product, settings, built),
        versions={"tensorrt": product.version},
        open_session=_session_opener(product),
    )


def _check_told(told: Coverage, precision: str) -> None:
    """Fail on what the engine tells to run otherwise than asked for; what it does not tell is said, not guessed."""
    unknown = told.macs.get(UNKNOWN, 0.0)
    as_asked = coverage_with(told, UNKNOWN, MACS_IN[precision])
    check_precision(as_asked, precision)
    if unknown:
        note(f"the engine does not tell the precision of {unknown:.1%} of its multiply-accumulates")


def _runs_here(built: BuiltEngine) -> bool:
    """Whether the GPU of this machine, if there is one, is a target of a TensorRT-RTX plan."""
    here = gpu()
    return here is not None and here.compute_capability in read_plan_header(built.plan, "the engine").targets


def _session_opener(product: Product) -> Callable[[Artefact], Session]:
    from edgeline.backends.tensorrt import TensorRtSession

    return lambda artefact: TensorRtSession(artefact, "cuda", plan=artefact.file(product.info.plan_file))


def _record(product: Product, settings: BuildSettings, built: BuiltEngine) -> Mapping[str, Any]:
    return {
        "product": product.info.name,
        "version": product.version,
        "strongly_typed": built.strongly_typed,
        "plan_bytes": len(built.plan),
        "warnings": list(built.warnings),
        "settings": settings.to_record(),
    }
