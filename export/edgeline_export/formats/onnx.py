"""`onnx`: the graph itself, for ONNX Runtime and everything else that reads ONNX."""

from __future__ import annotations

from edgeline import interrupts
from edgeline.artefact import Artefact
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject


class OnnxFormat:
    """Writes model.onnx and verifies it with the session that a device will use."""

    name = "onnx"
    summary = "ONNX graph, opset 20, free batch; runs on ONNX Runtime"
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8", "int8+fp16")
    options: frozenset[str] = frozenset()

    def availability(self) -> Availability:
        """Say which of the packages that it needs are missing."""
        return missing_packages() or Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Bring the graph into its precision, verify it, and put it in place."""
        # Imported here, so that the table of formats can be printed where their packages are missing.
        with interrupts.held():
            from edgeline_export.assemble import assemble

        return assemble(subject, request, self.name, layout="integer")
