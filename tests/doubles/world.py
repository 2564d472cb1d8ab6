"""What the doubles share: which product and GPU they play, the faults to inject, and what the program did wrong.

It also owns the memory: device addresses that no host can read, pinned memory at real addresses, both full of NaN.
"""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.cuda import Gpu

DEVICES = 2  # everything belongs on the first
POISON = 0xFF  # in every byte: NaN as float16 and as float32
FIRST_DEVICE_ADDRESS = 0xD000_0000_0000  # no host address: beyond what a process can map
ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Flavour:
    """A product and the differences that bite."""

    module: str
    title: str
    tag: int
    version: str
    strongly_typed: int
    weak_flags: bool
    rtx: bool
    old_memory_size: bool
    # TensorRT's headers promise a profile to an engine's first context only.
    profile_of_later_contexts: int


FLAVOURS = {
    "trt10": Flavour("tensorrt", "TensorRT", 0x74727466, "10.3.0.30", 1, True, False, True, -1),
    "trt11": Flavour("tensorrt", "TensorRT", 0x74727466, "11.4.1.5", 0, False, False, False, 0),
    "rtx": Flavour("tensorrt_rtx", "TensorRT-RTX", 0x74727476, "1.7.1.116", 0, False, True, False, 0),
}


@dataclass(slots=True)
class Faults:
    """What shall go wrong. Numbers count calls from 1; None and "" mean never."""

    allocation: int | None = None  # cudaMalloc and cudaMallocHost together: out of memory
    cuda: dict[str, str] = field(default_factory=dict)  # function -> the name of the error that it returns
    no_runtime: bool = False  # Runtime() gives what pybind11 gives without a driver
    deserialise: str = ""  # what the log says when deserialising gives None
    validity: tuple[str, tuple[str, ...]] | None = None  # RTX: "INVALID", diagnostics
    context: str = ""  # what the log says when create_execution_context gives None
    refuse: str = ""  # a method of the context that returns False, or raises where the real one does
    setting: str = ""  # a property of the runtime configuration that stays as it was, without a word
    execute: int | None = None  # the execute_async_v3 that returns False
    capture: str = ""  # "execute": it cannot be captured; "instantiate": the graph cannot be instantiated
    strong_typing: str = ""  # what the log says when a strongly typed build gives None
    melted: bool = False  # the engine carries everything out in one layer, as TensorRT's compiler may
    runtime_cache: str = ""  # "create", "set" or "deserialise" gives what it gives on failure


@dataclass(slots=True)
class Allocation:
    """One piece of memory. `kind` is "device" or "pinned"; `memory` is what it holds."""

    kind: str
    address: int
    memory: npt.NDArray[np.uint8]


