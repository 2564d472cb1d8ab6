"""TensorRT and TensorRT-RTX: the engine of this machine's GPU, run with CUDA graphs.

It never falls back to the CPU, never builds (`edgeline build` does), and sets no precision: all of it stands in the
plan, TF32 included, which the builder cleared unless it was asked for. CUDA, contexts and graphs are in
edgeline.tensorrt.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeline import cuda
from edgeline.artefact import Artefact
from edgeline.command import note
from edgeline.errors import EdgelineError, InputError, MissingCapabilityError, ShapeError
from edgeline.session import Session
from edgeline.tensorrt.device import Cuda, Stream, open_cuda
from edgeline.tensorrt.engine import Engine
from edgeline.tensorrt.execution import (
    Buffers,
    CapturingRunner,
    Runner,
    SelfCapturingRunner,
    Watcher,
    captures_by_itself,
)
from edgeline.tensorrt.fit import check_batch, check_ends, check_header, cure
from edgeline.tensorrt.products import Product, load_product
from edgeline.tensorrt.runtime_cache import RuntimeCache

_ABANDONED: list[contextlib.ExitStack] = []
_PATIENCE_S = 5.0  # for a call that a daemon thread has under way when the interpreter ends


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a session holds, in bytes: the engine's working memory, and inputs and outputs on the device and pinned.

    Not the weights on the device: TensorRT does not tell; the plan, which holds them, has `plan_bytes`.
    """

    activation_bytes: int
    buffer_bytes: int
    pinned_bytes: int
    plan_bytes: int


