"""What TensorRT says while it works. Its library keeps the first logger of a process, so there is one per module."""

from __future__ import annotations

import threading
from typing import Any

_LOGS: dict[str, Log] = {}
_LOCK = threading.Lock()
_ERROR, _WARNING = 1, 2  # ILogger.Severity: INTERNAL_ERROR 0, ERROR 1, WARNING 2


class Log:
    """The messages of one TensorRT module; `handle` is the ILogger to hand to its Builder and Runtime.

    Only errors and warnings are kept. They are counted from the start of the process: take a mark(), do the work, and
    ask for what came after it.
    """

    def __init__(self, module: Any) -> None:
        self._messages: list[tuple[int, str]] = []
        log = self

        class Logger(module.ILogger):  # type: ignore[misc]  # the base class is known at run time only
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if int(severity) <= _WARNING:
                    log._messages.append((int(severity), " ".join(message.split())))

        self.handle = Logger()

    def mark(self) -> int:
        """Return a place in the log."""
        return len(self._messages)

    def errors_since(self, mark: int) -> list[str]:
        """Return the errors that came after `mark`, each on one line, each once."""
        return list(dict.fromkeys(text for severity, text in self._messages[mark:] if severity <= _ERROR))

    def warnings_since(self, mark: int) -> list[str]:
        """Return the warnings that came after `mark`, each on one line, each once."""
        return list(dict.fromkeys(text for severity, text in self._messages[mark:] if severity == _WARNING))


def log_of(module: Any) -> Log:
    """Return the process's one log for a TensorRT module."""
    with _LOCK:
        if module.__name__ not in _LOGS:
            _LOGS[module.__name__] = Log(module)
        return _LOGS[module.__name__]
