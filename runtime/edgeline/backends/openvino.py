"""OpenVINO on the CPU, from the model.xml and model.bin that its own converter wrote.

OpenVINO computes float networks in bfloat16 by itself where the processor has it. Here precision is the artefact's: the
hint says float32, also for what an int8 network leaves in floats, and bf16 is a precision of its own, which a processor
without it refuses. OpenVINO's telemetry, which an import alone would send, stays off.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeline.artefact import Artefact
from edgeline.errors import ArtefactError, InputError, MissingCapabilityError
from edgeline.session import Session

MODEL_FILE, WEIGHTS_FILE = "model.xml", "model.bin"
HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}  # INFERENCE_PRECISION_HINT by the artefact's precision
_KEPT = 4  # compiled batch sizes


@dataclass(frozen=True, slots=True)
class OpenVinoLayer:
    """An operation of a compiled model: its kind, the names of the model's nodes that it carries out, its precision.

    `precision` is OpenVINO's own word (`f32`, `bf16`, `u8`, `i8`), of a fused Subgraph that of its first operation;
    `constants` are the precisions in which constants enter it.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    precision: str
    constants: tuple[str, ...]


@dataclass(slots=True)
class _Prepared:
    """A compiled batch size: its one request, an output array of its own, and the arrays that are bound now."""

    request: Any
    own: npt.NDArray[Any]
    batch: npt.NDArray[Any] | None = None
    out: npt.NDArray[Any] | None = None


