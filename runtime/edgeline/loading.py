"""edgeline.load: from a folder to a session."""

from __future__ import annotations

from pathlib import Path

from edgeline.artefact import Artefact, open_artefact
from edgeline.backends import choose_engine, session_class
from edgeline.errors import InputError
from edgeline.session import Session

BUILDS = ("never", "missing")


def load(
    artefact: str | Path | Artefact,
    device: str = "auto",
    threads: int = 1,
    engine: str | None = None,
    build: str = "never",
) -> Session:
    """Open an artefact's folder (or take one that is open), check its files, and return a session, ready to infer.

    `device` is "auto" (the GPU where the engine has one, else the CPU), "cpu" or "cuda"; `threads` is the number of
    CPU threads one call may use; `engine` overrides the one that fits the artefact's format: "onnxruntime" runs the
    graph that artefacts of the other formats keep. An engine that this machine has yet to build is an error, unless
    `build` is "missing": it is then built, tested and cached first, which can take minutes. One that is there is not
    tested again, unlike by `edgeline build`.

    Raises ArtefactError for a damaged artefact, MissingCapabilityError when its engine or device is not here,
    InputError for an unknown device, engine or value of `build`, or an engine that does not run the format; with
    build="missing" also what edgeline.tensorrt.building.build_missing raises.
    """
    if build not in BUILDS:
        raise InputError(f"build must be {' or '.join(map(repr, BUILDS))}, got {build!r}")
    opened = artefact if isinstance(artefact, Artefact) else open_artefact(artefact)
    chosen = choose_engine(opened.manifest.format, engine)
    if build == "missing" and chosen == "tensorrt" and device != "cpu":
        from edgeline.tensorrt.building import build_missing

        build_missing(opened)
    return session_class(chosen)(opened, device, threads)
