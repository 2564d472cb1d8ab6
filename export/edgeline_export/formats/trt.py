"""`trt` and `trt-rtx`: TensorRT's and TensorRT-RTX's engines, and the graph they are built from.

TensorRT builds on a GPU only. Without one the artefact is the same but for its plan, which `edgeline build` makes on
the device; where TensorRT-RTX is installed, which builds without a GPU and has the same ONNX parser, it proves here
that parser and builder take the graph. A build proves that, not that kernels run in int8: only an engine can say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeline import interrupts
from edgeline.artefact import Artefact
from edgeline.command import note
from edgeline.cuda import gpu
from edgeline.errors import MissingCapabilityError
from edgeline.tensorrt.products import PRODUCTS, product_state
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject

if TYPE_CHECKING:
    from edgeline_export.assemble import Compiled
    from edgeline_export.precision import GraphInPrecision

_PRECISIONS = ("fp32", "tf32", "fp16", "int8", "int8+fp16")


class TrtFormat:
    """Writes model.onnx and, on a machine with a GPU and TensorRT, model.plan."""

    name = "trt"
    summary = "TensorRT engine for this machine's GPU; without one, built on the device"
    precisions: tuple[str, ...] = _PRECISIONS
    options = frozenset({"require_engine"})

    def availability(self) -> Availability:
        """Say that it can be written, and whether with an engine."""
        missing = missing_packages()
        if missing is not None:
            return missing
        reason = _why_no_engine()
        return Availability(True, remark=f"without an engine here: {reason}" if reason else "")

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Build the plan or leave it to the device, verify, and put in place."""
        reason = _why_no_engine()
        if reason and request.require_engine:
            raise MissingCapabilityError(
                f"no TensorRT engine can be built here: {reason}; without --require-engine the device builds it"
            )
        with interrupts.held():
            from edgeline_export.assemble import assemble
            from edgeline_export.engines import check_with_rtx, compile_for_this_gpu

        def compile_graph(graph: bytes, prepared: GraphInPrecision) -> Compiled:
            if reason:
                note(f"no engine is built here ({reason}): on the device, edgeline build makes it")
                return check_with_rtx(graph, request)
            return compile_for_this_gpu(graph, prepared, request)

        return assemble(subject, request, self.name, "fused", compile_graph)


class TrtRtxFormat:
    """Writes model.onnx and model.rtxplan, on any machine."""

    name = "trt-rtx"
    summary = "TensorRT-RTX engine for the GPUs of --compute-capability (default: Ampere and later); needs no GPU"
    precisions: tuple[str, ...] = _PRECISIONS
    options = frozenset({"compute_capability", "require_engine"})

    def availability(self) -> Availability:
        """Say whether TensorRT-RTX is installed and whole."""
        state = product_state(self.name)
        if state.module is None:
            return Availability(False, state.why, PRODUCTS[self.name].install)
        return missing_packages() or Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Build the plan, verify, and put in place."""
        with interrupts.held():
            from edgeline_export.assemble import assemble
            from edgeline_export.engines import compile_with_rtx

        return assemble(subject, request, self.name, "fused", lambda graph, _: compile_with_rtx(graph, request))


def _why_no_engine() -> str:
    """Say what TensorRT misses on this machine; empty when nothing."""
    state = product_state("trt")
    if gpu() is None:
        return "no NVIDIA GPU or no driver"
    return "" if state.module else f"{state.why}: {PRODUCTS['trt'].install}"
