"""Ctrl-C and SIGTERM (kill, a container that stops), made safe around code that does not expect them.

Both raise KeyboardInterrupt in a command, so that it cleans up. Two things get in the way, both seen: packages with C
parts crash, or go on half-loaded, when that happens while they are imported, so imports hold it back; and libraries
with broad `except` clauses turn it into an error of their own, or swallow it, so a command asks afterwards.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class _State:
    seen: bool = False
    held: bool = False


_state = _State()


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt; put the handlers back at the end.

    A SIGINT that is ignored stays ignored (a shell's background job). Outside the main thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.seen = _state.held = False
    handlers = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        handlers[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _state.seen = _state.held = False


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold an interrupt back until the end of the block, which should take no more than seconds."""
    _state.held = True
    try:
        yield
    finally:
        _state.held = False
    if _state.seen:
        raise KeyboardInterrupt


@contextlib.contextmanager
def deferred() -> Iterator[list[int]]:
    """Put SIGINT and SIGTERM off to the end of the block, and yield the list of those that came.

    For native code that calls back into Python and swallows what is raised there: an interrupt would be lost. The block
    may look at the list and end early. Outside the main thread this does nothing: signals do not come there.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in before.items() if callable(handler)}
    for theirs in ours:
        signal.signal(theirs, lambda received, _frame: came.append(received))
    try:
        yield came
    finally:
        for theirs, handler in ours.items():
            signal.signal(theirs, handler)
        for received in dict.fromkeys(came):
            ours[signal.Signals(received)](received, None)


def seen() -> bool:
    """Say whether an interrupt came since `caught()` began, whatever became of it."""
    return _state.seen


def _interrupt(_number: int, _frame: object) -> None:
    _state.seen = True
    if not _state.held:
        raise KeyboardInterrupt