class OpenVinoSession(Session):
    """Runs an OpenVINO model, compiled for each batch size at its first use; the last four of them are kept.

    Shapes are fixed, a LATENCY hint with one stream asks for one request at a time on all `threads`, and tensors share
    their memory with numpy ("Optimizing for Latency", "Dynamic Shapes", "OpenVINO Runtime Python API Advanced
    Inference" on docs.openvino.ai). Threads are not pinned ("Performance Hints and Thread Scheduling": Linux pins by
    default), so that the caller's affinity is theirs. Calls from several threads wait for each other. The arrays of the
    last call stay bound until the next.
    """

    engine: ClassVar[str] = "openvino"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1) -> None:
        """Read the model.

        Raises MissingCapabilityError without openvino, for device="cuda", and for bf16 on a processor that lacks it;
        ArtefactError when OpenVINO refuses the model or its ends are not the manifest's.
        """
        super().__init__(artefact, device, threads)
        if device == "cuda":
            raise MissingCapabilityError(f"{artefact.name} runs on the CPU in OpenVINO: device='cpu' or 'auto'")
        self.device = "cpu"
        self._openvino = import_openvino()
        self._core = shared_core()
        precision = self.manifest.precision
        if precision not in HINTS:
            raise ArtefactError(f"{artefact.name} is in {precision}, openvino artefacts in {', '.join(HINTS)}")
        check_processor(self._core, precision)
        path = artefact.file(MODEL_FILE)
        artefact.file(WEIGHTS_FILE)
        try:
            self._model = self._core.read_model(path)
        except Exception as error:  # noqa: BLE001 - OpenVINO raises RuntimeError and its own classes
            raise ArtefactError(f"OpenVINO refuses {path}: {words_of(error)}; export it again") from None
        self._check_ends(str(path))
        self._lock = threading.Lock()
        self._sizes: OrderedDict[int, _Prepared] = OrderedDict()

    def _check_ends(self, path: str) -> None:
        """Hold the manifest against the model: a wrong name or shape would otherwise fail on the first call."""
        for title, spec, found in (
            ("input", self._input, self._model.inputs),
            ("output", self._output, self._model.outputs),
        ):
            ends = [(sorted(end.get_names()), _sizes(end), end.element_type.to_dtype().name) for end in found]
            right = len(ends) == 1 and spec.name in ends[0][0] and ends[0][1:] == (list(spec.shape), spec.dtype)
            if not right:
                raise ArtefactError(
                    f"{path} has the {title} {ends}, its manifest says {spec.name} {list(spec.shape)} {spec.dtype}; "
                    "export it again"
                )

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with self._lock:
            prepared = self._prepared(len(batch))
            _run(self._openvino.Tensor, prepared, batch, prepared.own)
            result: npt.NDArray[Any] = prepared.own.copy()
        return result

    def _infer_into(self, batch: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        apart = (batch.base is None and out.base is None and batch is not out) or not np.may_share_memory(batch, out)
        if not (apart and out.flags.carray):  # C-contiguous, aligned, and writeable
            super()._infer_into(batch, out)
            return
        with self._lock:
            _run(self._openvino.Tensor, self._prepared(len(batch)), batch, out)

    def _prepared(self, size: int) -> _Prepared:
        """Return what runs batches of a size, compiled now where it is new; the longest unused gives way."""
        if self._closed:
            raise InputError("this session was closed by another thread; load it again with edgeline.load")
        prepared = self._sizes.get(size)
        if prepared is None:
            compiled = compile_model(self._core, self._model, size, self.threads, self.manifest.precision)
            own = np.empty((size, *self._output.shape[1:]), self._output_dtype)
            prepared = self._sizes[size] = _Prepared(compiled.create_infer_request(), own)
            if len(self._sizes) > _KEPT:
                self._sizes.popitem(last=False)
        elif len(self._sizes) > 1:
            self._sizes.move_to_end(size)
        return prepared

    def _close(self) -> None:
        with self._lock:
            self._sizes.clear()
            del self._model, self._core


def _run(tensor: Any, prepared: _Prepared, batch: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Run a batch into `out`. Making a tensor costs 3 us: arrays that are bound already are not bound again."""
    if batch is not prepared.batch:
        # OpenVINO shares writeable memory only, though it does not write to an input.
        shared = batch if batch.flags.writeable else batch.copy()
        prepared.request.set_input_tensor(tensor(shared, shared_memory=True))
        prepared.batch = batch if shared is batch else None
    if out is not prepared.out:
        prepared.request.set_output_tensor(tensor(out, shared_memory=True))
        prepared.out = out
    prepared.request.infer(share_outputs=True)


def import_openvino() -> Any:
    """Import openvino as where its telemetry package is not installed. Raises MissingCapabilityError without it."""
    from edgeline.backends import ENGINES

    try:
        with without_telemetry():
            import openvino
    except ImportError as error:
        raise MissingCapabilityError(f"OpenVINO is not installed ({error}): {ENGINES['openvino'].install}") from None
    return openvino


@functools.cache
def shared_core() -> Any:
    """Return the one Core of this process, which lives as long as that. Raises MissingCapabilityError.

    OpenVINO asks for one Core in an application. Its death also unloads libraries that models and requests still point
    into: one that Python's collector frees later, such as that of a session that failed to open, ends the process.
    """
    return import_openvino().Core()


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Hide openvino_telemetry from an import: with it, importing openvino reports the use and writes ~/intel."""
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        sys.modules.pop(name, None)


def check_processor(core: Any, precision: str) -> None:
    """Raise MissingCapabilityError for bf16 where OpenVINO says that the processor does not compute in it."""
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        raise MissingCapabilityError(
            f"this CPU has no bfloat16 arithmetic (OpenVINO offers {', '.join(capabilities)}): take fp32 or int8"
        )


def compile_model(core: Any, model: Any, size: int, threads: int, precision: str) -> Any:
    """Compile a model for batches of `size` on `threads` CPU threads, in a precision of HINTS.

    Raises ArtefactError when OpenVINO refuses, MissingCapabilityError when it does not keep the precision.
    """
    hint = HINTS[precision]
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": hint,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        shape = model.input(0).partial_shape
        model.reshape([size, *list(shape)[1:]])
        compiled = core.compile_model(model, "CPU", settings)
        found = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    except Exception as error:  # noqa: BLE001 - OpenVINO raises RuntimeError and its own classes
        raise ArtefactError(f"OpenVINO does not compile the model for batch {size}: {words_of(error)}") from None
    if found != hint:
        raise MissingCapabilityError(f"OpenVINO computes in {found}, {precision} needs {hint}: take another precision")
    return compiled


def layers_of(compiled: Any) -> tuple[OpenVinoLayer, ...]:
    """Return what a compiled model executes, constants, inputs and outputs left out."""
    operations = compiled.get_runtime_model().get_ordered_ops()
    told = {operation.get_friendly_name(): _told(operation) for operation in operations}
    layers = []
    for operation in operations:
        information = told[operation.get_friendly_name()]
        if information["layerType"] in ("Const", "Input", "Output"):
            continue
        given = [told[value.get_node().get_friendly_name()] for value in operation.input_values()]
        layers.append(
            OpenVinoLayer(
                name=operation.get_friendly_name(),
                kind=information["layerType"],
                nodes=tuple(name for name in information["originalLayersNames"].split(",") if name),
                precision=information["runtimePrecision"],
                constants=tuple(g["outputPrecisions"] for g in given if g["layerType"] == "Const"),
            )
        )
    return tuple(layers)


def _told(operation: Any) -> dict[str, str]:
    keys = ("layerType", "originalLayersNames", "runtimePrecision", "outputPrecisions")
    information = operation.rt_info
    return {key: information[key].astype(str) if key in information else "" for key in keys}


def _sizes(end: Any) -> list[int]:
    return [size.get_length() if size.is_static else -1 for size in end.partial_shape]


def words_of(error: Exception) -> str:
    """Return what an error of OpenVINO says: its first lines name source files, the last one has the words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
