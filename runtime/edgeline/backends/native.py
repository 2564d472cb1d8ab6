"""The C library of an artefact, called through ctypes: numbers are read and written where numpy has them.

A call costs one to two microseconds of Python. Calls from several threads run at once, each in an arena of its thread.
With `threads` above 1 the library shares its large layers among so many, or, where it has none, as in LeNet, the
samples of a call that has enough of them; in one call at a time.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeline.artefact import Artefact
from edgeline.errors import InputError, MissingCapabilityError, ResourceError
from edgeline.native_library import INFER_ARGUMENTS, NativeLibrary, error_of, open_library
from edgeline.session import Session

_ALIGNMENT = 64  # bytes: EDGELINE_ARENA_ALIGNMENT

# The address of an array's numbers, the fastest of the documented ways: about 0.16 us, where `array.ctypes.data` and
# `array.__array_interface__` build objects for 0.8 us and more.
_addressof = ctypes.addressof
_from_buffer: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer


# Working memory: for how many samples a call, its address, its bytes, and what keeps it alive.
_Arena = tuple[int, int, int, npt.NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class NativeLayer:
    """A layer of a library: its kernel, and the names of the ONNX nodes that it carries out, none for a copy."""

    kernel: str
    nodes: tuple[str, ...]


class NativeSession(Session):
    """Runs the artefact's library. `isa` is the instruction set that it chose on this CPU."""

    engine: ClassVar[str] = "native"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1, variant: str = "") -> None:
        """Load the library; `variant` is the suffix of one of its instruction sets, instead of the best one.

        Raises MissingCapabilityError for device="cuda" and where the library does not run on this machine,
        ArtefactError when it is not what the manifest says.
        """
        super().__init__(artefact, device, threads)
        if device == "cuda":
            raise MissingCapabilityError(f"{artefact.name} is a C library for the CPU: device='cpu' or 'auto' runs it")
        self.device = "cpu"
        self._library = open_library(artefact, variant)
        self.isa = self._library.isa
        self._function = self._library.infer
        self._threads: _Threads | None = None
        if threads > 1:
            self._start_threads(threads)
        self._local = threading.local()
        self._output_tail = self._output.shape[1:]

    def _start_threads(self, threads: int) -> None:
        start = self._library.function("threads_start", ctypes.c_void_p, ctypes.c_int)
        infer = self._library.function("infer_threads", ctypes.c_int, *INFER_ARGUMENTS, ctypes.c_void_p)
        if start is None or infer is None:
            return  # nothing in it is worth them
        pool = start(threads)
        if not pool:
            raise ResourceError(f"{threads} threads cannot be started; take fewer with threads=")
        self._threads = _Threads(self._library, infer, pool)
        self._function = self._threads.infer

    def layers(self) -> tuple[NativeLayer, ...]:
        """Return the library's layers in order.

        Raises MissingCapabilityError where it was compiled without a profile.
        """
        count = self._library.function("layers", ctypes.c_int)
        kernel, nodes = (
            self._library.function(f"layer_{what}", ctypes.c_char_p, ctypes.c_int) for what in ("kernel", "nodes")
        )
        if count is None:
            raise MissingCapabilityError(
                f"the library of {self.artefact.name} was compiled without EDGELINE_PROFILE: export it again"
            )
        return tuple(
            NativeLayer(kernel(i).decode(), tuple(nodes(i).decode().split("\n")) if nodes(i) else ())
            for i in range(count())
        )

    def layer_seconds(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Run a batch as infer() does, and return the seconds of each of layers(), float64 [layers].

        Raises what infer() and layers() raise.
        """
        self._check(batch)
        batch = np.ascontiguousarray(batch)
        out = np.empty((len(batch), *self._output_tail), self._output_dtype)
        seconds = np.zeros(len(self.layers()), np.float64)
        arguments = (*INFER_ARGUMENTS, ctypes.c_void_p, ctypes.c_void_p)
        function = self._library.function("infer_profile", ctypes.c_int, *arguments)
        _, arena, size, _memory = self._larger_arena(len(batch))
        call = (batch.ctypes.data, out.ctypes.data, len(batch), arena, size)
        if self._threads is None:
            code = function(*call, None, seconds.ctypes.data)
        else:
            code = self._threads.call(function, *call, seconds.ctypes.data)
        if code:
            raise error_of(self._library, code)
        return seconds

    @property
    def arena_bytes(self) -> int:
        """The working memory that a call with one sample takes, for each thread."""
        found: int = self._library.arena_bytes(self._fixed_batch or 1)
        return found

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        out = np.empty((len(batch), *self._output_tail), self._output_dtype)
        self._write(batch, out)
        return out

    def _infer_into(self, batch: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        # The library reads a sample after it has written those before it: what may overlap goes the long way. Two
        # arrays that each have memory of their own do not, and need no closer look.
        apart = (batch.base is None and out.base is None and batch is not out) or not np.may_share_memory(batch, out)
        if apart and out.flags.carray:  # C-contiguous, aligned, and writeable
            self._write(batch, out)
        else:
            super()._infer_into(batch, out)

    def _write(self, batch: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        """Run the library from one C-contiguous array into another, which can be written."""
        n = len(batch)
        try:
            given = _addressof(_from_buffer(batch))
        except TypeError:  # a read-only array
            given = batch.ctypes.data
        try:
            samples, arena, size, _memory = self._local.arena  # the last keeps it alive through the call
        except AttributeError:
            samples = 0
        if n > samples:
            samples, arena, size, _memory = self._larger_arena(n)
        code = self._function(given, _addressof(_from_buffer(out)), n, arena, size)
        if code:
            raise error_of(self._library, code)

    def _larger_arena(self, n: int) -> _Arena:
        """Make this thread's arena fit n samples. What it was is freed, since no call of this thread is running."""
        size = max(self._library.arena_bytes(n), 1)
        memory = np.empty(size + _ALIGNMENT, np.uint8)
        begin = int(memory.ctypes.data)
        arena = self._local.arena = (n, begin + -begin % _ALIGNMENT, size, memory)
        return arena

    def _close(self) -> None:
        # Each thread's arena goes with it; one that a call is using stays until that ends, since the call holds it.
        self._local = threading.local()
        if self._threads is not None:
            self._threads.end()


class _Threads:
    """The library's pool of threads. It serves one call at a time, and ends when none is running."""

    def __init__(self, library: NativeLibrary, infer: Any, pool: int) -> None:
        self._library = library
        self._infer = infer
        self._pool = pool
        self._lock = threading.Lock()

    def infer(self, given: int, out: int, n: int, arena: int, size: int) -> int:
        """Call NAME_infer_threads; spelt out, since a small network's call takes microseconds."""
        with self._lock:
            if self._pool:
                code: int = self._infer(given, out, n, arena, size, self._pool)
                return code
        raise self._closed()

    def call(self, function: Any, *arguments: int) -> int:
        """Call a function that takes the pool behind INFER_ARGUMENTS."""
        behind = len(INFER_ARGUMENTS)
        with self._lock:
            if not self._pool:
                raise self._closed()
            code: int = function(*arguments[:behind], self._pool, *arguments[behind:])
        return code

    @staticmethod
    def _closed() -> InputError:
        return InputError("this session was closed by another thread; load it again with edgeline.load")

    def end(self) -> None:
        """End the threads, once no call uses them."""
        with self._lock:
            self._library.function("threads_end", None, ctypes.c_void_p)(self._pool)
            self._pool = 0
