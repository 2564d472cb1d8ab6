"""A worker: a few threads that take connections from the shared socket, one request each, around one model."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from http.server import HTTPServer
from pathlib import Path
from typing import Any

from handler import Handler
from model import Model
from settings import Settings, note

from edgeline.errors import EdgelineError

THREADS = 8  # requests in one worker: a client that sends slowly holds a thread, not the worker


class Server(HTTPServer):
    """http.server's, around a socket that is shared with other processes."""

    def __init__(self, listener: socket.socket, model: Model, settings: Settings) -> None:
        super().__init__(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.model = model
        self.settings = settings
        self._turn = threading.Lock()
        self._stop, self._stopped = socket.socketpair()

    def serve(self) -> None:
        """Answer requests until stop(). Each thread runs this; those that are not answering wait for their turn."""
        while (accepted := self._accept()) is not None:
            request, client = accepted
            try:
                self.finish_request(request, client)
            except Exception:  # noqa: BLE001 - a request must not end the thread
                self.handle_error(request, client)
            finally:
                self.shutdown_request(request)

    def stop(self) -> None:
        """Take no more connections: other workers do, or nobody."""
        self._stop.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what happened, unless it is a client that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def _accept(self) -> tuple[socket.socket, Any] | None:
        with self._turn:
            while True:
                readable = select.select([self.socket, self._stopped], [], [])[0]
                if self._stopped in readable:
                    return None
                try:
                    return self.socket.accept()
                except BlockingIOError:  # another worker was faster
                    continue
                except OSError as error:  # too many open files, or a connection that was dropped again
                    note(f"accept: {error}")
                    time.sleep(0.1)


def work(settings: Settings, artefact: Path, listener: socket.socket, channel: socket.socket) -> int:
    """Load the model, say so on `channel`, serve until that ends; return the exit code."""
    try:
        model = Model(artefact, settings.device, settings.health_s)
    except (EdgelineError, OSError) as error:
        note(str(error))
        return error.exit_code if isinstance(error, EdgelineError) else 2
    server = Server(listener, model, settings)
    threads = [threading.Thread(target=server.serve, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        channel.send(b"+")
        channel.recv(1)  # comes back when the supervisor says so, when it is gone, and on SIGTERM
    except OSError:
        pass  # the supervisor is gone
    server.stop()
    end = time.monotonic() + settings.grace_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        return 1
    model.close()
    return 0
