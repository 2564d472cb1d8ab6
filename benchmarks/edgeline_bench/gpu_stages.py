"""Where the time of a call on a GPU goes: enqueue, compute and end to end, apart.

For TensorRT's sessions, which tell a watcher where a call stands (edgeline.tensorrt.execution.Watcher). Compute is the
device's own time between two CUDA events around the engine, without the copies in and out; inside a CUDA graph they are
nodes of it, so that what is timed is what is launched. The events make a call slower by themselves: end to end is taken
without them, in a slot of its own, and the three need not add up. This has not run on a GPU yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from edgeline import cuda
from edgeline.errors import MissingCapabilityError
from edgeline.tensorrt.device import Cuda, Stream, open_cuda
from edgeline.tensorrt.execution import Watcher
from edgeline_bench.clock import MAX_SAMPLES, Clock, Slot, SystemClock, measure

# A batch size's first call runs plainly and captures; from the second on the graph is launched.
_CALLS_BEFORE_THE_GRAPH = 2


class WatchedSession(Protocol):
    """What is needed of a session: edgeline.backends.tensorrt.TensorRtSession has it."""

    def infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run a batch."""
        ...

    def watch(self, watcher: Watcher | None) -> None:
        """Tell a watcher of each call."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds per call.

    `enqueue_s`: from the call of infer() until all is queued, the copy into pinned memory included. `compute_s`: the
    engine on the device. `end_to_end`: infer() from call to return, with nothing else going on.
    """

    enqueue_s: list[float]
    compute_s: list[float]
    end_to_end: Slot


def measure_stages(
    session: WatchedSession, batch: npt.NDArray[Any], slot_s: float, clock: Clock | None = None
) -> Stages:
    """Time a batch end to end for half the slot, and its stages for the other half, at least once.

    At most MAX_SAMPLES calls are timed in stages. Raises MissingCapabilityError without a GPU, and what infer() raises.
    """
    gpu = cuda.gpu()
    if gpu is None:
        raise MissingCapabilityError("stages are timed on an NVIDIA GPU, and edgeline doctor finds none here")
    clock = clock or SystemClock()
    end_to_end = measure(lambda: session.infer(batch), slot_s / 2, clock)
    with _watched(open_cuda(gpu), session, clock.now_ns) as events:
        for _ in range(_CALLS_BEFORE_THE_GRAPH):
            session.infer(batch)
        enqueue, compute = list[float](), list[float]()
        end = clock.now_ns() + int(slot_s / 2 * 1e9)
        while not enqueue or (len(enqueue) < MAX_SAMPLES and clock.now_ns() < end):
            before = clock.now_ns()
            session.infer(batch)
            enqueue.append(round((events.queued_ns - before) * 1e-9, 9))
            compute.append(round(events.elapsed_s(), 9))
    return Stages(enqueue, compute, end_to_end)


@contextlib.contextmanager
def _watched(api: Cuda, session: WatchedSession, now_ns: Callable[[], int]) -> Iterator[_Events]:
    """Watch the session with a pair of events; afterwards no graph has them, and they are gone."""
    with contextlib.ExitStack() as stack:
        with api.on_device():
            events = _Events(api, now_ns, stack)
        stack.callback(session.watch, None)
        session.watch(events)
        yield events


class _Events:
    """The watcher: an event on either side of the engine, and the moment when all was queued."""

    def __init__(self, api: Cuda, now_ns: Callable[[], int], stack: contextlib.ExitStack) -> None:
        self._cuda, self._now_ns = api, now_ns
        self.queued_ns = 0
        self._start, self._end = (self._event(stack) for _ in range(2))

    def before_engine(self, stream: Stream) -> None:
        self._record(self._start, stream)

    def after_engine(self, stream: Stream) -> None:
        self._record(self._end, stream)

    def queued(self) -> None:
        self.queued_ns = self._now_ns()

    def elapsed_s(self) -> float:
        """The device's time between the events of the last call; CUDA resolves half a microsecond."""
        return float(self._cuda.call("cudaEventElapsedTime", self._start, self._end)) * 1e-3

    def _event(self, stack: contextlib.ExitStack) -> Any:
        event = self._cuda.call("cudaEventCreate")
        stack.callback(self._cuda.call, "cudaEventDestroy", event)
        return event

    def _record(self, event: Any, stream: Stream) -> None:
        """Record on the stream; as an external event during a capture, or it would have no time, and only then."""
        api = self._cuda.api
        status = self._cuda.call("cudaStreamIsCapturing", stream.handle)
        captures = status == api.cudaStreamCaptureStatus.cudaStreamCaptureStatusActive
        flags = api.cudaEventRecordExternal if captures else 0
        self._cuda.call("cudaEventRecordWithFlags", event, stream.handle, flags)
