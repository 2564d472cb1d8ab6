"""`litert`: LiteRT's .tflite, made from the torch network by litert-torch and, for int8, ai-edge-quantizer."""

from __future__ import annotations

from edgeline import interrupts
from edgeline.artefact import Artefact
from edgeline.errors import InputError
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject


class LiteRtFormat:
    """Writes model.onnx and model.tflite.

    Half precision is left out: on a CPU of this kind LiteRT stores float16 weights and computes in float32.
    """

    name = "litert"
    summary = "LiteRT (TensorFlow Lite) model with a free batch, by litert-torch; runs on XNNPACK"
    precisions: tuple[str, ...] = ("fp32", "int8")
    options: frozenset[str] = frozenset()

    def availability(self) -> Availability:
        """Say which of the packages that it needs are missing."""
        return missing_packages("litert_torch", "ai_edge_quantizer", "ai_edge_litert") or Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Convert, quantise for int8, verify, and put in place. Raises InputError for an .onnx subject."""
        module = subject.module
        if module is None:
            raise InputError(
                f"litert converts torch networks, {subject.name} is an .onnx file; take --format onnx, openvino or c"
            )
        with interrupts.held():
            from edgeline_export.assemble import assemble
            from edgeline_export.peers.litert import compile_module

        return assemble(
            subject,
            request,
            self.name,
            "integer",
            lambda _, prepared: compile_module(module, subject, request, prepared),
        )
