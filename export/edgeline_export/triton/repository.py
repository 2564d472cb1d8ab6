"""A model repository on disk: DIR/<model>/config.pbtxt and DIR/<model>/<version>/<files>.

Triton takes every folder in DIR for a model, hidden ones too, and does not start when one of them is none
(ModelRepositoryManager::Poll of triton-inference-server/core). A new model is therefore put together beside DIR and
moved into it in one step. In a model's folder Triton takes what is named like a number for a version and passes over
the rest: a new version is put together there, under a name with a dot.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeline.artefact import Artefact
from edgeline.command import note
from edgeline.errors import InputError
from edgeline.files import atomic_folder, sha256_of_file, write_atomically
from edgeline.manifest import Manifest
from edgeline_export.triton.config import LABELS_FILE, model_config
from edgeline_export.triton.rules import check_config
from edgeline_export.triton.schema import config_from_text, schema, text_of

CONFIG_FILE = "config.pbtxt"
_VERSION = re.compile(r"[1-9]\d{0,17}", re.ASCII)  # Triton reads 64 bits, and ignores what begins with 0
_SEAL = "# Written by export-model, which replaces it as long as this is the sha256 of what follows: "
_SEALED = re.compile(rf"{re.escape(_SEAL)}([0-9a-f]{{64}})\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an artefact lies in a repository. `is_new` is false where the newest version had the same bytes already."""

    repository: Path
    model: str
    version: int
    is_new: bool

    @property
    def folder(self) -> Path:
        """The version's folder."""
        return self.repository / self.model / str(self.version)

    def to_record(self) -> dict[str, Any]:
        """Return what --json prints: `repository`, `model`, `version`, `path` and `is_new`."""
        return asdict(self) | {"repository": str(self.repository), "path": str(self.folder)}


def place(artefact: Artefact, manifest: Manifest, files: Mapping[str, Path], repository: Path) -> Placed:
    """Put the files of an artefact into a repository as the model's next version, with its configuration.

    `manifest` is the artefact's, or one with another name for the model; `files` maps the names in the version's
    folder to files. Raises InputError where `repository` holds the model with another interface, and OSError where it
    cannot be written; nothing that Triton would load is left then.
    """
    config = model_config(manifest)
    check_config(config, config.name, files)
    labels = _labels_text(manifest)
    repository.mkdir(parents=True, exist_ok=True)
    with _alone_in(repository):
        folder = repository / config.name
        if not folder.exists() or not any(folder.iterdir()):
            _write_model(folder, config, labels, files)
            return Placed(repository, config.name, 1, True)
        _renew_config(folder, config, labels, f"export-model {artefact.folder} --triton-repository")
        newest = max(_versions(folder), default=0)
        if newest and _same(folder / str(newest), files):
            return Placed(repository, config.name, newest, False)
        with atomic_folder(folder / str(newest + 1)) as version:
            _copy(files, version)
        return Placed(repository, config.name, newest + 1, True)


def _write_model(folder: Path, config: Any, labels: str | None, files: Mapping[str, Path]) -> None:
    with atomic_folder(folder, beside=_staging(folder)) as temporary:
        (temporary / "1").mkdir()
        _copy(files, temporary / "1")
        if labels is not None:
            (temporary / LABELS_FILE).write_text(labels, encoding="utf-8")
        (temporary / CONFIG_FILE).write_text(_sealed(config), encoding="utf-8")


def _staging(folder: Path) -> Path:
    """Return beside what a new model is put together: the repository, else, where that cannot be, the model."""
    repository = folder.parent.resolve()
    beside = repository.parent
    if os.access(beside, os.W_OK | os.X_OK) and beside.stat().st_dev == repository.stat().st_dev:
        return beside / f"{repository.name}.{folder.name}"
    return folder


def _renew_config(folder: Path, config: Any, labels: str | None, command: str) -> None:
    """Bring the configuration of a model that is there up to date, unless somebody has edited it.

    Raises InputError where it does not describe what `config` describes: its older versions would not load with it.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise InputError(
            f"{folder} is there already and has no {CONFIG_FILE}; move it away, or name another model: "
            f"{command} {folder.parent} --name OTHER"
        )
    text = path.read_text(encoding="utf-8")
    found = config_from_text(text, path)
    differences = [
        f"{what} {_short(there)} there, {_short(here)} here"
        for what, there, here in (
            ("name", found.name or folder.name, config.name),
            ("backend", found.backend, config.backend),
            ("max_batch_size", found.max_batch_size, config.max_batch_size),
            ("input", _interface(found.input), _interface(config.input)),
            ("output", _interface(found.output), _interface(config.output)),
            ("labels", _text_or_none(folder / LABELS_FILE), labels),
        )
        if there != here
    ]
    if differences:
        raise InputError(
            f"{folder} serves another interface ({'; '.join(differences)}), which its versions keep; name another "
            f"repository or another model: {command} OTHER, or {command} {folder.parent} --name OTHER"
        )
    wanted = _sealed(config)
    if text == wanted:
        return
    if not _is_ours(text):
        note(f"{path} was edited and is kept; move it away to get another")
        return
    write_atomically(path, wanted)


def _interface(tensors: Any) -> list[tuple[str, str, list[int]]]:
    name_of = schema().DataType.Name
    return [(tensor.name, name_of(tensor.data_type), list(tensor.dims)) for tensor in tensors]


def _short(value: object) -> str:
    text = str(value).replace("\n", " ").strip()
    return text if len(text) <= 120 else f"{text[:117]}..."


def _sealed(config: Any) -> str:
    text = text_of(config)
    return f"{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def _is_ours(text: str) -> bool:
    match = _SEALED.fullmatch(text)
    return match is not None and hashlib.sha256(match[2].encode()).hexdigest() == match[1]


def _versions(folder: Path) -> list[int]:
    return [int(entry.name) for entry in folder.iterdir() if _VERSION.fullmatch(entry.name)]


def _same(version: Path, files: Mapping[str, Path]) -> bool:
    if not version.is_dir() or {entry.name for entry in version.iterdir()} != set(files):
        return False
    return all(sha256_of_file(version / name) == sha256_of_file(path) for name, path in files.items())


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    for name, path in files.items():
        shutil.copyfile(path, folder / name)


def _labels_text(manifest: Manifest) -> str | None:
    """Return the text of labels.txt, a label a line; None without labels. Raises InputError where one has lines."""
    if manifest.labels is None:
        return None
    if broken := [label for label in manifest.labels if len(label.splitlines()) > 1 or label.endswith("\n")]:
        raise InputError(f"Triton's {LABELS_FILE} has a line for each class; the label {broken[0]!r} has several")
    return "".join(f"{label}\n" for label in manifest.labels)


def _text_or_none(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


@contextmanager
def _alone_in(repository: Path) -> Iterator[None]:
    """Let one export at a time choose a version. The kernel lets go of the lock when the process ends."""
    descriptor = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
