"""One request: limits, routes, and JSON for every answer, errors included. A connection serves one request."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import time
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from edgeline.errors import EdgelineError, InputError
from edgeline.images import pixels_from_pgm

if TYPE_CHECKING:
    from worker import Server

METHODS = {"/classify": "POST", "/health": "GET"}


class RefusedError(Exception):
    """A request that gets an error, with its status."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class TimedStream(io.RawIOBase):
    """A socket's bytes until a deadline for all of them: a timeout for each alone lets a client send one an hour."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come. Raises TimeoutError after the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """POST /classify takes a .pgm and gives a class; GET /health gives the self-test's result."""

    server: Server
    default_request_version = "HTTP/1.1"  # what is no HTTP gets an answer with a head, too
    protocol_version = "HTTP/1.1"  # for clients that ask before they send a body (Expect: 100-continue)

    def setup(self) -> None:
        """Put the deadline around what is read."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(TimedStream(self.connection, self.server.settings.request_s))
        self._unread = True  # whether the client may still be sending

    def finish(self) -> None:
        """End the connection so that an answer which came before the request's end is read by the client."""
        super().finish()
        if self._unread:  # closing now would reset the connection, and drop the answer on its way
            end = time.monotonic() + 1.0
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                self.connection.settimeout(1.0)
                while time.monotonic() < end and self.connection.recv(1 << 16):
                    pass

    def answer(self) -> None:
        """Answer any method of any path."""
        path = self.path.partition("?")[0]
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            if path not in METHODS:
                raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no {path}; there are {', '.join(METHODS)}")
            if self.command != METHODS[path]:
                raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {METHODS[path]}")
            if path == "/health":
                health = self.server.model.health()
                self._reply(HTTPStatus.OK if health["status"] == "ok" else HTTPStatus.SERVICE_UNAVAILABLE, health)
            else:
                self._reply(HTTPStatus.OK, self.server.model.classify(pixels_from_pgm(self._body(), "the body")))
        except RefusedError as refused:
            self._reply(refused.status, {"error": str(refused)})
        except InputError as error:
            self._reply(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except EdgelineError as error:
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})
        except OSError:
            raise  # the client is gone
        except Exception:  # noqa: BLE001 - a fault of ours is an answer too
            traceback.print_exc()
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "a fault of the service; its log says more"})

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 - http.server's

    def _body(self) -> bytes:
        limit, length = self.server.settings.max_body_bytes, self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not length:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send the image with its Content-Length")
        if not (length.isascii() and length.isdecimal()):
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"Content-Length is '{length[:20]}'")
        if len(length) > 18 or int(length) > limit:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{length[:20]} bytes, {limit} are allowed")
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            seconds = self.server.settings.request_s
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {seconds:g} s") from None
        if len(body) < int(length):
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"the body ended after {len(body)} of {length} bytes")
        self._unread = False
        return body

    def _reply(self, status: HTTPStatus, record: Mapping[str, Any]) -> None:
        content = json.dumps(record).encode() + b"\n"
        self.connection.settimeout(self.server.settings.request_s)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", METHODS[self.path.partition("?")[0]])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what http.server itself refuses (a request that is no HTTP, a line that is too long) in JSON too."""
        self._reply(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def version_string(self) -> str:
        """Return the header Server's value."""
        return "edgeline-service"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """No line for each request: a device's log is small, and flash memory wears."""