class TensorRtSession(Session):
    """Runs the plan of an artefact of format `trt` or `trt-rtx` on the first GPU.

    Calls from several threads take turns. Each of the last batch sizes keeps a CUDA graph: a batch size's first call is
    slower than those after it. A thread's current CUDA device is after each call what it was before.

    A session that is dropped, or left open to the end of the program, gives back what it holds; close() does it at once
    and raises what goes wrong.
    """

    engine: ClassVar[str] = "tensorrt"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1, plan: Path | None = None) -> None:
        """Open `plan`, or where None the one that `edgeline build` has cached, or the artefact's own.

        Raises InputError for device="cpu"; MissingCapabilityError without a GPU, without TensorRT or cuda-bindings,
        without a plan (naming `edgeline build`), or when the driver is too old; ArtefactError when the plan was built
        for something else; ResourceError when the GPU's memory does not suffice.
        """
        super().__init__(artefact, device, threads)
        gpu = _gpu(device, artefact)
        product = load_product(artefact.manifest.format)
        path = plan or _ready_plan(artefact, product, gpu)
        content = _read(path)
        check_header(content, str(path), artefact, product, gpu)
        self.device = "cuda"
        self._lock = threading.Lock()
        self._cuda = open_cuda(gpu)
        with self._cuda.on_device(), contextlib.ExitStack() as stack:
            self._open(product, gpu, content, str(path), stack)
            self._stack = stack.pop_all()
        # Not a method, nor anything else that refers to the session: it would live for ever.
        self._unclosed = weakref.finalize(self, _give_back, self._stack, self._cuda, self._lock, str(path), os.getpid())

    @property
    def graphs_captured(self) -> tuple[int, ...] | None:
        """The batch sizes that have a CUDA graph now; None where TensorRT-RTX captures them by itself."""
        return self._runner.captured if isinstance(self._runner, CapturingRunner) else None

    @property
    def graphs_refused(self) -> dict[int, str]:
        """The batch sizes whose work could not be captured, with the reason: they run by plain enqueues."""
        return dict(self._runner.refused) if isinstance(self._runner, CapturingRunner) else {}

    def memory_bytes(self) -> MemoryUse:
        """Say what the session holds."""
        return self._memory

    def watch(self, watcher: Watcher | None) -> None:
        """Tell `watcher` where each call stands, from now on; None ends it. For measuring: it makes calls slower.

        Raises InputError after close().
        """
        with self._lock:
            if self._closed:
                raise InputError(f"this session of {self.artefact.name} is closed; load it again with edgeline.load")
            with self._cuda.on_device():
                self._runner.watch(watcher)

    def infer_all(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run any number of samples, as Session.infer_all does; a last piece that is too small is filled up."""
        tail = len(samples) % self.manifest.batch.max
        missing = self._range.min - tail if self._fixed_batch is None and 0 < tail < self._range.min else 0
        if missing == 0:
            return super().infer_all(samples)
        filled = np.concatenate([samples, np.repeat(samples[-1:], missing, axis=0)])
        return super().infer_all(filled)[: len(samples)]

    def _open(self, product: Product, gpu: cuda.Gpu, plan: bytes, what: str, stack: contextlib.ExitStack) -> None:
        """Open what the session works with; `stack` frees it in reverse order, and as far as it came."""
        stream = Stream(self._cuda)
        stack.callback(stream.free)
        engine = Engine(product, what, cure(self.artefact))
        stack.callback(engine.free)
        engine.deserialise(plan)
        if engine.warning:
            note(f"{what} runs here, but not as fast as one built for this machine: {engine.warning}")
        check_ends(engine.ends(), what, self.artefact)
        self._range = engine.batch(self._input)
        check_batch(self._range, what, self.artefact)
        self._buffers = Buffers(self._cuda, self._input, self._output, self._range.max, stack)
        self._memory = MemoryUse(engine.activation_bytes, self._buffers.nbytes, self._buffers.nbytes, len(plan))
        self._runner: Runner
        if captures_by_itself(engine):
            cache = RuntimeCache(plan, product, gpu)
            self._runner = SelfCapturingRunner(self._cuda, engine, stream, self._buffers, cache, stack)
        else:
            self._runner = CapturingRunner(self._cuda, engine, stream, self._buffers, stack)

    def _check(self, batch: npt.NDArray[Any]) -> None:
        super()._check(batch)
        allowed = self._range
        if not allowed.min <= len(batch) <= allowed.max:
            wider = f"{min(allowed.min, len(batch))}:{self.manifest.batch.opt}:{max(allowed.max, len(batch))}"
            raise ShapeError(
                f"expected a batch of {allowed.min} to {allowed.max}, got {len(batch)}; infer_all() cuts and fills "
                f"batches to fit, export-model --batch {wider} makes an engine that takes it"
            )

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with self._lock:
            # Closed while this thread waited: by another one, or by the interpreter's end, which daemon threads see.
            self._closed |= not self._unclosed.alive
            if self._closed:
                self._check(batch)
            with self._cuda.on_device():
                self._buffers.put(batch)
                self._runner.run(len(batch))
                return self._buffers.take(len(batch))

    def _close(self) -> None:
        with self._lock:
            if self._unclosed.detach() is not None:
                _free(self._stack, self._cuda)


def _free(stack: contextlib.ExitStack, device: Cuda) -> None:
    """Free all that a session holds, even where its device cannot be made current."""
    with stack, device.on_device():
        stack.close()


def _give_back(stack: contextlib.ExitStack, device: Cuda, lock: threading.Lock, what: str, process: int) -> None:
    """Do what close() does for a session that nobody refers to any more, or when the interpreter ends.

    Runs in whichever thread the garbage collector chose, before modules go away, and once.
    """
    if os.getpid() != process:  # a fork: CUDA does not work in the child, whose copy must not be destroyed either
        _ABANDONED.append(stack)
        return
    if not lock.acquire(timeout=_PATIENCE_S):
        note(f"the session of {what} was in a call when the program ended; what it holds goes with the process")
        return
    try:
        _free(stack, device)
    except EdgelineError as error:
        note(f"the session of {what} was not closed, and not all that it holds could be given back: {error}")
    finally:
        lock.release()


def _gpu(device: str, artefact: Artefact) -> cuda.Gpu:
    elsewhere = f"for a first look on the CPU: edgeline run {artefact.folder} INPUT --engine onnxruntime --device cpu"
    if device == "cpu":
        raise InputError(
            f"format {artefact.manifest.format} runs on NVIDIA GPUs only, not with device='cpu'; {elsewhere}"
        )
    gpu = cuda.gpu()
    if gpu is None:
        raise MissingCapabilityError(
            f"format {artefact.manifest.format} needs an NVIDIA GPU and its driver, and edgeline doctor finds none "
            f"here; {elsewhere}"
        )
    return gpu


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return path.read_bytes()  # a rebuild swapped the cache's link at this very moment: the new one is there


def _ready_plan(artefact: Artefact, product: Product, gpu: cuda.Gpu) -> Path:
    from edgeline.tensorrt.plans import ready_plan

    return ready_plan(artefact, product, gpu)
