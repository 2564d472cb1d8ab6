"""ONNX Runtime through its own API: what onnxruntime.ai says under "Performance": thread management, I/O binding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeline_bench.engines import Call
from edgeline_bench.peers.engine import PeerEngine


class OnnxRuntimePeer(PeerEngine):
    """InferenceSession; for int8 on the Q/DQ graph, which it turns into its integer kernels."""

    def import_packages(self) -> None:
        """Import onnxruntime."""
        import onnxruntime

        self._package = onnxruntime

    def open(self, model: Path) -> None:
        """Open the graph, its free dimension fixed: shapes are then known when it is optimised."""
        ort = self._package
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name("batch", self.batch)  # as export-model names it
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input, self._output = self._session.get_inputs()[0].name, self._session.get_outputs()[0]

    def bind(self, batch: Any) -> Call:
        """Return run_with_iobinding on arrays that stay where they are."""
        import numpy as np

        out = np.empty((self.batch, *self._output.shape[1:]), np.float32)
        binding = self._session.io_binding()
        # An OrtValue made from an array shares its memory; both are kept by the call below.
        values = [self._package.OrtValue.ortvalue_from_numpy(array) for array in (batch, out)]
        binding.bind_ortvalue_input(self._input, values[0])
        binding.bind_ortvalue_output(self._output.name, values[1])
        run, kept = self._session.run_with_iobinding, (batch, values)

        def call(_kept: object = kept) -> object:
            run(binding)
            return out

        return call
