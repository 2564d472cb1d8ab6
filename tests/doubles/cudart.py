# ruff: noqa: N801, N802, N803, N815 - the real names
"""A double of cuda.bindings.runtime: memory, streams whose work waits, capture, graphs."""

from __future__ import annotations

import ctypes
import enum
import hashlib
import threading
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.doubles.events import EXTERNAL, Events, Handle, cudaError_t, cudaEvent_t, cudaStreamCaptureStatus
from tests.doubles.world import DEVICES, POISON, World


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


_WORDS = {
    cudaError_t.cudaErrorMemoryAllocation: "out of memory",
    cudaError_t.cudaErrorInsufficientDriver: "CUDA driver version is insufficient for CUDA runtime version",
    cudaError_t.cudaErrorNoDevice: "no CUDA-capable device is detected",
    cudaError_t.cudaErrorIllegalAddress: "an illegal memory access was encountered",
}


class cudaStream_t(Handle):
    pass


class cudaGraph_t(Handle):
    pass


class cudaGraphExec_t(Handle):
    pass


class Stream:
    """A stream's queue; while it captures, `capture` collects instead, and `owner` is the thread that began."""

    def __init__(self) -> None:
        self.queue: list[Any] = []
        self.capture: list[Any] | None = None
        self.invalid = False
        self.mode = cudaStreamCaptureMode.cudaStreamCaptureModeGlobal
        self.owner = 0

    def push(self, work: Any) -> None:
        """Queue work, or capture it."""
        if self.capture is not None:
            self.capture.append(work)
        else:
            work.begin("plain")
            self.queue.append(work)


COPY_MS = 0.25  # of the device's own time


class Copy:
    """A queued copy. From its beginning on the target is undefined and the source must not change."""

    def __init__(self, world: World, direction: cudaMemcpyKind, dst: int, src: int, nbytes: int) -> None:
        self.world = world
        self.dst, self.src, self.nbytes = dst, src, nbytes
        into_device = direction is cudaMemcpyKind.cudaMemcpyHostToDevice
        self.source_kind, self.target_kind = ("pinned", "device") if into_device else ("device", "pinned")
        self.addresses = (dst, src)
        self.digest = b""

    def begin(self, _how: str) -> None:
        """The work is handed to the device."""
        source, target = self._ends()
        if self.source_kind == "pinned" and source is not None:
            self.digest = _digest(source)
        if self.target_kind == "pinned" and target is not None:
            target[:] = POISON

    def finish(self) -> None:
        """The work is done."""
        source, target = self._ends()
        if source is None or target is None:
            self.world.violation(f"a queued copy of {self.nbytes} bytes runs on memory that was freed")
            return
        if self.source_kind == "pinned" and _digest(source) != self.digest:
            self.world.violation("pinned memory was changed while a queued copy was to read it")
        target[:] = source
        self.world.device_ms += COPY_MS

    def _ends(self) -> tuple[npt.NDArray[np.uint8] | None, npt.NDArray[np.uint8] | None]:
        return (
            self.world.range(self.source_kind, self.src, self.nbytes),
            self.world.range(self.target_kind, self.dst, self.nbytes),
        )


