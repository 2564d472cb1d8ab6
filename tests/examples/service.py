"""The service as a process, and what a client needs to talk to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.examples.conftest import EXAMPLES

FOLDER = EXAMPLES / "python-service"
TIMEOUT_S = 60.0  # for what takes a second on an idle machine


def until(condition: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {TIMEOUT_S:.0f} s for: {what}"
        time.sleep(0.02)
    return found


class Service:
    """`python service.py ARTEFACT`, on a free port."""

    def __init__(self, artefact: Path, *options: object) -> None:
        argv = [sys.executable, FOLDER / "service.py", artefact, "--port", 0, *options]
        self.process = subprocess.Popen([str(arg) for arg in argv], stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def line(self, words: str, after: int = 0) -> str:
        """Wait for a line on stderr, behind the first `after` ones, that holds `words`."""

        def found() -> str:
            lines = [line for line in self.lines[after:] if words in line]
            assert lines or self.process.poll() is None, f"it ended ({self.process.returncode}): {self.lines}"
            return lines[0] if lines else ""

        return str(until(found, f"{words!r} in {self.lines}"))

    def started(self) -> Service:
        """Wait until it serves."""
        match = re.search(r"ready on http://127\.0\.0\.1:(\d+) ", self.line("ready on"))
        assert match is not None
        self.port = int(match.group(1))
        return self

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Return status and record of a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            assert response.getheader("Content-Type") == "application/json"
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def send(self, content: bytes, end: bool = False) -> bytes:
        """Send bytes as they are, and return what comes back until the service closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S) as connection:
            connection.sendall(content)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def worker_that_answers(self) -> int:
        """The process that answered a question after its health."""
        status, record = self.request("GET", "/health")
        assert status == 200
        return int(record["worker"])

    def workers(self) -> set[int]:
        """The processes below this one, from /proc."""
        pid = self.process.pid
        return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self) -> int:
        """Wait for its end; return its exit code."""
        code = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(TIMEOUT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