class World:
    """The state behind one gpu_double()."""

    def __init__(self, flavour: Flavour, gpu: Gpu | None, faults: Faults, activation_bytes: int) -> None:
        self.flavour = flavour
        self.gpu = gpu
        self.faults = faults
        self.activation_bytes = activation_bytes
        self.linger_s = 0.0  # how long TensorRT's calls take, to let threads meet in one
        self.lock = threading.RLock()
        self.violations: list[str] = []
        self.calls: list[str] = []  # of CUDA's functions, in order
        self.execution_count = 0  # calls of execute_async_v3
        self.executions: list[tuple[str, int]] = []  # ("plain" or "graph", batch), as they were done
        self.compiled: list[int] = []  # batch sizes that TensorRT-RTX had to compile kernels for
        self.allocations: dict[int, Allocation] = {}
        self.streams: dict[int, Any] = {}
        self.graphs: dict[int, Any] = {}  # not instantiated
        self.executables: dict[int, Any] = {}
        self.events: dict[int, Any] = {}
        self.device_ms = 0.0  # the device's own time: only finished work moves it
        self._devices = threading.local()  # of each thread: the device that is current
        self._freed: dict[int, Allocation] = {}  # kept, so that a stale pointer reads NaN instead of crashing
        self._objects: list[weakref.ref[Any]] = []
        self._next_address = FIRST_DEVICE_ADDRESS
        self._next_handle = 0x5500_0000
        self._allocation_count = 0

    def violation(self, what: str) -> None:
        """Record a misuse."""
        with self.lock:
            self.violations.append(what)

    def take_violations(self) -> list[str]:
        """Return what was recorded, and forget it: for tests that misuse on purpose."""
        with self.lock:
            taken, self.violations = self.violations, []
        return taken

    @property
    def device(self) -> int:
        """The device that is current in this thread."""
        return int(getattr(self._devices, "current", 0))

    @device.setter
    def device(self, device: int) -> None:
        self._devices.current = device

    def on_first_device(self, what: str) -> None:
        """Record a misuse where another device than the first is current in this thread."""
        if self.device != 0:
            self.violation(f"{what} while device {self.device} is current")

    def handle(self) -> int:
        """Return a number that no other handle has."""
        with self.lock:
            self._next_handle += 0x10
            return self._next_handle

    def born(self, thing: Any) -> None:
        """Watch an object of TensorRT, whose end is the end of its last reference."""
        self._objects.append(weakref.ref(thing))

    def living(self) -> list[Any]:
        """Return the objects of TensorRT that are still referenced."""
        return [thing for thing in (reference() for reference in self._objects) if thing is not None]

    def held(self) -> list[str]:
        """Name all that has not been given back."""
        if self.living():
            gc.collect()  # what only a cycle keeps is nobody's
        return [
            *(f"{a.kind} memory at {a.address:#x} ({a.memory.nbytes} bytes)" for a in self.allocations.values()),
            *(f"stream {handle:#x}" for handle in self.streams),
            *(f"graph {handle:#x}" for handle in self.graphs),
            *(f"executable graph {handle:#x}" for handle in self.executables),
            *(f"event {handle:#x}" for handle in self.events),
            *(f"a reference to {type(thing).__name__}" for thing in self.living()),
        ]

    def free_bytes(self) -> int:
        """Return how much device memory is left."""
        if self.gpu is None:
            return 0
        return self.gpu.memory_bytes - sum(a.memory.nbytes for a in self.allocations.values() if a.kind == "device")

    def allocate(self, kind: str, nbytes: int) -> int | None:
        """Return the address of poisoned memory, or None where there is not enough."""
        self.on_first_device(f"{kind} memory is allocated")
        with self.lock:
            self._allocation_count += 1
            short = kind == "device" and nbytes > self.free_bytes()
            if short or self._allocation_count == self.faults.allocation:
                return None
            memory = np.full(nbytes, POISON, np.uint8)
            address = memory.ctypes.data
            if kind == "device":
                address = self._next_address
                self._next_address += (nbytes // ALIGNMENT + 2) * ALIGNMENT  # with a gap: overruns hit nothing
            self.allocations[address] = Allocation(kind, address, memory)
            return address

    def release(self, kind: str, address: int) -> bool:
        """Free an allocation; False, and a violation, where there is none of that kind."""
        with self.lock:
            found = self.allocations.get(address)
            if found is None or found.kind != kind:
                earlier = self._freed.get(address)
                what = "freed twice" if earlier is not None and earlier.kind == kind else "never allocated"
                self.violation(f"{kind} memory at {address:#x} is freed but was {what}")
                return False
            for stream in self.streams.values():
                if any(found.address in work.addresses for work in stream.queue):
                    self.violation(f"{kind} memory at {address:#x} is freed while queued work uses it")
            found.memory[:] = POISON
            self._freed[address] = self.allocations.pop(address)
            return True

    def range(self, kind: str, address: int, nbytes: int) -> npt.NDArray[np.uint8] | None:
        """Return the live memory [address, address + nbytes) of one kind, None where it is not all inside one piece."""
        with self.lock:
            for found in self.allocations.values():
                start = address - found.address
                if found.kind == kind and start >= 0 and start + nbytes <= found.memory.nbytes:
                    return found.memory[start : start + nbytes]
        return None

    def finish(self) -> None:
        """Raise AssertionError where anything was misused or is left over."""
        wrong = self.violations + [f"left over: {what}" for what in self.held()]
        if wrong:
            raise AssertionError("the double of CUDA and TensorRT has seen misuse:\n  " + "\n  ".join(wrong))
