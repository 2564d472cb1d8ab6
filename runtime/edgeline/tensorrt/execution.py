"""An engine at work on one stream: copy in, run, copy out, and CUDA graphs so that a call costs one launch.

TensorRT wants one execution context per captured graph (changing a context spoils the graphs that were captured from
it), one plain run of a shape before its capture, and lets contexts that never run at once share their working memory
(NVIDIA, TensorRT documentation, "CUDA Graphs"). TensorRT-RTX captures by itself, when told to.
Nothing here may be called from two threads at once: the session holds a lock. Nothing is timed.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from edgeline.command import note
from edgeline.errors import EdgelineError
from edgeline.manifest import TensorSpec
from edgeline.tensorrt.device import Cuda, DeviceBuffer, Graph, PinnedBuffer, Stream
from edgeline.tensorrt.engine import Engine
from edgeline.tensorrt.runtime_cache import RuntimeCache

if TYPE_CHECKING:
    import tensorrt as trt

GRAPHS_KEPT = 4


class Watcher(Protocol):
    """Told where each call stands: for whoever measures, since a session holds no clock.

    Where a graph is captured, the first two are called during the capture, and not when the graph is launched: what
    they queue becomes a part of it.
    """

    def before_engine(self, stream: Stream) -> None:
        """The copy in is queued; the engine is queued next."""

    def after_engine(self, stream: Stream) -> None:
        """The engine is queued; the copy out is queued next."""

    def queued(self) -> None:
        """All work of the call is queued; it is waited for next."""


class Runner(Protocol):
    """Runs the batch that lies in the input buffer; the result lies in the output buffer when run() returns."""

    def run(self, batch: int) -> None:
        """Run the batch in the input buffer."""

    def watch(self, watcher: Watcher | None) -> None:
        """Tell `watcher` of every call from now on; None ends it."""


class Buffers:
    """The engine's input and output, each on the device and pinned on the host, for the largest batch.

    They stay where they are: a graph keeps the addresses that it was captured with.
    """

    def __init__(
        self, cuda: Cuda, input_: TensorSpec, output: TensorSpec, largest: int, stack: contextlib.ExitStack
    ) -> None:
        self.input, self.output = input_, output
        made = []
        for spec, what in ((input_, "inputs"), (output, "outputs")):
            nbytes = largest * _row_bytes(spec)
            device = DeviceBuffer(cuda, nbytes, what)
            stack.callback(device.free)
            host = PinnedBuffer(cuda, nbytes, what)
            stack.callback(host.free)
            made.append((device, host, host.array(spec.dtype, (largest, *spec.shape[1:]))))
        (self.input_device, self._input_host, self._input), (self.output_device, self._output_host, self._output) = made

    @property
    def nbytes(self) -> int:
        """The size of the buffers on the device; those on the host have the same."""
        return self.input_device.nbytes + self.output_device.nbytes

    def put(self, batch: npt.NDArray[Any]) -> None:
        """Copy a batch into the pinned input."""
        self._input[: len(batch)] = batch

    def take(self, batch: int) -> npt.NDArray[Any]:
        """Copy a batch out of the pinned output: the next run overwrites it."""
        result: npt.NDArray[Any] = self._output[:batch].copy()
        return result

    def enqueue(self, stream: Stream, batch: int, engine: Callable[[], None]) -> None:
        """Queue the copy in, whatever `engine` queues, and the copy out."""
        stream.copy_to_device(self.input_device, self._input_host, batch * _row_bytes(self.input))
        engine()
        stream.copy_to_host(self._output_host, self.output_device, batch * _row_bytes(self.output))


class BoundContext:
    """An execution context on the buffers; what TensorRT refuses becomes an error in its own words."""

    def __init__(self, engine: Engine, context: trt.IExecutionContext, stream: Stream, buffers: Buffers) -> None:
        self._engine = engine
        self._context = context
        self._stream = stream
        self._buffers = buffers
        self._batch = 0
        self.watcher: Watcher | None = None
        # Engines are built DETAILED, for the inspector; at run time a profiler's names only make each enqueue slower.
        context.nvtx_verbosity = engine.product.module.ProfilingVerbosity.NONE

    def use_memory(self, activations: DeviceBuffer) -> None:
        """Give a context that was made without it the memory to work in, and the engine's one profile."""
        self._context.set_device_memory(activations.address, activations.nbytes)
        # TensorRT's headers promise a profile to an engine's first context only, its Python documentation to each.
        if self._context.active_optimization_profile != 0:
            self._must("set_optimization_profile_async", 0, self._stream.address)
            self._stream.synchronise()

    def set_batch(self, batch: int) -> None:
        """Set the input's shape and both addresses, where the batch is another than before."""
        if batch == self._batch:
            return
        self._batch = 0
        self._must("set_input_shape", self._buffers.input.name, (batch, *self._buffers.input.shape[1:]))
        self._must("set_tensor_address", self._buffers.input.name, self._buffers.input_device.address)
        self._must("set_tensor_address", self._buffers.output.name, self._buffers.output_device.address)
        self._batch = batch

    def enqueue(self) -> None:
        """Queue copy in, engine and copy out; nothing is waited for."""
        self._buffers.enqueue(self._stream, self._batch, self._enqueue_engine)

    def _enqueue_engine(self) -> None:
        if self.watcher is not None:
            self.watcher.before_engine(self._stream)
        self._must("execute_async_v3", self._stream.address)
        if self.watcher is not None:
            self.watcher.after_engine(self._stream)

    def free(self) -> None:
        """Let go of the context; no graph that was captured from it may live."""
        if hasattr(self, "_context"):
            del self._context

    def _must(self, name: str, *arguments: Any) -> None:
        mark, otherwise = self._engine.product.log.mark(), "no reason given"
        try:
            done = getattr(self._context, name)(*arguments)
        except RuntimeError as error:  # some calls of the Python API raise where their C++ function returns false
            done, otherwise = False, str(error)
        if not done:
            raise self._engine.refusal(name, mark, otherwise=otherwise)


