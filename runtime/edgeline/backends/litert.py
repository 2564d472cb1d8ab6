"""LiteRT's Interpreter, with the XNNPACK delegate that it applies by itself on a CPU.

The file has one signature whose batch is free: a call with another batch size than the last one resizes the input,
which plans the memory anew (some 0.1 ms) and packs no weights again. A signature for each batch size would not need
that, but XNNPACK packs the weights of each of them when the first is opened: four times AlexNet's 187 MB. LiteRT 2's
CompiledModel can share packed weights; it takes two microseconds more for a call from Python, prints some twenty lines
when it is opened, and ends the process where a file is cut off.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeline.artefact import Artefact
from edgeline.backends import ENGINES
from edgeline.errors import ArtefactError, InputError, MissingCapabilityError
from edgeline.session import Session

MODEL_FILE = "model.tflite"


class LiteRtSession(Session):
    """Runs the artefact's model.tflite. An interpreter is for one thread: calls from several run one after the other.

    Settings as LiteRT's pages ask for: XNNPACK, the default on a CPU, and the number of its threads given to the
    interpreter's constructor ("XNNPACK backend for TensorFlow Lite": one thread unless told, and nothing later changes
    it; "Performance best practices": threads trade energy for latency). Float32 stays float32: XNNPACK computes in half
    precision only where a file's metadata allow it, which an export refuses.
    """

    engine: ClassVar[str] = "litert"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1) -> None:
        """Open the model.

        Raises MissingCapabilityError for device="cuda" and without LiteRT, ArtefactError when LiteRT refuses the model
        or it is not what the manifest says.
        """
        super().__init__(artefact, device, threads)
        if device == "cuda":
            raise MissingCapabilityError(
                f"{artefact.name} is a LiteRT model for the CPU: device='cpu' or 'auto' runs it"
            )
        self.device = "cpu"
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingCapabilityError(f"LiteRT is not installed ({error}): {ENGINES['litert'].install}") from None
        model = artefact.file(MODEL_FILE)
        try:
            self._interpreter: Any = Interpreter(model_path=str(model), num_threads=threads)
            self._input_index = self._check_end(model, "input", self._interpreter.get_input_details())
            self._output_index = self._check_end(model, "output", self._interpreter.get_output_details())
        except (ValueError, RuntimeError) as error:
            raise ArtefactError(f"LiteRT refuses {model}: {_first_line(error)}; export it again") from None
        self._output_view = self._interpreter.tensor(self._output_index)
        self._shape: tuple[int, ...] = ()  # what memory is planned for
        self._lock = threading.Lock()

    def _check_end(self, model: Path, title: str, found: list[dict[str, Any]]) -> int:
        """Hold the manifest against the model's one input or output, but for the batch; return its index."""
        spec = self._input if title == "input" else self._output
        ends = [(np.dtype(end["dtype"]).name, tuple(map(int, end["shape"]))[1:]) for end in found]
        expected = (spec.dtype, spec.shape[1:])
        if ends != [expected]:
            raise ArtefactError(f"{model} has the {title} {ends}, its manifest says {[expected]}; export it again")
        return int(found[0]["index"])

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with self._lock:
            self._invoke(batch)
            result: npt.NDArray[Any] = self._interpreter.get_tensor(self._output_index)  # a copy
        return result

    def _infer_into(self, batch: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        with self._lock:
            self._invoke(batch)
            out[...] = self._output_view()

    def _invoke(self, batch: npt.NDArray[Any]) -> None:
        """Run a batch, which is copied into the interpreter's own memory."""
        if self._interpreter is None:  # closed while this call waited
            self._check(batch)
        if batch.shape != self._shape:
            self._resize(batch.shape)
        self._interpreter.set_tensor(self._input_index, batch)
        self._interpreter.invoke()

    def _resize(self, shape: tuple[int, ...]) -> None:
        """Plan memory for another batch size, and see that the output follows.

        Raises InputError for a size that the model does not take.
        """
        self._shape = ()
        words = "its output keeps another batch"
        try:
            self._interpreter.resize_tensor_input(self._input_index, shape)
            self._interpreter.allocate_tensors()
            fits = self._output_view().shape == (shape[0], *self._output.shape[1:])
        except (ValueError, RuntimeError) as error:
            fits, words = False, _first_line(error)
        if not fits:
            raise InputError(
                f"LiteRT does not run {self.artefact.name} with a batch of {shape[0]} ({words}); batches from "
                f"{self.manifest.batch.min} to {self.manifest.batch.max} were verified"
            )
        self._shape = shape

    def _close(self) -> None:
        with self._lock:
            self._interpreter = self._output_view = None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
