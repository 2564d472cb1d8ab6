"""OpenVINO's converter, and what its compiled form tells of its precision.

int8 is our Q/DQ graph, converted like any other: it is as fast in OpenVINO as what OpenVINO's own quantiser NNCF makes
of the float network, and as accurate (docs/results/c-peers.md). Two exports of one graph give the same bytes from two
processes; within one, OpenVINO goes on counting the names of its constants. It saves no compiled form: where it runs,
it compiles in a fraction of a second to seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx

from edgeline.backends.openvino import (
    HINTS,
    MODEL_FILE,
    WEIGHTS_FILE,
    OpenVinoLayer,
    OpenVinoSession,
    check_processor,
    compile_model,
    import_openvino,
    layers_of,
    shared_core,
    words_of,
)
from edgeline.command import note
from edgeline.errors import ArtefactError, InputError
from edgeline_export.assemble import Compiled
from edgeline_export.coverage import Coverage, check_precision, coverage_of_engine, coverage_with
from edgeline_export.formats.interface import ExportRequest
from edgeline_export.precision import GraphInPrecision
from edgeline_export.runner import THREADS
from edgeline_export.writer import versions_of

UNKNOWN = "unknown"
_PRECISION_OF = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8"}


class Converter:
    """OpenVINO, made ready for one export."""

    def __init__(self, request: ExportRequest) -> None:
        """Raise MissingCapabilityError where the processor does not compute in the precision that was asked for."""
        self._openvino = import_openvino()
        self._core = shared_core()
        self._request = request
        check_processor(self._core, request.precision)

    def compile_graph(self, graph: bytes, prepared: GraphInPrecision) -> Compiled:
        """Convert a graph, compile it for each of the batch sizes, and read the precisions from what was compiled.

        Raises InputError in OpenVINO's words when it refuses the graph, GateError when it computes otherwise.
        """
        request = self._request
        note("converting with OpenVINO")
        with tempfile.TemporaryDirectory() as name:
            files = self._convert(graph, Path(name))
            told = self._coverage(Path(name) / MODEL_FILE, prepared)
        if told.macs.get(UNKNOWN):
            note(f"OpenVINO does not tell the precision of {told.macs[UNKNOWN]:.1%} of its multiply-accumulates")
        return Compiled(
            files=files,
            versions=versions_of("openvino"),
            coverage=None if told.macs.get(UNKNOWN) == 1.0 else told,
            compilation={
                "converter": "openvino.convert_model",
                "quantiser": None if request.precision != "int8" else "edgeline's Q/DQ graph, layout integer",
                "batches": list(request.sizes),
                "settings": {
                    "compress_to_fp16": False,
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "INFERENCE_PRECISION_HINT": HINTS[request.precision],
                    "ENABLE_CPU_PINNING": False,
                },
            },
            open_session=lambda artefact: OpenVinoSession(artefact, "cpu", THREADS),
        )

    def _convert(self, graph: bytes, folder: Path) -> Mapping[str, bytes]:
        source = folder / "graph.onnx"
        source.write_bytes(graph)
        try:
            model = self._openvino.convert_model(source)
            self._openvino.save_model(model, folder / MODEL_FILE, compress_to_fp16=False)
        except Exception as error:  # noqa: BLE001 - OpenVINO raises RuntimeError and its own classes
            raise InputError(f"OpenVINO does not convert this network: {words_of(error)}; take onnx or c") from None
        return {name: (folder / name).read_bytes() for name in (MODEL_FILE, WEIGHTS_FILE)}

    def _coverage(self, path: Path, prepared: GraphInPrecision) -> Coverage:
        """Compile for each batch size, check each, and return what the one of `batch.opt` tells."""
        request = self._request
        told: dict[int, Coverage] = {}
        fixed = prepared.graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        for size in {fixed} if fixed else {*request.sizes, request.batch.opt}:
            model = self._core.read_model(path)
            try:
                compiled = compile_model(self._core, model, size, 1, request.precision)
            except ArtefactError as error:
                raise InputError(f"{error}; take onnx or c") from None
            precisions = node_precisions(layers_of(compiled), prepared.graph.graph.node)
            coverage = coverage_of_engine(prepared.coverage, precisions)
            check_precision(coverage_with(coverage, UNKNOWN, request.precision), request.precision)
            told[size] = coverage
        return told[fixed or request.batch.opt]


def node_precisions(layers: Iterable[OpenVinoLayer], nodes: Iterable[onnx.NodeProto]) -> dict[str, str]:
    """Return the precision of each ONNX node, by its name; UNKNOWN where no layer tells.

    OpenVINO names what it makes of a node after the node or its output, with a suffix behind a slash where it makes
    several.
    """
    layers = list(layers)
    return {node.name or node.output[0]: _precision(layers, {node.name, *node.output} - {""}) for node in nodes}


def _precision(layers: list[OpenVinoLayer], names: set[str]) -> str:
    for layer in layers:
        own = [n for n in layer.nodes if n in names or any(n.startswith(f"{name}/") for name in names)]
        if not own:
            continue
        if layer.kind != "Subgraph":
            return _PRECISION_OF.get(layer.precision, UNKNOWN)
        # Several operations in one kernel, which tells the precision of the first. That a product in it is one of
        # integers is seen in that its dequantisation comes behind it, and that weights enter as int8.
        integer = any(n.endswith("/DequantizationMultiply") for n in own) and "i8" in layer.constants
        if integer:
            return "int8"
        plain = not any(constant in ("i8", "u8") for constant in layer.constants)
        return _PRECISION_OF.get(layer.precision, UNKNOWN) if plain else UNKNOWN
    return UNKNOWN
