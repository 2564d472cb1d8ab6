"""`iree`: modules of IREE for this machine's CPU, by iree-import-onnx and iree-compile."""

from __future__ import annotations

from edgeline import interrupts
from edgeline.artefact import Artefact
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject


class IreeFormat:
    """Writes model.b<N>.vmfb, the code for N samples, for each batch size, and model.irpa, their weights."""

    name = "iree"
    summary = "IREE modules for this machine's CPU, one for each batch size"
    precisions: tuple[str, ...] = ("fp32", "int8")
    options: frozenset[str] = frozenset()

    def availability(self) -> Availability:
        """Say whether IREE's compiler and runtime are installed."""
        return missing_packages("iree") or Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Compile, verify, and put in place."""
        with interrupts.held():
            from edgeline_export.assemble import assemble
            from edgeline_export.peers.iree import compile_network

        return assemble(
            subject, request, self.name, "integer", lambda graph, prepared: compile_network(graph, prepared, request)
        )
