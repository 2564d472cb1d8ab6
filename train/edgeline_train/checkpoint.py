"""The checkpoints of a training run: the last one beside the weights, whole after each epoch, removed at the end.

With `keep`, every epoch's stays as well. They hold tensors, numbers and strings only, so that
torch.load(weights_only=True) reads them. No random state is kept: each epoch seeds itself from (seed, epoch), which is
what makes a resumed run the same as an uninterrupted one.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeline.errors import InputError
from edgeline.files import atomic_path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `epoch` whole epochs. `settings` are what must be the same for the run to go on."""

    epoch: int
    settings: Mapping[str, Any]
    network: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    best: Mapping[str, Any]
    history: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a run keeps its checkpoints: `last`, and each epoch's in `folder` when `keep` is set."""

    last: Path
    keep: bool = False

    @classmethod
    def beside(cls, weights: Path, keep: bool = False) -> Checkpoints:
        """Return those of the run that will write `weights`."""
        return cls(weights.with_suffix(".checkpoint.pt"), keep)

    @property
    def folder(self) -> Path:
        """The folder of the kept ones: `<weights>.checkpoints/`."""
        return self.last.with_suffix("").with_suffix(".checkpoints")

    def write(self, checkpoint: Checkpoint) -> None:
        """Write the last one, whole or not at all, and keep a copy if asked to. Raises OSError."""
        if self.keep:
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = self.folder / f"epoch-{checkpoint.epoch:03}.pt"
            _write(kept, checkpoint)
        _write(self.last, checkpoint)

    def read(self, settings: Mapping[str, Any]) -> Checkpoint | None:
        """Read the last one, if there is one. Raises InputError when it is damaged or of a run of other settings."""
        return read_checkpoint(self.last, settings) if self.last.exists() else None

    def remove(self) -> None:
        """Remove the last one; what was kept stays."""
        self.last.unlink(missing_ok=True)


def _write(path: Path, checkpoint: Checkpoint) -> None:
    with atomic_path(path) as temporary:
        torch.save({name: getattr(checkpoint, name) for name in Checkpoint.__slots__}, temporary)


def read_checkpoint(path: Path, settings: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of a run with these settings. Raises InputError when it is damaged or of another run."""
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**record)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged ({reason}); remove it, or train without --resume") from None
    differing = [key for key in settings if checkpoint.settings.get(key) != settings[key]]
    if differing:
        found = ", ".join(f"{key} {checkpoint.settings.get(key)} instead of {settings[key]}" for key in differing)
        raise InputError(f"{path} is of a run with other settings ({found}); give the same ones, or leave --resume out")
    return checkpoint
