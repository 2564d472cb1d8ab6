"""ONNX Runtime: the CPU provider, and the CUDA provider where asked for and present.

`device="cuda"` either runs on the GPU or raises; only "auto" may choose, and `Session.device` says what it chose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.cuda import has_cuda_driver
from edgeline.errors import ArtefactError, MissingCapabilityError
from edgeline.session import Session

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class OnnxRuntimeSession(Session):
    """Runs the artefact's graph on ONNX Runtime. Its Run is safe to call from several threads at once."""

    engine: ClassVar[str] = "onnxruntime"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1) -> None:
        """Open the graph.

        Raises MissingCapabilityError without onnxruntime or, for device="cuda", without a CUDA provider that starts;
        ArtefactError when ONNX Runtime refuses the graph.
        """
        super().__init__(artefact, device, threads)
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingCapabilityError(
                f"ONNX Runtime is not installed ({error}): pip install 'edgeline[onnx]' (or 'edgeline[gpu]', not both)"
            ) from None
        self.device = _choose_device(device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: they reach the caller as exceptions as well
        # Threads of a pool spin while they wait; this stops them when no call is running, so an idle session is idle.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        graph = artefact.file(GRAPH_FILE)
        try:
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=[_CUDA, _CPU] if self.device == "cuda" else [_CPU]
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a class of its own per status code
            raise ArtefactError(f"ONNX Runtime refuses {graph}: {_first_line(error)}") from None
        if self.device == "cuda" and self._session.get_providers()[0] != _CUDA:
            self.device = "cpu"  # ONNX Runtime has printed why, and fallen back by itself
        if device == "cuda" and self.device == "cpu":
            raise MissingCapabilityError(
                "ONNX Runtime's CUDA provider did not start (driver, CUDA or cuDNN libraries missing); "
                "edgeline doctor says more; device='cpu' runs here"
            )
        self._check_ends(graph)
        self._output_names = [self._output.name]
        self._input_name = self._input.name

    def _check_ends(self, graph: Path) -> None:
        """Hold the manifest against the graph: a wrong name or shape would otherwise fail on the first call."""
        for title, spec, found in (
            ("input", self._input, self._session.get_inputs()),
            ("output", self._output, self._session.get_outputs()),
        ):
            ends = [(end.name, [size if isinstance(size, int) else -1 for size in end.shape]) for end in found]
            if ends != [(spec.name, list(spec.shape))]:
                expected = [(spec.name, list(spec.shape))]
                raise ArtefactError(f"{graph} has the {title} {ends}, its manifest says {expected}; export it again")

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = self._session.run(self._output_names, {self._input_name: batch})[0]
        return result

    def _close(self) -> None:
        del self._session


def _choose_device(device: str, providers: list[str]) -> str:
    if device == "cuda" and _CUDA not in providers:
        raise MissingCapabilityError(
            "device='cuda' needs ONNX Runtime with CUDA: pip uninstall onnxruntime && pip install 'edgeline[gpu]'"
        )
    if device == "auto":
        return "cuda" if _CUDA in providers and has_cuda_driver() else "cpu"
    return device


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