def _digest(memory: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(memory.tobytes(), digest_size=8).digest()


class Cudart(Events):
    """The functions; each answers as the real one: a tuple that begins with the error."""

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        if not 0 <= device < DEVICES:
            return (_E.cudaErrorInvalidDevice,)
        self._world.device = device
        return (_E.cudaSuccess,)

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return _E.cudaSuccess, self._world.device

    def cudaGetErrorName(self, error: cudaError_t) -> tuple[Any, ...]:
        return _E.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[Any, ...]:
        return _E.cudaSuccess, _WORDS.get(error, error.name).encode()

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return _E.cudaSuccess, 13050

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return _E.cudaSuccess, self._world.free_bytes(), self._world.gpu.memory_bytes if self._world.gpu else 0

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate("device", size)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return self._allocate("pinned", size)

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        return self._release("device", devPtr)

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        return self._release("pinned", ptr)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        if self._forbidden("cudaStreamCreateWithFlags"):
            return _E.cudaErrorStreamCaptureUnsupported, None
        self._world.on_first_device("a stream is made")
        handle = cudaStream_t(self._world.handle())
        self._world.streams[int(handle)] = Stream()
        return _E.cudaSuccess, handle

    def cudaStreamDestroy(self, stream: Any) -> tuple[Any, ...]:
        found = self._known(self._world.streams, stream, "stream")
        if found is None:
            return (_E.cudaErrorInvalidResourceHandle,)
        if found.queue or found.capture is not None:
            self._world.violation("a stream is destroyed while work waits in it")
        del self._world.streams[int(stream)]
        return (_E.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Any, ...]:
        found = self._known(self._world.streams, stream, "stream")
        if found is None:
            return (_E.cudaErrorInvalidResourceHandle,)
        if found.capture is not None:
            found.invalid = True
            self._world.violation("a stream is waited for while it captures")
            return (_E.cudaErrorStreamCaptureUnsupported,)
        with self._world.lock:
            queue, found.queue = found.queue, []
        for work in queue:
            work.finish()
        return (_E.cudaSuccess,)

    def cudaMemcpyAsync(
        self,
        dst: int,
        src: int,
        count: int,
        kind: cudaMemcpyKind,
        stream: Any,
    ) -> tuple[Any, ...]:
        found = self._known(self._world.streams, stream, "stream")
        if found is None:
            return (_E.cudaErrorInvalidResourceHandle,)
        into_device = kind is cudaMemcpyKind.cudaMemcpyHostToDevice
        device, host = (dst, src) if into_device else (src, dst)
        if self._world.range("device", device, count) is None:
            self._world.violation(f"a copy of {count} bytes leaves the device's memory at {device:#x}")
            return (_E.cudaErrorInvalidValue,)
        if self._world.range("pinned", host, count) is None:
            return self._pageable(found, into_device, device, host, count)
        found.push(Copy(self._world, kind, dst, src, count))
        return (_E.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: Any, mode: cudaStreamCaptureMode) -> tuple[Any, ...]:
        found = self._known(self._world.streams, stream, "stream")
        if found is None:
            return (_E.cudaErrorInvalidResourceHandle,)
        self._world.on_first_device("a capture begins")
        if found.queue:
            self._world.violation("a capture begins before the work in the stream was waited for")
        found.capture, found.invalid, found.mode, found.owner = [], False, mode, threading.get_ident()
        return (_E.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Any, ...]:
        found = self._known(self._world.streams, stream, "stream")
        if found is None or found.capture is None:
            return _E.cudaErrorInvalidResourceHandle, None
        if found.owner != threading.get_ident():
            self._world.violation("a capture ends in another thread than it began in")
            return _E.cudaErrorStreamCaptureWrongThread, None
        work, found.capture = found.capture, None
        if found.invalid:
            return _E.cudaErrorStreamCaptureInvalidated, None
        graph = cudaGraph_t(self._world.handle())
        self._world.graphs[int(graph)] = work
        return _E.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        work = self._known(self._world.graphs, graph, "graph")
        if work is None or self._world.faults.capture == "instantiate":
            return _E.cudaErrorInvalidValue, None
        executable = cudaGraphExec_t(self._world.handle())
        self._world.executables[int(executable)] = list(work)
        return _E.cudaSuccess, executable

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        if self._known(self._world.graphs, graph, "graph") is None:
            return (_E.cudaErrorInvalidValue,)
        del self._world.graphs[int(graph)]
        return (_E.cudaSuccess,)

    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> tuple[Any, ...]:
        found = self._known(self._world.streams, stream, "stream")
        work = self._known(self._world.executables, graphExec, "executable graph")
        if found is None or work is None:
            return (_E.cudaErrorInvalidResourceHandle,)
        self._world.on_first_device("a graph is launched")
        for piece in work:
            piece.begin("graph")
            found.queue.append(piece)
        return (_E.cudaSuccess,)

    def cudaGraphExecDestroy(self, graphExec: Any) -> tuple[Any, ...]:
        work = self._known(self._world.executables, graphExec, "executable graph")
        if work is None:
            return (_E.cudaErrorInvalidValue,)
        if any(piece in stream.queue for stream in self._world.streams.values() for piece in work):
            self._world.violation("a graph is destroyed while it runs")
        del self._world.executables[int(graphExec)]
        return (_E.cudaSuccess,)

    def _allocate(self, kind: str, size: int) -> tuple[Any, ...]:
        if self._forbidden(f"allocation of {kind} memory"):
            return _E.cudaErrorStreamCaptureUnsupported, None
        address = self._world.allocate(kind, size)
        return (_E.cudaErrorMemoryAllocation, None) if address is None else (_E.cudaSuccess, address)

    def _release(self, kind: str, address: int) -> tuple[Any, ...]:
        if self._forbidden(f"freeing of {kind} memory"):
            return (_E.cudaErrorStreamCaptureUnsupported,)
        return (_E.cudaSuccess if self._world.release(kind, address) else _E.cudaErrorInvalidValue,)

    def _forbidden(self, what: str) -> bool:
        """Calls that may wait are forbidden during a capture, to its thread or to all, as its mode says."""
        for stream in self._world.streams.values():
            strict = stream.mode is cudaStreamCaptureMode.cudaStreamCaptureModeGlobal
            if stream.capture is not None and (strict or stream.owner == threading.get_ident()):
                stream.invalid = True
                self._world.violation(f"{what} during a capture")
                return True
        return False

    def _pageable(self, stream: Stream, into_device: bool, device: int, host: int, nbytes: int) -> tuple[Any, ...]:
        """A copy from or to ordinary memory is not asynchronous, and cannot be captured."""
        if stream.capture is not None:
            stream.invalid = True
            self._world.violation("host memory that is not pinned is copied within a capture")
            return (_E.cudaErrorStreamCaptureUnsupported,)
        for work in stream.queue:
            work.finish()
        stream.queue.clear()
        memory = self._world.range("device", device, nbytes)
        if memory is not None:
            ordinary = np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(host))
            target, source = (memory, ordinary) if into_device else (ordinary, memory)
            target[:] = source
        return (_E.cudaSuccess,)


