"""The artefact's folder: the one place that writes it, whole or not at all."""

from __future__ import annotations

import datetime
import importlib.metadata
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.artefact import Artefact, open_artefact
from edgeline.errors import InputError
from edgeline.files import atomic_folder, sha256_of_file
from edgeline.manifest import FILE_NAME, FileEntry, Manifest

SELFTEST_SAMPLES = 16


def artefact_folder_name(name: str, dataset: str | None, precision: str, format_name: str, target: str = "") -> str:
    """Return `<model>-<dataset>.<precision>.<format>`, without the data set where there is none.

    A chosen target stands behind it, as in `@sm89-sm120`.
    """
    return f"{name}{f'-{dataset}' if dataset else ''}.{precision}.{format_name}{f'@{target}' if target else ''}"


def write_artefact(
    folder: Path,
    draft: Manifest,
    files: Mapping[str, bytes],
    finish: Callable[[Artefact], tuple[Manifest, Mapping[str, bytes]]],
) -> Artefact:
    """Write `files` beside `folder`, let `finish` judge them there, add what it returns, and put all in place at once.

    `finish` gets the unfinished artefact (its manifest is a draft that lists `files`), and returns the final manifest
    and further files; what it raises leaves `folder` as it was. The manifest is written last.
    """
    if folder.exists() and not (folder / FILE_NAME).is_file():
        raise InputError(
            f"{folder} is there already and is no artefact; move it away, or name another place with --out"
        )
    with atomic_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        manifest, more = finish(Artefact(temporary, replace(draft, files=_entries(temporary))))
        for name, content in more.items():
            (temporary / name).write_bytes(content)
        (temporary / FILE_NAME).write_text(replace(manifest, files=_entries(temporary)).to_json(), encoding="utf-8")
    return open_artefact(folder)


def selftest_bytes(inputs: npt.NDArray[Any], logits: npt.NDArray[Any], tolerance: float) -> bytes:
    """Return selftest.npz: `inputs` [n, ...], `logits` [n, ...] and the absolute `tolerance` of a logit."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=inputs, logits=logits, tolerance=np.float64(tolerance))
    return buffer.getvalue()


def now_utc() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions_of(*distributions: str) -> dict[str, str]:
    """Return the installed versions of those distributions that are installed."""
    found = {}
    for name in ("edgeline", "numpy", *distributions):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _entries(folder: Path) -> dict[str, FileEntry]:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: FileEntry(sha256_of_file(path), path.stat().st_size) for path in paths}
