"""ONNX Runtime: the CPU provider, and the CUDA provider where asked for and present.

`device="cuda"` either runs on the GPU or raises; only "auto" may choose, and `Session.device` says what it chose. fp32
means fp32: the CUDA provider's TF32 is off unless the artefact's precision is tf32. ONNX Runtime falls back by itself
when a provider does not start, so what runs is read back from the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.cuda import has_cuda_driver
from edgeline.errors import ArtefactError, EdgelineError, MissingCapabilityError
from edgeline.session import Session

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

Providers = list[tuple[str, dict[str, Any]]]


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
        self.device = self._choose_device(device, onnxruntime)
        graph = artefact.file(GRAPH_FILE)
        options, providers = self._options(onnxruntime), self._providers(onnxruntime)
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=providers)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a class of its own per status code
            raise self._refusal(graph, str(error).strip().partition("\n")[0] or type(error).__name__) from None
        self._read_back(device)
        self._check_ends(graph)
        self._output_names = [self._output.name]
        self._input_name = self._input.name

    def _choose_device(self, device: str, onnxruntime: Any) -> str:
        providers = onnxruntime.get_available_providers()
        if device == "cuda" and _CUDA not in providers:
            raise MissingCapabilityError(
                "device='cuda' needs ONNX Runtime with CUDA: pip uninstall onnxruntime && pip install 'edgeline[gpu]'"
            )
        if device == "auto":
            return "cuda" if _CUDA in providers and has_cuda_driver() else "cpu"
        return device

    def _options(self, onnxruntime: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: they reach the caller as exceptions as well
        # Threads of a pool spin while they wait; this stops them when no call is running, so an idle session is idle.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def _providers(self, _onnxruntime: Any) -> Providers:
        return [*([self._cuda_provider()] if self.device == "cuda" else []), (_CPU, {})]

    def _cuda_provider(self) -> tuple[str, dict[str, Any]]:
        return _CUDA, {"use_tf32": "1" if self.manifest.precision == "tf32" else "0"}

    def _refusal(self, graph: Path, words: str) -> EdgelineError:
        return ArtefactError(f"ONNX Runtime refuses {graph}: {words}")

    def _read_back(self, asked: str) -> None:
        """Hold what runs against what was asked for; "auto" may end on the CPU. ONNX Runtime has printed why."""
        if self.device == "cuda" and self._session.get_providers()[0] != _CUDA:
            self.device = "cpu"
        if asked == "cuda" and self.device == "cpu":
            raise MissingCapabilityError(
                "ONNX Runtime's CUDA provider did not start (driver, CUDA or cuDNN libraries missing); "
                "edgeline doctor says more; device='cpu' runs here"
            )
        if self.device == "cuda":
            self._check_tf32()

    def _check_tf32(self) -> None:
        name, wanted = self._cuda_provider()
        found: Mapping[str, str] = self._session.get_provider_options().get(name, {})
        if found.get("use_tf32", wanted["use_tf32"]) != wanted["use_tf32"]:
            raise MissingCapabilityError(
                f"ONNX Runtime's CUDA provider keeps use_tf32={found['use_tf32']}, {self.manifest.precision} needs "
                f"{wanted['use_tf32']}: pip install --upgrade 'edgeline[gpu]'"
            )

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