_E = cudaError_t
# Without a driver, and by Faults.cuda, a function answers this many values: the error and Nones.
_ANSWERS = {"cudaMemGetInfo": 3}
_ONE = ("cudaSetDevice", "cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaStreamSynchronize", "cudaMemcpyAsync",
        "cudaStreamBeginCapture", "cudaGraphDestroy", "cudaGraphLaunch", "cudaGraphExecDestroy",
        "cudaEventDestroy", "cudaEventRecordWithFlags")  # fmt: skip
_WITHOUT_DRIVER = ("cudaGetErrorName", "cudaGetErrorString", "cudaRuntimeGetVersion")
ENUMS = (cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode, cudaStreamCaptureStatus)
HANDLES = (cudaStream_t, cudaGraph_t, cudaGraphExec_t, cudaEvent_t)


def functions(cudart: Cudart) -> dict[str, Callable[..., tuple[Any, ...]]]:
    """The functions by their real names."""
    return {name: getattr(cudart, name) for name in dir(cudart) if name.startswith("cuda")}


def make_cudart(world: World) -> ModuleType:
    """Make a module that stands for cuda.bindings.runtime."""
    module = ModuleType("cuda.bindings.runtime")
    for name, function in functions(Cudart(world)).items():
        setattr(module, name, _recorded(world, name, function))
    for thing in (*ENUMS, *HANDLES):
        setattr(module, thing.__name__, thing)
    vars(module)["cudaStreamNonBlocking"] = 1
    vars(module)["cudaEventRecordExternal"] = EXTERNAL
    return module


def _recorded(world: World, name: str, function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    def call(*arguments: Any) -> tuple[Any, ...]:
        world.calls.append(name)
        error = world.faults.cuda.get(name)
        if world.gpu is None and name not in _WITHOUT_DRIVER:
            error = "cudaErrorInsufficientDriver"
        if error is not None:
            return _failure(cudaError_t[error], name)
        return function(*arguments)

    return call


def _failure(error: cudaError_t, name: str) -> tuple[Any, ...]:
    nones: Iterable[None] = [None] * (0 if name in _ONE else _ANSWERS.get(name, 2) - 1)
    return (error, *nones)
