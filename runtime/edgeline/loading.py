"""edgeline.load: from a folder to a session."""

from __future__ import annotations

from pathlib import Path

from edgeline.artefact import open_artefact
from edgeline.backends import engine_of_format, session_class
from edgeline.session import Session


def load(artefact: str | Path, device: str = "auto", threads: int = 1, engine: str | None = None) -> Session:
    """Open an artefact's folder, check its files, and return a session that is ready to infer.

    `device` is "auto" (the GPU where the engine has one, else the CPU), "cpu" or "cuda"; `threads` is the number of
    CPU threads one call may use; `engine` overrides the one that fits the artefact's format.

    Raises ArtefactError for a damaged artefact, MissingCapabilityError when its engine or device is not here,
    InputError for an unknown device or engine.
    """
    opened = open_artefact(artefact)
    chosen = engine or engine_of_format(opened.manifest.format)
    return session_class(chosen)(opened, device, threads)
