"""`onnx`: the graph itself, for ONNX Runtime and everything else that reads ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

from edgeline import interrupts
from edgeline.artefact import GRAPH_FILE, SELFTEST_FILE, Artefact
from edgeline.manifest import Manifest
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.subject import Subject
from edgeline_export.writer import (
    SELFTEST_SAMPLES,
    artefact_folder_name,
    now_utc,
    selftest_bytes,
    versions_of,
    write_artefact,
)

_PACKAGES = ("onnx", "onnxruntime", "scipy")
# Of the verification. Fixed: how work is cut among threads may change the last bits of selftest.npz.
_THREADS = 2


class OnnxFormat:
    """Writes model.onnx and verifies it with the session that a device will use."""

    name = "onnx"
    summary = "ONNX graph, opset 20, free batch; runs on ONNX Runtime"
    precisions: tuple[str, ...] = ("fp32",)

    def availability(self) -> Availability:
        """Say which of the packages that it needs are missing."""
        missing = [name for name in _PACKAGES if find_spec(name) is None]
        if missing:
            return Availability(False, f"{', '.join(missing)} not installed", "pip install 'edgeline[export]'")
        return Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Check the precision, write, verify, and put in place."""
        # Imported here, so that the table of formats can be printed where their packages are missing.
        with interrupts.held():
            from edgeline.backends.onnxruntime import OnnxRuntimeSession
            from edgeline_export.graph import check_precision, coverage_of, inputs_of, outputs_of
            from edgeline_export.verify import verify

        graph = subject.graph
        coverage = coverage_of(graph)
        check_precision(coverage, request.precision)
        folder = request.out / artefact_folder_name(subject.name, subject.dataset, request.precision, self.name)
        draft = Manifest(
            name=subject.name,
            dataset=subject.dataset,
            precision=request.precision,
            format=self.name,
            build="built",
            created=now_utc(),
            versions=versions_of("onnx", "onnxruntime", "torch"),
            files={},
            inputs=inputs_of(graph),
            outputs=outputs_of(graph),
            batch=request.batch,
            preprocessing=subject.preprocessing,
            labels=subject.labels,
            source=subject.source,
            verification={},
            precision_coverage={"source": "graph", "macs": coverage.macs, "weights": coverage.weights},
        )

        def finish(unfinished: Artefact) -> tuple[Manifest, Mapping[str, bytes]]:
            with OnnxRuntimeSession(unfinished, "cpu", threads=_THREADS) as session:
                judged = verify(
                    subject, session.infer_all, session.engine, request.precision, request.batch, request.max_drop
                )
            inputs = subject.samples.batch(0, SELFTEST_SAMPLES)
            selftest = selftest_bytes(inputs, judged.outputs[: len(inputs)], judged.tolerance)
            return replace(unfinished.manifest, verification=judged.verification.to_record()), {SELFTEST_FILE: selftest}

        return write_artefact(folder, draft, {GRAPH_FILE: graph.SerializeToString(deterministic=True)}, finish)
