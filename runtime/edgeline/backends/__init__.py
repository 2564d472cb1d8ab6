"""The engines: one module and one Session class each. An engine's package is imported only when asked for.

Adding an engine: its module here, its line in ENGINES, its test.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeline.errors import UnknownNameError

if TYPE_CHECKING:
    from edgeline.session import Session


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine's Session class is, the formats it runs, and how its package is named and installed."""

    session: str
    formats: tuple[str, ...]
    package: str
    install: str


ENGINES = {
    "onnxruntime": Engine(
        session="edgeline.backends.onnxruntime:OnnxRuntimeSession",
        formats=("onnx",),
        package="onnxruntime",
        install="pip install 'edgeline[onnx]'",
    ),
}


def session_class(engine: str) -> type[Session]:
    """Import and return the Session class of `engine`. Raises UnknownNameError when there is no such engine."""
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    module, _, name = ENGINES[engine].session.partition(":")
    found: type[Session] = getattr(importlib.import_module(module), name)
    return found


def engine_of_format(format_name: str) -> str:
    """Return the engine that runs artefacts of a format. Raises UnknownNameError when none does."""
    for name, engine in ENGINES.items():
        if format_name in engine.formats:
            return name
    raise UnknownNameError("artefact format", format_name, [f for e in ENGINES.values() for f in e.formats])
