"""An HTTP service around an artefact, for a device: `python service.py ARTEFACT` (README.md beside it says more).

This process is the supervisor. It holds the listening socket, which its workers share, and starts, replaces and ends
them; it never loads a model, so no model takes it along. A new model comes as new workers: the first must have loaded
and tested it before any old one ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from settings import Settings, note

START_S = 60.0  # a worker that is not ready by then is ended
DEATHS, DEATHS_S = 5, 60.0  # so many deaths within so many seconds end the service
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process. It sends a byte on `channel` when it is ready; the channel's end is the end of either side."""

    pid: int
    channel: socket.socket
    artefact: Path
    generation: int
    deadline: float  # it is ready, or gone, by then
    ready: bool = False
    stopping: bool = False


class Supervisor:
    """Keeps `settings.workers` workers running, all with the model that was last found good."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._artefact = settings.artefact.resolve()  # `current` may be a link, and point elsewhere by the next SIGHUP
        self._generation = 0
        self._workers: list[Worker] = []
        self._deaths: deque[float] = deque()
        self._announced = -1  # the generation that was last said to be serving; none before the start is over
        self._stopping = self._reload_again = False
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()
        self._signals, self._wakeup = socket.socketpair()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # the byte in self._signals counts
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._balance()
        while self._workers:
            soonest = min(worker.deadline for worker in self._workers)
            timeout = None if soonest == float("inf") else max(0.0, soonest - time.monotonic())
            for key, _ in self._selector.select(timeout):
                if key.fileobj is self._signals:
                    self._on_signals(self._signals.recv(64))
                elif key.data in self._workers:
                    self._on_worker(key.data)
            self._end_late_workers()
        return self._exit_code

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._end(0)
        elif signal.SIGHUP in numbers and not self._stopping:
            self._reload()

    def _reload(self) -> None:
        """Try what the artefact's path is now with one more worker; what runs goes on until that one is ready."""
        if self._announced < 0 or any(not worker.ready for worker in self._workers):
            self._reload_again = True  # one after the other
            return
        self._reload_again = False
        self._start(self._settings.artefact.resolve(), self._generation + 1)

    def _on_worker(self, worker: Worker) -> None:
        if worker.channel.recv(1):
            worker.ready, worker.deadline = True, float("inf")
            if worker.generation > self._generation:
                self._artefact, self._generation = worker.artefact, worker.generation
        else:
            self._on_end(worker)
        self._balance()
        if self._stopping or not all(worker.ready and not worker.stopping for worker in self._workers):
            return
        if self._announced != self._generation:
            host, port = self._listener.getsockname()[:2]
            what = "ready" if self._announced < 0 else "reloaded"
            self._announced = self._generation
            note(f"{what} on http://{host}:{port} with {len(self._workers)} workers: {self._artefact}")
        if self._reload_again:
            self._reload()

    def _on_end(self, worker: Worker) -> None:
        self._selector.unregister(worker.channel)
        worker.channel.close()
        self._workers.remove(worker)
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if worker.stopping:
            if code != 0:
                note(f"worker {worker.pid} did not end as it should ({how})")
                self._exit_code = self._exit_code or int(self._stopping)
        elif worker.generation > self._generation:
            note(f"the new model is refused ({how}), the old one goes on: {self._artefact}")
        elif self._announced < 0:
            self._end(max(code, 1))
        else:
            note(f"worker {worker.pid} died ({how})")
            self._deaths.append(time.monotonic())
            while self._deaths[0] < time.monotonic() - DEATHS_S:
                self._deaths.popleft()
            if len(self._deaths) >= DEATHS:
                note(f"{DEATHS} workers died within {DEATHS_S:.0f} s: this cannot be helped by another one")
                self._end(1)

    def _balance(self) -> None:
        """One step towards the right number of workers with the right model."""
        if self._stopping:
            return
        live = [worker for worker in self._workers if not worker.stopping and worker.generation <= self._generation]
        old = [worker for worker in live if worker.generation < self._generation]
        new = [worker for worker in live if worker.generation == self._generation]
        ready = sum(worker.ready for worker in new)
        surplus = max(0, len(old) + ready - self._settings.workers)
        for worker in old[:surplus]:
            self._stop(worker)
        missing = self._settings.workers - len(new)
        # While models change, one starts at a time, since memory is short on a device; and the first one alone, which
        # may find that it cannot.
        if len(old) > surplus or ready == 0:
            missing = min(missing, 1 - (len(new) - ready))
        for _ in range(missing):
            self._start(self._artefact, self._generation)

    def _start(self, artefact: Path, generation: int) -> None:
        ours, theirs = socket.socketpair()
        # A signal between fork and the worker's own handlers must not arrive at the handlers of this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                self._selector.close()
                for other in (ours, self._signals, self._wakeup, *(worker.channel for worker in self._workers)):
                    other.close()
                code = _work(self._settings, artefact, self._listener, theirs)
            except BaseException:  # noqa: BLE001 - nothing may return into the supervisor's code in this process
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        worker = Worker(pid, ours, artefact, generation, time.monotonic() + START_S)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _stop(self, worker: Worker) -> None:
        worker.stopping, worker.deadline = True, time.monotonic() + self._settings.grace_s
        with contextlib.suppress(OSError):  # it has just died
            worker.channel.shutdown(socket.SHUT_WR)

    def _end(self, code: int) -> None:
        if not self._stopping:
            note(f"ending: requests in flight have {self._settings.grace_s:g} s")
            self._stopping, self._exit_code = True, code
            self._listener.close()
            for worker in self._workers:
                self._stop(worker)

    def _end_late_workers(self) -> None:
        for worker in self._workers:
            if worker.deadline <= time.monotonic():
                os.kill(worker.pid, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
                worker.deadline = float("inf")


def _work(settings: Settings, artefact: Path, listener: socket.socket, channel: socket.socket) -> int:
    """Be a worker; return its exit code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the supervisor tells when to end
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: channel.shutdown(socket.SHUT_RD))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    from worker import work

    return work(settings, artefact, listener, channel)


def main() -> int:
    """Parse the command line, listen, supervise."""
    parser = argparse.ArgumentParser(description="Serve an artefact over HTTP: POST /classify, GET /health.")
    parser.add_argument("artefact", metavar="ARTEFACT", type=Path, help="its folder, or a link to it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to run the network")
    parser.add_argument("--max-body", type=int, default=1 << 20, metavar="BYTES", help="of a request")
    parser.add_argument("--request-seconds", type=float, default=5.0, metavar="S", help="to receive a request in")
    parser.add_argument("--health-seconds", type=float, default=5.0, metavar="S", help="for which a self-test counts")
    parser.add_argument("--grace", type=float, default=10.0, metavar="S", help="for what is in flight at the end")
    given = parser.parse_args()
    if given.workers < 1 or not 0 <= given.port < 65536:
        parser.error("--workers must be at least 1, --port between 0 and 65535")
    if given.grace <= given.request_seconds:
        parser.error("--grace must be more than --request-seconds: it is for requests in flight")
    settings = Settings(
        artefact=given.artefact,
        workers=given.workers,
        device=given.device,
        max_body_bytes=given.max_body,
        request_s=given.request_seconds,
        health_s=given.health_seconds,
        grace_s=given.grace,
    )
    try:
        listener = socket.create_server((given.host, given.port), backlog=128)
    except OSError as error:
        note(f"cannot listen on {given.host}:{given.port}: {error.strerror}; choose another --host or --port")
        return 2
    listener.setblocking(False)  # workers look for connections together, and one of them gets it
    return Supervisor(settings, listener).run()


if __name__ == "__main__":
    raise SystemExit(main())
