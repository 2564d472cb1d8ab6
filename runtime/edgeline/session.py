"""The one interface that a device program sees: load an artefact, hand arrays in, get arrays back.

A session holds no clock, does not retry, and does not check that values are finite (`edgeline run`, `selftest` and the
export gate do): the hot path is one validation and the engine's own call.
"""

from __future__ import annotations

import abc
import threading
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeline.artefact import Artefact
from edgeline.errors import InputError, ShapeError
from edgeline.manifest import Manifest
from edgeline.preprocessing import input_from_pixels

DEVICES = ("auto", "cpu", "cuda")


class Session(abc.ABC):
    """An artefact made ready on one device. Use it as a context manager, from as many threads as you like.

    A subclass opens its engine in `__init__`, overrides `_infer`, and `_close` where it holds something to give back.
    Batch sizes are free unless the graph itself was exported with one fixed size.
    """

    engine: ClassVar[str]

    def __init__(self, artefact: Artefact, device: str, threads: int) -> None:
        if device not in DEVICES:
            raise InputError(f"unknown device '{device}'; known: {', '.join(DEVICES)}")
        if not isinstance(threads, int) or threads < 1:
            raise InputError(f"threads must be a whole number of at least 1, got {threads!r}")
        self.artefact = artefact
        self.device = device
        self.threads = threads
        self._input = artefact.manifest.inputs[0]
        self._output = artefact.manifest.outputs[0]
        self._input_dtype = np.dtype(self._input.dtype)
        self._input_tail = self._input.shape[1:]
        self._fixed_batch = self._input.shape[0] if self._input.shape[0] != -1 else None
        self._output_dtype = np.dtype(self._output.dtype)
        # Shapes of the last batch that passed and of its outputs: one tuple, since several threads may call.
        self._fitting: tuple[tuple[int, ...] | None, tuple[int, ...]] = (None, ())
        self._closed = False
        self._close_lock = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """What the artefact says about itself."""
        return self.artefact.manifest

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The name of each class, in the order of the logits; None where the artefact has none."""
        return self.artefact.manifest.labels

    def infer(self, batch: npt.NDArray[Any], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Run the network: for LeNet float32 [N, 1, 28, 28] -> float32 [N, 10].

        Shapes and dtypes are the manifest's, with any N >= 1. The result is the caller's to keep and change; with
        `out` it is written there, and `out` is returned.

        Raises ShapeError on another shape or dtype, InputError after close().
        """
        # A batch like the last one needs no further look: the whole check costs a quarter of a microsecond.
        fitting = self._fitting
        if (
            type(batch) is not np.ndarray
            or batch.dtype is not self._input_dtype
            or batch.shape != fitting[0]
            or self._closed
        ):
            self._check(batch)
            fitting = self._fitting = batch.shape, (len(batch), *self._output.shape[1:])
        if out is None:
            return self._infer(np.ascontiguousarray(batch))
        expected = fitting[1]
        if out.shape != expected or (out.dtype is not self._output_dtype and out.dtype != self._output_dtype):
            raise ShapeError(f"out: expected {self._output.dtype} {list(expected)}, got {out.dtype} {list(out.shape)}")
        self._infer_into(np.ascontiguousarray(batch), out)
        return out

    def preprocess(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Turn uint8 [N, H, W] or [N, H, W, C] pixels into the network's input, as the manifest says.

        Raises InputError when the artefact does not say how, ShapeError when the images do not fit.
        """
        preprocessing = self.manifest.preprocessing
        if preprocessing is None or len(self._input_tail) != 3:
            raise InputError(
                f"{self.artefact.name} does not say how pixels become its input; hand infer() {self._input.dtype} "
                f"{_shape_text(self._input.shape)}, or export it again with --dataset"
            )
        return input_from_pixels(images, preprocessing, self._input_tail)

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Preprocess uint8 [N, H, W] or [N, H, W, C] images, run them, and return the class of each as int64 [N].

        `labels[i]` is the name of class i. Long inputs are run in pieces of the manifest's largest batch.

        Raises what preprocess() and infer() raise.
        """
        if len(images) == 0:
            raise ShapeError("expected at least one image, got none")
        step = self.manifest.batch.max
        pieces = [self.infer_all(self.preprocess(images[i : i + step])) for i in range(0, len(images), step)]
        return np.asarray(np.concatenate(pieces).argmax(axis=1), np.int64)

    def infer_all(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run any number of samples, in pieces of the largest batch; return their outputs in order.

        Where the graph has one fixed batch size, the last piece is filled up and its surplus outputs are dropped.

        Raises what infer() raises.
        """
        if self._fixed_batch is None and len(samples) <= self.manifest.batch.max:
            return self.infer(samples)
        step = self._fixed_batch or self.manifest.batch.max
        pieces = []
        for start in range(0, len(samples), step):
            piece = samples[start : start + step]
            missing = step - len(piece) if self._fixed_batch else 0
            filled = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)]) if missing else piece
            pieces.append(self.infer(filled)[: len(piece)])
        return np.concatenate(pieces)

    def close(self) -> None:
        """Give the engine's memory back. Calling it again does nothing; infer() afterwards raises InputError."""
        with self._close_lock:
            if not self._closed:
                self._closed = True
                self._close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run a checked, C-contiguous batch; return an array that nobody else holds. May be called concurrently."""

    def _infer_into(self, batch: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        """Run a checked batch into `out`, which has the right shape and dtype, and may lie in memory in any order.

        An engine that can write there by itself overrides this.
        """
        out[...] = self._infer(batch)

    def _close(self) -> None:  # noqa: B027 - most engines have nothing to give back
        """Give back what the engine holds."""

    def _check(self, batch: npt.NDArray[Any]) -> None:
        if self._closed:
            raise InputError(f"this session of {self.artefact.name} is closed; load it again with edgeline.load")
        if not isinstance(batch, np.ndarray):
            raise ShapeError(f"expected a numpy array, got {type(batch).__name__}")
        if batch.dtype != self._input_dtype or batch.shape[1:] != self._input_tail or batch.ndim == 0:
            raise ShapeError(
                f"expected {self._input.dtype} {_shape_text(self._input.shape)}, got {batch.dtype} {list(batch.shape)}"
            )
        if len(batch) == 0 or self._fixed_batch not in (None, len(batch)):
            raise ShapeError(f"expected a batch of {self._fixed_batch or 'at least 1'}, got {len(batch)}")


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join("N" if size == -1 else str(size) for size in shape) + "]"
