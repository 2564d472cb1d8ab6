"""ONNX Runtime's TensorRT provider: TensorRT without a plan of ours, for comparison and for graphs it takes in parts.

Nodes that TensorRT refuses run on the CUDA provider, none on the CPU, and at least one must run on TensorRT; ONNX
Runtime before 1.24 does not tell, so that there a graph may run on CUDA alone. The engine is built by the first session
of a graph, which can take minutes, and is kept in the cache by ONNX Runtime. The first session also runs the artefact's
self-test; an engine that has not passed it is not used again. What remains unchecked: later sessions load the files in
that folder as they are, since ONNX Runtime has no hash of them, and one that it builds anew by itself is not tested.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.backends.onnxruntime import OnnxRuntimeSession, Providers
from edgeline.cache import cache_folder, locked
from edgeline.command import note
from edgeline.cuda import gpu, has_cuda_driver
from edgeline.errors import EdgelineError, GateError, InputError, MissingCapabilityError, ShapeError
from edgeline.files import write_atomically
from edgeline.selftest import run_selftest
from edgeline.tensorrt.products import load_product, product_state

_TENSORRT = "TensorrtExecutionProvider"
_TF32_VARIABLE = "NVIDIA_TF32_OVERRIDE"
_MARK = "self-test-passed"


class OnnxRuntimeTensorRtSession(OnnxRuntimeSession):
    """Runs the artefact's graph on ONNX Runtime's TensorRT provider, for the manifest's range of batch sizes."""

    engine: ClassVar[str] = "onnxruntime-tensorrt"
    _unproven: Path | None = None  # the folder of an engine that has yet to pass the self-test

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1) -> None:
        """Open the graph; the first time on this machine, build and test its engine.

        Raises what OnnxRuntimeSession raises; InputError for device="cpu"; GateError when the self-test fails.
        """
        with contextlib.ExitStack() as self._opening:
            super().__init__(artefact, device, threads)
            if self._unproven is not None:
                self._prove(self._unproven)

    def _choose_device(self, device: str, onnxruntime: Any) -> str:
        if device == "cpu":
            raise InputError(f"{self.engine} runs on the GPU only; --engine onnxruntime --device cpu runs the graph")
        if not has_cuda_driver():
            raise MissingCapabilityError(
                f"{self.engine} needs an NVIDIA GPU and its driver; --engine onnxruntime runs the graph on the CPU"
            )
        if _TENSORRT not in onnxruntime.get_available_providers():
            raise MissingCapabilityError(
                f"{self.engine} needs ONNX Runtime with TensorRT: pip uninstall onnxruntime && "
                "pip install 'edgeline[gpu]'"
            )
        return "cuda"

    def _options(self, onnxruntime: Any) -> Any:
        options = super()._options(onnxruntime)
        # TensorRT is to get the graph that was verified: ONNX Runtime's rewriting may move Q/DQ to where it takes none.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return options

    def _providers(self, onnxruntime: Any) -> Providers:
        _settle_tf32(self.manifest.precision)
        _load_tensorrt()
        folder = self._claim(_engine_folder(self.artefact, onnxruntime.__version__))
        # With fp16 and int8 both off ONNX Runtime makes the network strongly typed: the casts and Q/DQ in the graph
        # decide. With one of them on, TensorRT would choose precisions by speed.
        options: dict[str, Any] = {
            "trt_fp16_enable": False,
            "trt_int8_enable": False,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(folder),
        }
        if self._fixed_batch is None:
            batch, tail = self.manifest.batch, "x".join(map(str, self._input_tail))
            for name, size in (("min", batch.min), ("opt", batch.opt), ("max", batch.max)):
                options[f"trt_profile_{name}_shapes"] = f"{self._input.name}:{size}x{tail}"
        return [(_TENSORRT, options), self._cuda_provider()]

    def _claim(self, folder: Path) -> Path:
        """Where the folder's engine was not tested yet, empty it, and hold its lock until the session is tested."""
        if not (folder / _MARK).exists():
            self._opening.enter_context(locked(folder))
        if not (folder / _MARK).exists():  # nobody has tested it while we waited: what is there was left half-done
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            note(f"{self.artefact.name}: ONNX Runtime builds TensorRT's engine for it now, which can take minutes")
            self._unproven = folder
        self._folder = folder
        return folder

    def _prove(self, folder: Path) -> None:
        """Run the self-test on the new engine. Without the mark the next session builds it anew."""
        try:
            run_selftest(self)
            write_atomically(folder / _MARK, "")
        except BaseException as error:
            self.close()
            if isinstance(error, GateError):
                raise GateError(f"{error}; the engine was not kept") from None
            raise

    def _refusal(self, graph: Path, words: str) -> EdgelineError:
        """An open error, too, may be a provider that did not start: nothing was left that may run the graph."""
        return MissingCapabilityError(
            f"ONNX Runtime's TensorRT provider cannot run {graph}: {words}; it needs the TensorRT that it was built "
            f"with, see edgeline doctor; if its engine is damaged, remove {self._folder}; --engine onnxruntime does "
            "without"
        )

    def _read_back(self, _asked: str) -> None:
        found = self._session.get_providers()
        if not found or found[0] != _TENSORRT:
            raise MissingCapabilityError(
                f"ONNX Runtime's TensorRT provider did not start (it fell back to {', '.join(found) or 'none'}): "
                "it needs the TensorRT that it was built with, see edgeline doctor; --engine onnxruntime does without"
            )
        self._check_assignment()
        self._check_tf32()

    def _check_assignment(self) -> None:
        """A provider that started may have been given no node at all: TensorRT may take none of a graph's."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return
        nodes: dict[str, int] = {}
        for part in self._session.get_provider_graph_assignment_info():
            nodes[part.ep_name] = nodes.get(part.ep_name, 0) + len(part.get_nodes())
        if not nodes.get(_TENSORRT):
            found = ", ".join(f"{count} on {name}" for name, count in nodes.items()) or "none anywhere"
            raise MissingCapabilityError(
                f"TensorRT takes no node of {self.artefact.name} from ONNX Runtime ({found}): its time would not be "
                "TensorRT's; --engine onnxruntime runs the graph"
            )

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        sizes = self.manifest.batch
        if self._fixed_batch is None and not sizes.min <= len(batch) <= sizes.max:
            raise ShapeError(
                f"{self.artefact.name} takes batches of {sizes.min} to {sizes.max} on TensorRT, got {len(batch)}: "
                "infer_all() cuts longer ones, export-model --batch MIN:OPT:MAX sets the range"
            )
        return super()._infer(batch)


def _settle_tf32(precision: str) -> None:
    """Turn TF32 off where TensorRT itself looks, as ONNX Runtime's provider has no option for it.

    TensorRT reads the variable once in a process, so fp32 and tf32 cannot both be run in one.
    """
    found = os.environ.get(_TF32_VARIABLE)
    if precision == "tf32" and found == "0":
        raise InputError(f"{_TF32_VARIABLE}=0 is set, or fp32 ran in this process before: tf32 needs a new one without")
    if precision != "tf32" and found not in (None, "0"):
        raise InputError(f"{_TF32_VARIABLE}={found} is set, and {precision} runs without TF32: unset {_TF32_VARIABLE}")
    if precision != "tf32":
        os.environ[_TF32_VARIABLE] = "0"


def _load_tensorrt() -> None:
    """Load TensorRT's libraries from its wheel, where the provider does not look; else they are the system's."""
    if product_state("trt").module is not None:
        load_product("trt")


def _engine_folder(artefact: Artefact, version: str) -> Path:
    """Name a folder per all that decides an engine: ONNX Runtime's own names for engines leave the weights out."""
    found, manifest = gpu(), artefact.manifest
    key = {
        "graph": manifest.files[GRAPH_FILE].sha256,
        "precision": manifest.precision,
        "batch": [manifest.batch.min, manifest.batch.opt, manifest.batch.max],
        "onnxruntime": version,
        "tensorrt": product_state("trt").version,
        "gpu": [found.name, found.compute_capability, found.driver] if found else None,
    }
    return cache_folder("ort-tensorrt") / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