class CapturingRunner:
    """TensorRT: for each of the last batch sizes a context, and the graph that was captured from it.

    The first run of a batch size makes both. Where the work cannot be captured, the batch size runs by a plain enqueue,
    slower and with the same result, `refused` says why, and a note tells it the first time.
    """

    def __init__(
        self, cuda: Cuda, engine: Engine, stream: Stream, buffers: Buffers, stack: contextlib.ExitStack
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._buffers = buffers
        self._lanes: OrderedDict[int, tuple[BoundContext, Graph | None]] = OrderedDict()
        self.refused: dict[int, str] = {}
        self._watcher: Watcher | None = None
        # All contexts work in this memory: only one of them runs at a time.
        self._activations = DeviceBuffer(cuda, max(engine.activation_bytes, 1), "working memory of the engine")
        stack.callback(self._activations.free)
        stack.callback(self._free_lanes)

    @property
    def captured(self) -> tuple[int, ...]:
        """The batch sizes that have a graph now, the least recently used first."""
        return tuple(batch for batch, (_context, graph) in self._lanes.items() if graph is not None)

    def run(self, batch: int) -> None:
        """Run the batch in the input buffer."""
        if batch not in self._lanes:
            self._open_lane(batch)
            return
        self._lanes.move_to_end(batch)
        context, graph = self._lanes[batch]
        try:
            if graph is None:
                context.enqueue()
            else:
                graph.launch(self._stream)
            if self._watcher is not None:
                self._watcher.queued()
            self._stream.synchronise()
        except BaseException:
            _settle(self._stream)
            raise

    def watch(self, watcher: Watcher | None) -> None:
        """Tell `watcher` of every call from now on. All graphs are captured again: what it queues is a part of them."""
        self._free_lanes()
        self._watcher = watcher

    def _open_lane(self, batch: int) -> None:
        """Run a batch size for the first time, and capture it for the next."""
        while len(self._lanes) >= GRAPHS_KEPT:
            self._free_lane(next(iter(self._lanes)))
        self._lanes[batch] = (self._new_context(), None)
        context = self._lanes[batch][0]
        try:
            context.use_memory(self._activations)
            context.set_batch(batch)
            context.enqueue()
            self._stream.synchronise()
        except BaseException:
            _settle(self._stream)
            self._free_lane(batch)
            raise
        if batch in self.refused:
            return
        try:
            self._lanes[batch] = (context, self._stream.capture(context.enqueue))
        except EdgelineError as error:
            if not self.refused:
                note(f"no CUDA graph for batches of {batch}: they run right, and each call costs more: {error}")
            self.refused[batch] = str(error)

    def _new_context(self) -> BoundContext:
        mark = self._engine.product.log.mark()
        strategy = self._engine.product.module.ExecutionContextAllocationStrategy.USER_MANAGED
        context: trt.IExecutionContext | None = self._engine.handle.create_execution_context(strategy)
        if context is None:
            raise self._engine.refusal("create_execution_context", mark)
        bound = BoundContext(self._engine, context, self._stream, self._buffers)
        bound.watcher = self._watcher
        return bound

    def _free_lane(self, batch: int) -> None:
        context, graph = self._lanes.pop(batch)
        try:
            if graph is not None:
                graph.free()
        finally:
            context.free()

    def _free_lanes(self) -> None:
        with contextlib.ExitStack() as stack:  # each of them, even where one fails
            for batch in self._lanes:
                stack.callback(self._free_lane, batch)


class SelfCapturingRunner:
    """TensorRT-RTX: one context, told to capture graphs by itself, with its cache of compiled kernels."""

    def __init__(
        self,
        cuda: Cuda,
        engine: Engine,
        stream: Stream,
        buffers: Buffers,
        cache: RuntimeCache,
        stack: contextlib.ExitStack,
    ) -> None:
        self._stream = stream
        self._title = engine.product.title
        mark = engine.product.log.mark()
        stack.callback(self._free_config)
        self._config = cast("Any", engine.handle.create_runtime_config())  # the stubs know TensorRT's, which does less
        if self._config is None:
            raise engine.refusal("create_runtime_config", mark)
        module = engine.product.module
        self._set("cuda_graph_strategy", module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE, "each call costs more")
        # LAZY, as it is from the start, runs a fallback kernel until the one for the shape has been compiled behind the
        # caller's back: times move for no visible reason, and two answers to one batch may differ in their last digits.
        # EAGER makes the first call of a batch size pay for all of it, and only where the cache does not have it.
        eager = module.DynamicShapesKernelSpecializationStrategy.EAGER
        cost = "the first calls of a batch size may be slower and differ in their last digits"
        self._set("dynamic_shapes_kernel_specialization_strategy", eager, cost)
        stack.callback(cache.free)
        self._cache = cache
        self._saved: set[int] = set()  # batch sizes whose kernels the file has
        cache.attach(self._config)
        context: trt.IExecutionContext | None = engine.handle.create_execution_context(self._config)
        if context is None:
            raise engine.refusal("create_execution_context", mark, engine.activation_bytes, cuda.free_bytes())
        self._context = BoundContext(engine, context, stream, buffers)
        stack.callback(self._context.free)
        stack.callback(cache.save)

    def run(self, batch: int) -> None:
        """Run the batch in the input buffer."""
        try:
            self._context.set_batch(batch)
            self._context.enqueue()
            if self._context.watcher is not None:
                self._context.watcher.queued()
            self._stream.synchronise()
        except BaseException:
            _settle(self._stream)
            raise
        if batch not in self._saved:
            # Now, since a process that is killed, or a session that is never closed, has no later moment.
            self._saved.add(batch)
            self._cache.save()

    def watch(self, watcher: Watcher | None) -> None:
        """Tell `watcher` of every call from now on. What it queues stands around TensorRT-RTX's own graph."""
        self._context.watcher = watcher

    def _set(self, name: str, value: Any, cost: str) -> None:
        """Set a property of the configuration. Python drops what the C++ function answers: read it back."""
        setattr(self._config, name, value)
        found = getattr(self._config, name)
        if found != value:
            note(f"{self._title} leaves {name} at {found.name} where {value.name} was asked for: {cost}")

    def _free_config(self) -> None:
        self._config = None


def captures_by_itself(engine: Engine) -> bool:
    """Say whether a runtime configuration takes a CUDA graph strategy: TensorRT-RTX. TensorRT has one without."""
    return hasattr(getattr(engine.product.module, "IRuntimeConfig", None), "cuda_graph_strategy")


def _settle(stream: Stream) -> None:
    """Wait for what a run that failed has queued: it still reads and writes the buffers."""
    with contextlib.suppress(EdgelineError):  # the error under way is the first one, and says more
        stream.synchronise()


def _row_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape[1:]) * np.dtype(spec.dtype).itemsize
