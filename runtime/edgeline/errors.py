"""Every error that Edgeline raises on purpose, and the exit code that each becomes.

    EdgelineError                 70  a fault of ours, if nothing below fits
    ├── GateError                  1  an export, a self-test or a comparison did not pass
    ├── InputError                 2  what was asked for cannot be: the message says what can
    │   ├── UnknownNameError          a model, data set, format ... that is in no table
    │   ├── ArtefactError             an artefact folder that is damaged, foreign or unsafe
    │   ├── ShapeError                an array of another shape or dtype than the network takes
    │   └── NotComparableError        two reports that must not be compared
    ├── MissingCapabilityError     3  this machine or environment lacks something: the message says how to get it
    └── ResourceError              4  reading, writing, disk or memory

A message says what was expected, what was found, where, and what to type next. It is one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_GATE = 1
EXIT_INPUT = 2
EXIT_CAPABILITY = 3
EXIT_RESOURCE = 4
EXIT_FAULT = 70
EXIT_INTERRUPTED = 130


class EdgelineError(Exception):
    """The root of the tree. `exit_code` is what a command returns when it meets the error."""

    exit_code = EXIT_FAULT


class GateError(EdgelineError):
    """Something ran to its end and was not good enough: an export, a self-test, a comparison."""

    exit_code = EXIT_GATE


class InputError(EdgelineError):
    """The caller asked for something that cannot be done as asked."""

    exit_code = EXIT_INPUT


class UnknownNameError(InputError):
    """A name that stands in no table; the message offers the nearest ones and lists all."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        super().__init__(f"unknown {kind} '{name}'{hint}; known: {', '.join(names)}")


class ArtefactError(InputError):
    """An artefact folder that cannot be trusted: a missing file, a wrong hash, a path that leaves it."""


class ShapeError(InputError):
    """An array whose shape or dtype is not the one in the manifest."""


class NotComparableError(InputError):
    """Two reports that differ in more than the time they show."""


class MissingCapabilityError(EdgelineError):
    """A package, driver or device is missing; the message names the line that adds it."""

    exit_code = EXIT_CAPABILITY


class ResourceError(EdgelineError):
    """The disk, the memory or a file failed."""

    exit_code = EXIT_RESOURCE
