"""`openvino`: the model of OpenVINO's own converter, compiled on the device when a batch size is first used."""

from __future__ import annotations

from edgeline import interrupts
from edgeline.artefact import Artefact
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject


class OpenVinoFormat:
    """Writes model.xml and model.bin."""

    name = "openvino"
    summary = "OpenVINO model for CPUs; bf16 where the processor has it"
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8")
    options: frozenset[str] = frozenset()

    def availability(self) -> Availability:
        """Say whether OpenVINO is installed."""
        return missing_packages("openvino") or Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Convert, read from the compiled form what runs in which precision, verify, and put in place."""
        with interrupts.held():
            from edgeline_export.assemble import assemble
            from edgeline_export.peers.openvino import Converter

        converter = Converter(request)
        return assemble(subject, request, self.name, "integer", converter.compile_graph)
