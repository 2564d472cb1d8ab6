"""From an artefact to a Triton repository: what is refused before a long export, which files are served, the writing.

An artefact that its gate did not pass does not exist, so nothing is judged again here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeline.artefact import Artefact
from edgeline.command import note
from edgeline.cuda import gpu
from edgeline.errors import InputError, MissingCapabilityError
from edgeline.manifest import FILE_NAME, BatchRange
from edgeline.tensorrt.plans import ready_plan
from edgeline.tensorrt.products import PRODUCTS, load_product
from edgeline_export.triton.config import BACKENDS, remarks
from edgeline_export.triton.repository import Placed, place
from edgeline_export.triton.schema import need_schema

_PLAN = PRODUCTS["trt"].plan_file


def check_request(format_name: str, repository: Path, no_engine: str = "") -> None:
    """Refuse what cannot be served, before the work. `no_engine` says why an engine is left to the device.

    Raises InputError for a format that Triton does not serve, or for an artefact's folder, MissingCapabilityError
    without its schema or without a plan for it, and OSError where the repository cannot be written.
    """
    if format_name not in BACKENDS:
        known = list(BACKENDS)
        takers = f"{', '.join(known[:-1])} and {known[-1]}"
        raise InputError(f"--triton-repository is for --format {takers}, not for {format_name}; leave it out")
    need_schema()
    if format_name == "trt" and no_engine:
        raise MissingCapabilityError(
            f"Triton needs {_PLAN}, the artefact would be written {no_engine}; run this on the device with the GPU, "
            "or leave --triton-repository out and type there edgeline build ARTEFACT, then export-model ARTEFACT "
            "--triton-repository DIR"
        )
    if (repository / FILE_NAME).is_file():
        raise InputError(f"{repository} is an artefact; name another folder for the repository")
    _check_place(repository)


def check_batch(format_name: str, batch: BatchRange, input_shape: tuple[int, ...]) -> None:
    """Refuse an engine whose smallest batch is above 1, unless its graph fixes the batch: Triton sends any size."""
    if format_name == "trt" and input_shape[0] == -1 and batch.min > 1:
        raise InputError(
            f"Triton sends batches from 1, and an engine for {batch.min} to {batch.max} refuses those below "
            f"{batch.min}; export it with --batch 1:{batch.opt}:{batch.max}"
        )


def serve(artefact: Artefact, repository: Path, name: str | None = None) -> Placed:
    """Put an artefact into a repository, under its own name or `name`; say on stderr what Triton does not keep.

    Raises what check_request and edgeline_export.triton.repository.place raise, and MissingCapabilityError where an
    engine of `trt` has not been built on this machine.
    """
    manifest = artefact.manifest if name is None else replace(artefact.manifest, name=name)
    check_request(manifest.format, repository)
    check_batch(manifest.format, manifest.batch, manifest.inputs[0].shape)
    placed = place(artefact, manifest, _files(artefact), repository)
    for remark in remarks(manifest):
        note(remark)
    return placed


def _files(artefact: Artefact) -> Mapping[str, Path]:
    """Return the files of a version by the names that Triton knows them under."""
    if artefact.manifest.format == "trt" and _PLAN not in artefact.manifest.files:
        return {_PLAN: _plan_of_device(artefact)}
    return {name: artefact.file(name) for name in BACKENDS[artefact.manifest.format].files}


def _plan_of_device(artefact: Artefact) -> Path:
    """Return the plan that edgeline build has made, tested and cached on this machine."""
    found = gpu()
    if found is None:
        raise MissingCapabilityError(
            f"{artefact.folder} has no {_PLAN}, and no NVIDIA GPU is here to have built one: on the device with the "
            f"GPU, edgeline build {artefact.folder}, then this command"
        )
    return ready_plan(artefact, load_product("trt"), found)


def _check_place(repository: Path) -> None:
    """Raise the OSError of a repository that cannot be made or written."""
    place = repository
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
