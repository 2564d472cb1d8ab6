"""OpenVINO through its own API: its performance hints, and shared memory instead of copies.

docs.openvino.ai, "Optimizing for Latency" and "OpenVINO Runtime API ... Python API Advanced Inference" (shared memory).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeline.errors import EdgelineError
from edgeline_bench.engines import Call
from edgeline_bench.peers.engine import PeerEngine


class OpenVinoPeer(PeerEngine):
    """A compiled model with one infer request, from an .onnx file or from an .xml that NNCF wrote."""

    def import_packages(self) -> None:
        """Import openvino."""
        from edgeline.backends.openvino import import_openvino

        self._package = import_openvino()  # without its telemetry

    def open(self, model: Path) -> None:
        """Compile it for the batch size, which is faster than a free one.

        fp32 means fp32: without the hint OpenVINO computes in bfloat16 where the processor has it. What an int8 graph
        leaves in floats is OpenVINO's to choose. Raises EdgelineError when the hint is not kept.
        """
        core = self._package.Core()
        graph = core.read_model(model)
        graph.reshape([self.batch, *list(graph.input(0).partial_shape)[1:]])
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads}
        if self.precision == "fp32":
            hints["INFERENCE_PRECISION_HINT"] = "f32"
        self._compiled = core.compile_model(graph, "CPU", hints)
        found = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if self.precision == "fp32" and found != "f32":
            raise EdgelineError(f"OpenVINO computes in {found}, f32 was asked for")

    def bind(self, batch: Any) -> Call:
        """Return infer() on tensors that share their memory with numpy."""
        request = self._compiled.create_infer_request()
        request.set_input_tensor(self._package.Tensor(batch, shared_memory=True))
        out = request.get_output_tensor()
        infer = request.infer

        def call(_kept: object = batch) -> object:
            infer(share_outputs=True)
            return out.data

        return call
