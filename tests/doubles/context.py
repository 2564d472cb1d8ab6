"""The double's execution context: holds each call against the rules, runs the graph when its stream gets there."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.doubles.profiler import IProfiler, report_layers
from tests.doubles.rtx import IRuntimeConfig
from tests.doubles.values import DynamicShapesKernelSpecializationStrategy as Kernels
from tests.doubles.values import ProfilingVerbosity, Severity, TensorIOMode
from tests.doubles.world import World

if TYPE_CHECKING:
    from tests.doubles.runtime import ICudaEngine


EXECUTION_MS = 1.0  # of the device's own time


class IExecutionContext:
    """A context. It changes (`revision`) by each call that sets something to another value than before."""

    def __init__(self, engine: ICudaEngine, user_managed: bool, profile: int, config: IRuntimeConfig | None) -> None:
        self._engine = weakref.ref(engine)
        self._world: World = engine._world
        self._logger = engine._logger
        self._user_managed = user_managed
        self._profile = profile
        # The engine below Python holds the cache by a bare pointer: it must outlive the context.
        self._cache = None if config is None or config._cache is None else weakref.ref(config._cache)
        self._kernels = Kernels.NONE if config is None else config.dynamic_shapes_kernel_specialization_strategy
        self._compiled: set[int] = set()  # where there is no cache
        self._memory: tuple[int, int] | None = None
        self._addresses: dict[str, int] = {}
        self._inputs = [name for name, end in engine._ends.items() if end[0] is TensorIOMode.INPUT]
        fixed = {name: engine._ends[name][2] for name in self._inputs}
        self._shapes: dict[str, tuple[int, ...]] = {n: tuple(s) for n, s in fixed.items() if -1 not in s}
        self._flushed = False  # a plain run has followed the last change
        self._revision = 0
        self._user: int | None = None
        self.profiler: IProfiler | None = None
        self.nvtx_verbosity = ProfilingVerbosity[engine._record.verbosity]
        self._world.born(self)

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        with self._used("set_optimization_profile_async") as allowed:
            if not allowed or profile_index != 0:
                raise RuntimeError("Error in set optimization profile async.")  # the bindings never return False
            self._change(self._profile != 0)
            self._profile = 0
            return True

    def set_device_memory(self, memory: int, size: int) -> None:
        with self._used("set_device_memory"):
            engine = self._engine()
            needed = engine._record.activation_bytes if engine is not None else 0
            if size < needed or self._world.range("device", memory, size) is None:
                self._world.violation(f"set_device_memory: {size} bytes at {memory:#x} are not {needed} live bytes")
            self._change(self._memory != (memory, size))
            self._memory = (memory, size)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        with self._used("set_input_shape") as allowed:
            engine, wanted = self._engine(), tuple(int(size) for size in shape)
            if not allowed or engine is None or name not in self._inputs:
                return self._refuse(f"setInputShape: {name} is no input")
            smallest, _usual, largest = engine.get_tensor_profile_shape(name, 0)
            fits = len(wanted) == len(smallest) and all(
                low <= size <= high for low, size, high in zip(smallest, wanted, largest, strict=True)
            )
            if not fits:
                return self._refuse(f"setInputShape: {list(wanted)} does not satisfy any optimization profiles")
            self._change(self._shapes.get(name) != wanted)
            self._shapes[name] = wanted
            return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        with self._used("set_tensor_address") as allowed:
            engine = self._engine()
            if not allowed or engine is None or name not in engine._ends:
                return self._refuse(f"setTensorAddress: {name} is no input or output")
            self._change(self._addresses.get(name) != memory)
            self._addresses[name] = memory
            return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        with self._used("execute_async_v3") as allowed:
            stream = self._world.streams.get(int(stream_handle))
            if stream is None:
                self._world.violation("execute_async_v3 on a stream that does not exist")
                return False
            self._world.execution_count += 1
            if not allowed or self._world.execution_count == self._world.faults.execute:
                return self._refuse("enqueueV3: the double was told to fail")
            if (wrong := self._not_ready(stream)) is not None:
                self._world.violation(f"execute_async_v3 {wrong}")
                return self._refuse(f"enqueueV3: {wrong}")
            if stream.capture is not None and self._world.faults.capture == "execute":
                stream.invalid = True
                return self._refuse("enqueueV3: operation not permitted when stream is capturing")
            stream.push(Execution(self))
            self._flushed = self._flushed or stream.capture is None
            return True

    def _not_ready(self, stream: Any) -> str | None:
        """Say what is missing for an execution."""
        engine = self._engine()
        if engine is None:
            return "after its engine was freed"
        if self._profile != 0:
            return "without an optimization profile"
        if missing := [name for name in self._inputs if name not in self._shapes]:
            return f"before the shape of {missing[0]} was set"
        if missing := [name for name in engine._ends if not self._addresses.get(name)]:
            return f"before the address of {missing[0]} was set"
        for name, (_mode, dtype, shape) in engine._ends.items():
            nbytes = int(np.prod([self._batch(), *shape[1:]])) * dtype.itemsize
            if self._world.range("device", self._addresses[name], nbytes) is None:
                return f"with {name} at an address that has no {nbytes} live bytes of device memory"
        needs_memory = self._user_managed and engine._record.activation_bytes > 0
        if needs_memory and (self._memory is None or self._world.range("device", *self._memory) is None):
            return "without working memory"
        if stream.capture is not None and self._world.flavour.rtx:
            return "while the stream captures: TensorRT-RTX captures by itself"
        if stream.capture is not None and not self._flushed:
            return "while the stream captures, before a plain run of this shape"
        return None

    def _batch(self) -> int:
        return self._shapes[self._inputs[0]][0]

    def _change(self, changed: bool) -> None:
        if changed:
            self._revision += 1
            self._flushed = False

    def _refuse(self, words: str) -> bool:
        self._logger.log(Severity.ERROR, f"IExecutionContext::{words}")
        return False

    @contextlib.contextmanager
    def _used(self, what: str) -> Iterator[bool]:
        """Watch one call: False where it is to be refused."""
        me = threading.get_ident()
        if self._user not in (None, me):
            self._world.violation(f"{what}: two threads are in one context at once")
        if self._engine() is None:
            self._world.violation(f"{what} after the engine was freed")
        self._world.on_first_device(what)
        self._user = me
        try:
            time.sleep(self._world.linger_s)
            refused = self._world.faults.refuse == what
            if refused:
                self._logger.log(Severity.ERROR, f"{what}: the double was told to refuse")
            yield not refused
        finally:
            self._user = None

    def __del__(self) -> None:
        graphs = [piece for work in self._world.executables.values() for piece in work]
        queued = [piece for stream in self._world.streams.values() for piece in stream.queue]
        for pieces, what in ((graphs, "a graph that was captured from it"), (queued, "its queued work")):
            if any(isinstance(piece, Execution) and piece.context() in (None, self) for piece in pieces):
                self._world.violation(f"a context is freed before {what}")
        if self._cache is not None and self._cache() is None:
            self._world.violation("a runtime cache is freed before the context that uses it")


class Execution:
    """A queued run: shapes and addresses as they were when it was queued or captured."""

    def __init__(self, context: IExecutionContext) -> None:
        self.context = weakref.ref(context)
        self.revision = context._revision
        self.shapes = dict(context._shapes)
        self.ends = dict(context._addresses)
        self.addresses = (*self.ends.values(), *([context._memory[0]] if context._memory else []))
        self.how = ""

    def begin(self, how: str) -> None:
        """The run is handed to the device."""
        self.how = how
        context = self.context()
        if context is None or context._engine() is None:
            return  # recorded where the context was freed
        if context._revision != self.revision:
            context._world.violation("a graph is launched after the context it was captured from was changed")

    def finish(self) -> None:
        """The run is done."""
        context = self.context()
        engine = context._engine() if context is not None else None
        if context is None or engine is None:
            return
        world, feeds = context._world, {}
        batch = next(iter(self.shapes.values()))[0]
        for name, shape in self.shapes.items():
            dtype = engine._ends[name][1]
            memory = world.range("device", self.ends[name], int(np.prod(shape)) * dtype.itemsize)
            if memory is None:
                world.violation(f"a queued run reads {name} from memory that was freed")
                return
            feeds[name] = memory.view(dtype).reshape(shape)
        fallback = self._runs_fallback(context, batch)
        outputs = [name for name, end in engine._ends.items() if end[0] is TensorIOMode.OUTPUT]
        for name, result in zip(outputs, engine._session.run(outputs, feeds), strict=True):
            memory = world.range("device", self.ends[name], result.nbytes)
            if memory is None:
                world.violation(f"a queued run writes {name} to memory that was freed")
                return
            answer = np.nextafter(result, np.inf, dtype=result.dtype) if fallback else result  # another last digit
            memory[:] = np.ascontiguousarray(answer).reshape(-1).view(np.uint8)
        if context.profiler is not None:
            report_layers(context.profiler, engine)
        world.device_ms += EXECUTION_MS
        world.executions.append((self.how, batch))

    def _runs_fallback(self, context: IExecutionContext, batch: int) -> bool:
        """TensorRT-RTX compiles kernels for a shape that neither the process nor its cache has met.

        LAZY, it does so while a fallback kernel runs; EAGER, before it runs anything; NONE, never.
        """
        if not context._world.flavour.rtx:
            return False
        cache = context._cache() if context._cache is not None else None
        known = cache._compiled if cache is not None else context._compiled
        if batch in known:
            return False
        if context._kernels is not Kernels.NONE:
            context._world.compiled.append(batch)
            known.add(batch)
        return context._kernels is not Kernels.EAGER
