# ruff: noqa: N801, N802, N815 - the real names
"""The double's events: recorded when their stream gets there, on the device's own time; also inside a graph."""

from __future__ import annotations

import enum
from typing import Any

from tests.doubles.world import World

EXTERNAL = 1  # cudaEventRecordExternal


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureWrongThread = 908


class cudaStreamCaptureStatus(enum.IntEnum):
    cudaStreamCaptureStatusNone = 0
    cudaStreamCaptureStatusActive = 1
    cudaStreamCaptureStatusInvalidated = 2


class Handle:
    def __init__(self, address: int) -> None:
        self.address = address

    def __int__(self) -> int:
        return self.address


class cudaEvent_t(Handle):
    pass


class Event:
    """When it was last recorded, in milliseconds of the device; None before, and while a record is queued."""

    def __init__(self) -> None:
        self.at_ms: float | None = None
        self.captured = False  # without cudaEventRecordExternal: it then only orders work inside the graph


class Record:
    """A queued record of an event."""

    def __init__(self, world: World, event: Event) -> None:
        self.world, self.event = world, event
        self.addresses = ()

    def begin(self, _how: str) -> None:
        """The work is handed to the device."""
        self.event.at_ms = None

    def finish(self) -> None:
        """The stream has come to it."""
        self.event.at_ms = self.world.device_ms


class Events:
    """The functions of events, and what all functions share."""

    def __init__(self, world: World) -> None:
        self._world = world

    def cudaEventCreate(self) -> tuple[Any, ...]:
        self._world.on_first_device("an event is made")
        handle = cudaEvent_t(self._world.handle())
        self._world.events[int(handle)] = Event()
        return _E.cudaSuccess, handle

    def cudaEventDestroy(self, event: Any) -> tuple[Any, ...]:
        found = self._known(self._world.events, event, "event")
        if found is None:
            return (_E.cudaErrorInvalidResourceHandle,)
        graphs = [piece for work in self._world.executables.values() for piece in work]
        if any(isinstance(piece, Record) and piece.event is found for piece in graphs):
            self._world.violation("an event is destroyed before a graph that records it")
        del self._world.events[int(event)]
        return (_E.cudaSuccess,)

    def cudaEventRecordWithFlags(self, event: Any, stream: Any, flags: int) -> tuple[Any, ...]:
        found = self._known(self._world.events, event, "event")
        queue = self._known(self._world.streams, stream, "stream")
        if found is None or queue is None:
            return (_E.cudaErrorInvalidResourceHandle,)
        captures = queue.capture is not None
        if flags == EXTERNAL and not captures:
            self._world.violation("an event is recorded as external outside a capture")
            return (_E.cudaErrorInvalidValue,)
        found.captured = captures and flags != EXTERNAL
        queue.push(Record(self._world, found))
        return (_E.cudaSuccess,)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> tuple[Any, ...]:
        first, last = (self._known(self._world.events, event, "event") for event in (start, end))
        if first is None or last is None:
            return _E.cudaErrorInvalidResourceHandle, None
        if first.captured or last.captured:
            self._world.violation("the time of an event is asked for that only orders work inside a graph")
            return _E.cudaErrorInvalidValue, None
        if first.at_ms is None or last.at_ms is None:
            return _E.cudaErrorNotReady, None
        return _E.cudaSuccess, last.at_ms - first.at_ms

    def cudaStreamIsCapturing(self, stream: Any) -> tuple[Any, ...]:
        found = self._known(self._world.streams, stream, "stream")
        if found is None:
            return _E.cudaErrorInvalidResourceHandle, None
        active = cudaStreamCaptureStatus.cudaStreamCaptureStatusActive
        return _E.cudaSuccess, active if found.capture is not None else cudaStreamCaptureStatus(0)

    def _known(self, table: dict[int, Any], handle: Any, what: str) -> Any:
        found = None if handle is None else table.get(int(handle))
        if found is None:
            self._world.violation(f"a {what} is used that was never made or is already given back")
        return found


_E = cudaError_t
