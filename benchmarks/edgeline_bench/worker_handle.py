"""The parent's side of a worker: start it, give it turns, keep it stopped in between, and be rid of it for certain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any

from edgeline import errors
from edgeline_bench.points import Point

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerHandle:
    """One worker process. It runs only during `ask`; at all other times it is stopped (SIGSTOP)."""

    def __init__(self, point: Point) -> None:
        """Start the process and wait until it has run its batch once.

        Raises what the engine raised: an EdgelineError of the same class, or EdgelineError with its words.
        """
        self.point = point
        environment = {
            **os.environ,
            **{name: str(point.threads) for name in _THREAD_VARIABLES},
            "PYTHONSAFEPATH": "1",  # `python -m` would import from the current folder before all else
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        # A profiler's temporary files are as large as the network: they go with the worker, however it ends.
        self._scratch = tempfile.TemporaryDirectory(prefix="edgeline-")
        environment["TMPDIR"] = self._scratch.name
        spec = {**point.spec(), "spawned_at": time.monotonic()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeline_bench.worker", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its workers itself
        )
        try:
            self.ready: dict[str, Any] = self._answer()["ready"]
            self._signal(signal.SIGSTOP)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, order: str, **arguments: Any) -> dict[str, Any]:
        """Let the worker carry out an order of edgeline_bench.worker and return its answer."""
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": order, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the worker died: _answer says why
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        """End the process, stopped or not."""
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def __enter__(self) -> WorkerHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise errors.ResourceError(
                f"the worker of {self.point.title} ended without an answer ({_ending(code)}){self._last_words()}"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            # An UnknownNameError makes its own message from other arguments: its parent carries the words as they are.
            kind = getattr(errors, answer["kind"].replace("UnknownNameError", "InputError"))
            raise kind(f"{self.point.title}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _ending(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"exit code {code}"
