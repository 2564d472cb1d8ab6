"""Run an ONNX graph from memory on ONNX Runtime's CPU provider: for calibration and for the gate, not for devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgeline.errors import InputError
from edgeline_export.graph import inputs_of, one_line

# Fixed: how work is cut among threads may change the last bits of ranges and logits, and so the bytes of an artefact.
THREADS = 2


class GraphRunner:
    """A graph that is ready to run; `outputs` names further tensors to return beside the graph's own."""

    def __init__(self, model: onnx.ModelProto, outputs: tuple[str, ...] = (), batch: int | None = None) -> None:
        """Open the graph; `batch` is its size where the graph fixes it. Raises InputError when it is refused."""
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        own = {value.name for value in watched.graph.output}
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in own)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 3
        if outputs:
            # Fusions would swallow the tensors that are asked for.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a class of its own per status code
            raise InputError(f"ONNX Runtime refuses the graph: {one_line(error)}") from None
        self._input = inputs_of(model)[0].name
        self._output = model.graph.output[0].name
        self._batch = batch

    def run(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the graph's output for [n, ...] samples, in pieces where it fixes its batch.

        Raises InputError, in ONNX Runtime's words, when it cannot run them.
        """
        if self._batch is None:
            return self._run((self._output,), samples)[0]
        padding = -len(samples) % self._batch
        padded = np.concatenate([samples, np.repeat(samples[-1:], padding, axis=0)])
        pieces = [
            self._run((self._output,), padded[i : i + self._batch])[0] for i in range(0, len(padded), self._batch)
        ]
        return np.concatenate(pieces)[: len(samples)]

    def tensors(self, names: tuple[str, ...], samples: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return the named tensors for one batch. Raises InputError, in ONNX Runtime's words, when it cannot run it."""
        return self._run(names, samples)

    def _run(self, names: tuple[str, ...], samples: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        try:
            found: list[npt.NDArray[Any]] = self._session.run(list(names), {self._input: samples})
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a class of its own per status code
            raise InputError(
                f"ONNX Runtime cannot run the graph on {samples.dtype} {list(samples.shape)}: {one_line(error)}"
            ) from None
        return found
