"""CUDA as the TensorRT session needs it: device and pinned memory, a stream, copies, graphs. Every call is checked.

Over cuda-bindings 12.6 to 13 (`cuda.bindings.runtime`), imported when open_cuda() is called, on the first device
(CUDA_VISIBLE_DEVICES chooses another). What is made here is freed by its free(), once, however often it is called; no
finaliser here frees anything (the session has one). Not here: events and clocks (the benchmark owns them), kernels, a
second device.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.cuda import Gpu
from edgeline.errors import EdgelineError, MissingCapabilityError, ResourceError
from edgeline.tensorrt.install import fitting_bindings

_FIRST_DEVICE = 0
_OUT_OF_MEMORY = "cudaErrorMemoryAllocation"
_NO_DEVICE = "cudaErrorNoDevice"
# What says that the driver is missing, or too old for this cuda-bindings.
_DRIVER_ERRORS = (
    "cudaErrorInsufficientDriver",
    "cudaErrorCallRequiresNewerDriver",
    "cudaErrorStubLibrary",
    "cudaErrorSystemDriverMismatch",
    "cudaErrorCompatNotSupportedOnDevice",
)


class Cuda:
    """CUDA's runtime library on one GPU. `api` is the module cuda.bindings.runtime."""

    def __init__(self, api: Any, gpu: Gpu) -> None:
        self.api = api
        self.gpu = gpu

    def call(self, name: str, *arguments: Any, purpose: str = "") -> Any:
        """Call the function `name`; return its result without the error code: None, a value, or a tuple of several.

        `purpose` says in messages what it was for. Raises ResourceError when memory is short, MissingCapabilityError
        when the driver is missing or too old, EdgelineError on any other error.
        """
        code, *results = getattr(self.api, name)(*arguments)
        if int(code) != 0:
            raise self._error(name, code, purpose)
        if len(results) < 2:
            return results[0] if results else None
        return tuple(results)

    def on_device(self) -> OnDevice:
        """Return a block in which the first device is current in this thread; after it, what was current before."""
        return OnDevice(self)

    def free_bytes(self) -> int:
        """Return how much device memory is free: for messages, since on Jetson more can be had than is free."""
        free, _total = self.call("cudaMemGetInfo")
        return int(free)

    def _error(self, name: str, code: Any, purpose: str) -> EdgelineError:
        error = _text(self.api.cudaGetErrorName(code)) or f"error {int(code)}"
        words = _text(self.api.cudaGetErrorString(code))
        what = f"{name} failed with {error} ({words})" + (f" for {purpose}" if purpose else "")
        if error == _OUT_OF_MEMORY:
            return ResourceError(
                f"{self.gpu.name} is out of memory: {what}{self._free_text()}; end what else uses the GPU, or export "
                "again with a smaller --batch"
            )
        if error == _NO_DEVICE:
            return MissingCapabilityError(f"CUDA finds no GPU: {what}; does CUDA_VISIBLE_DEVICES hide it?")
        if error in _DRIVER_ERRORS:
            made_for = _version(self.api.cudaRuntimeGetVersion())
            return MissingCapabilityError(
                f"the NVIDIA driver serves CUDA {self.gpu.driver}, cuda-bindings here is made for CUDA {made_for}: "
                f"{what}; install a newer driver, or cuda-bindings of the driver's CUDA: "
                f"pip install '{fitting_bindings(self.gpu)}'"
            )
        return EdgelineError(f"CUDA on {self.gpu.name}: {what}")

    def _free_text(self) -> str:
        code, free, _total = self.api.cudaMemGetInfo()
        return "" if int(code) != 0 else f", {int(free) / 1e6:.1f} MB are free"


class OnDevice:
    """Makes the first device current for the length of a block. Every thread has a current device of its own.

    CUDA is asked each time, which costs less than 1 us: a thread may have changed its device since its last call.
    """

    __slots__ = ("_before", "_cuda")

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._before = _FIRST_DEVICE

    def __enter__(self) -> None:
        before = self._cuda.call("cudaGetDevice")
        if before != _FIRST_DEVICE:
            self._cuda.call("cudaSetDevice", _FIRST_DEVICE)
            self._before = before

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before == _FIRST_DEVICE:
            return
        try:
            self._cuda.call("cudaSetDevice", self._before)
        except EdgelineError:
            if kind is None:  # else the error under way is the first one, and says more
                raise


def open_cuda(gpu: Gpu) -> Cuda:
    """Import cuda-bindings and start CUDA on the first device; the calling thread's current device stays what it was.

    Raises MissingCapabilityError without cuda-bindings, or without a driver that it can use.
    """
    try:
        api = importlib.import_module("cuda.bindings.runtime")
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingCapabilityError(
            f"cuda-bindings is not installed or does not load ({error}): pip install '{fitting_bindings(gpu)}'"
        ) from None
    cuda = Cuda(api, gpu)
    with cuda.on_device():
        # Also where it is current already: this is what makes CUDA start there, and say so where it cannot.
        cuda.call("cudaSetDevice", _FIRST_DEVICE)
    return cuda


