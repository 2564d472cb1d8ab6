"""From a subject to an artefact on disk: the one way that every format takes.

Precision first, then the format's own compiler, then the gate, and only then the folder appears.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.artefact import GRAPH_FILE, SELFTEST_FILE, Artefact
from edgeline.backends.onnxruntime import OnnxRuntimeSession
from edgeline.errors import GateError
from edgeline.manifest import Manifest
from edgeline.session import Session
from edgeline_export.calibration_record import CALIBRATION_FILE, calibration_json
from edgeline_export.coverage import Coverage
from edgeline_export.formats.interface import ExportRequest
from edgeline_export.graph import inputs_of, outputs_of
from edgeline_export.page import PAGE_FILE, export_page
from edgeline_export.precision import GraphInPrecision, graph_in_precision
from edgeline_export.quantise import quantised_tensors
from edgeline_export.runner import THREADS, GraphRunner
from edgeline_export.subject import Subject
from edgeline_export.verify import Judged, verify
from edgeline_export.writer import (
    SELFTEST_SAMPLES,
    artefact_folder_name,
    now_utc,
    selftest_bytes,
    versions_of,
    write_artefact,
)

_TWIN = "onnxruntime, in float32 with every weight and activation rounded to float16"


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a format's compiler made of the graph.

    `files` lie beside model.onnx; `open_session` opens what was compiled, where that runs on this machine, and `engine`
    is what the manifest calls it; `coverage` is the engine's own word on its precision, where it has one. `finish` is
    called with the inputs of the self-test when the gate has passed; it may still raise GateError, and returns further
    files.
    """

    build: str = "built"
    files: Mapping[str, bytes] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    compilation: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    coverage: Coverage | None = None
    open_session: Callable[[Artefact], Session] | None = None
    engine: str | None = None
    finish: Callable[[Artefact, npt.NDArray[Any], Judged], Mapping[str, bytes]] | None = None


Compile = Callable[[bytes, GraphInPrecision], Compiled]


def assemble(
    subject: Subject, request: ExportRequest, format_name: str, layout: str, compile_graph: Compile | None = None
) -> Artefact:
    """Bring the subject into its precision, compile it, verify it and write the artefact.

    Raises what graph_in_precision, the compiler and verify raise; nothing is written then.
    """
    prepared = graph_in_precision(subject, request.precision, layout, request.calibration)
    graph = prepared.graph
    content = graph.SerializeToString(deterministic=True)
    compiled = Compiled() if compile_graph is None else compile_graph(content, prepared)
    draft = Manifest(
        name=subject.name,
        dataset=subject.dataset,
        precision=request.precision,
        format=format_name,
        build=compiled.build,
        created=now_utc(),
        versions={**versions_of("onnx", "onnxruntime", "torch"), **compiled.versions},
        files={},
        inputs=inputs_of(graph),
        outputs=outputs_of(graph),
        batch=request.batch,
        preprocessing=subject.preprocessing,
        labels=subject.labels,
        source=subject.source,
        verification={},
        precision_coverage=(compiled.coverage or prepared.coverage).to_record(),
        target=compiled.target,
        calibration=None if prepared.calibration is None else prepared.calibration.to_record(),
        compilation=compiled.compilation,
    )

    def finish(unfinished: Artefact) -> tuple[Manifest, Mapping[str, bytes]]:
        judged = _judge(subject, request, prepared, compiled, unfinished)
        manifest = replace(unfinished.manifest, verification=judged.verification.to_record())
        inputs = subject.samples.batch(0, SELFTEST_SAMPLES)
        files = {SELFTEST_FILE: selftest_bytes(inputs, judged.outputs[: len(inputs)], judged.tolerance)}
        if compiled.finish is not None:
            files |= compiled.finish(unfinished, inputs, judged)
        if prepared.calibration is not None:
            quantised = quantised_tensors(graph)
            files[CALIBRATION_FILE] = calibration_json(prepared.calibration, quantised).encode()
            files[PAGE_FILE] = export_page(manifest, prepared.calibration, quantised).encode()
        return manifest, files

    folder = artefact_folder(subject, request, format_name)
    return write_artefact(folder, draft, {GRAPH_FILE: content, **compiled.files}, finish)


def artefact_folder(subject: Subject, request: ExportRequest, format_name: str) -> Path:
    """Return where the artefact goes."""
    name = artefact_folder_name(subject.name, subject.dataset, request.precision, format_name, request.target_suffix)
    return request.out / name


def _judge(
    subject: Subject, request: ExportRequest, prepared: GraphInPrecision, compiled: Compiled, unfinished: Artefact
) -> Judged:
    """Verify with the compiled form where it runs here, else with the graph on ONNX Runtime, else with its twin."""
    if compiled.open_session is not None:
        with compiled.open_session(unfinished) as session:
            engine = compiled.engine or session.engine
            return verify(subject, session.infer_all, engine, request.precision, request.sizes, request.max_drop)
    with OnnxRuntimeSession(unfinished, "cpu", threads=THREADS) as session:
        if prepared.twin is None:
            own_form = unfinished.manifest.format == "onnx"
            engine = session.engine if own_form else f"{session.engine}, the same graph"
            return verify(subject, session.infer_all, engine, request.precision, request.sizes, request.max_drop)
        fixed = prepared.twin.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None
        twin = GraphRunner(prepared.twin, batch=fixed)
        judged = verify(subject, twin.run, _TWIN, request.precision, request.sizes, request.max_drop)
        _check_against_twin(session, subject.samples.batch(0, SELFTEST_SAMPLES), judged)
        return judged


def _check_against_twin(session: Session, inputs: npt.NDArray[Any], judged: Judged) -> None:
    """The twin was judged; what ships must compute the same, up to the rounding that ONNX Runtime leaves out."""
    difference = float(np.abs(session.infer_all(inputs).astype(np.float64) - judged.outputs[: len(inputs)]).max())
    if not difference <= judged.tolerance:
        raise GateError(
            f"the float16 graph and its float32 twin differ by {difference:.3g} in a logit, "
            f"{judged.tolerance:.3g} is allowed; nothing was written"
        )