class DeviceBuffer:
    """Memory on the device: `address` and `nbytes`. `purpose` says in messages what it is for."""

    def __init__(self, cuda: Cuda, nbytes: int, purpose: str) -> None:
        self._cuda = cuda
        self.nbytes = nbytes
        self.address = int(cuda.call("cudaMalloc", nbytes, purpose=f"{nbytes / 1e6:.1f} MB of {purpose}"))

    def free(self) -> None:
        """Give the memory back."""
        address, self.address = self.address, 0
        if address:
            self._cuda.call("cudaFree", address)


class PinnedBuffer:
    """Page-locked host memory, which the device can copy from and to while the host goes on."""

    def __init__(self, cuda: Cuda, nbytes: int, purpose: str) -> None:
        self._cuda = cuda
        self.nbytes = nbytes
        self.address = int(cuda.call("cudaMallocHost", nbytes, purpose=f"{nbytes / 1e6:.1f} MB of pinned {purpose}"))

    def array(self, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return the memory as an array, not a copy: it must not be used after free()."""
        memory = (ctypes.c_ubyte * self.nbytes).from_address(self.address)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def free(self) -> None:
        """Give the memory back."""
        address, self.address = self.address, 0
        if address:
            self._cuda.call("cudaFreeHost", address)


class Graph:
    """Work that was captured from a stream, ready to be launched as one."""

    def __init__(self, cuda: Cuda, executable: Any) -> None:
        self._cuda = cuda
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Queue the work on `stream`; it is done after the stream's next synchronise()."""
        self._cuda.call("cudaGraphLaunch", self._executable, stream.handle)

    def free(self) -> None:
        """Give the graph back; none of its launches may be under way."""
        executable, self._executable = self._executable, None
        if executable is not None:
            self._cuda.call("cudaGraphExecDestroy", executable)


class Stream:
    """A queue of work. `address` is what TensorRT takes for it; nothing is done for sure before synchronise()."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        # Non-blocking: work of others on the legacy default stream would otherwise wait for ours, and break captures.
        self.handle = cuda.call("cudaStreamCreateWithFlags", cuda.api.cudaStreamNonBlocking)
        self.address = int(self.handle)

    def copy_to_device(self, target: DeviceBuffer, source: PinnedBuffer, nbytes: int) -> None:
        """Queue a copy of the first `nbytes`; `source` must stay as it is until synchronise()."""
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda.call("cudaMemcpyAsync", target.address, source.address, nbytes, kind, self.handle)

    def copy_to_host(self, target: PinnedBuffer, source: DeviceBuffer, nbytes: int) -> None:
        """Queue a copy of the first `nbytes`; `target` holds nothing of worth until synchronise()."""
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda.call("cudaMemcpyAsync", target.address, source.address, nbytes, kind, self.handle)

    def synchronise(self) -> None:
        """Wait until all that was queued is done. Raises EdgelineError when some of it failed."""
        self._cuda.call("cudaStreamSynchronize", self.handle)

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """Record what `enqueue` queues here, instead of doing it, and return it as a graph.

        Raises what `enqueue` raises, and EdgelineError when the work cannot be captured; the stream is usable after.
        """
        # Thread-local: other threads may allocate meanwhile; the default would forbid it to the whole process.
        mode = self._cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with _no_collection():
            self._cuda.call("cudaStreamBeginCapture", self.handle, mode)
            try:
                enqueue()
            except BaseException:
                # A capture that was invalidated ends with an error of its own; the one under way says more.
                with contextlib.suppress(EdgelineError):
                    self._cuda.call("cudaGraphDestroy", self._cuda.call("cudaStreamEndCapture", self.handle))
                raise
            graph = self._cuda.call("cudaStreamEndCapture", self.handle)
        try:
            executable = self._cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            self._cuda.call("cudaGraphDestroy", graph)
        return Graph(self._cuda, executable)

    def free(self) -> None:
        """Give the stream back; it must be idle."""
        handle, self.handle = self.handle, None
        if handle is not None:
            self._cuda.call("cudaStreamDestroy", handle)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Hold the garbage collector back for a capture.

    What it finds may be another session, which then gives its memory back: forbidden to this thread while it captures.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _text(answer: tuple[Any, bytes | None]) -> str:
    """CudaGetErrorName and cudaGetErrorString answer (code, bytes)."""
    return (answer[1] or b"").decode(errors="replace")


def _version(answer: tuple[Any, int | None]) -> str:
    """Read what the version functions answer: (code, 13050) is CUDA 13.5."""
    version = answer[1] or 0
    return f"{version // 1000}.{version % 1000 // 10}"
