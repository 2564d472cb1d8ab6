"""The checkpoints of a training run: the last one beside the weights, whole after each epoch, removed at the end.

With `keep`, every epoch's stays as well. They hold tensors, numbers and strings only, so that
torch.load(weights_only=True) reads them. No random state is kept: each epoch seeds itself from (seed, epoch), which is
what makes a resumed run the same as an uninterrupted one.
"""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

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

    def restore(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler
    ) -> None:
        """Put the state back, in place. Raises InputError when it is another version's."""
        try:
            network.load_state_dict(self.network)
            optimizer.load_state_dict(dict(self.optimizer))
            scheduler.load_state_dict(dict(self.scheduler))
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the checkpoint does not fit this network ({reason}); train without --resume") from None


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
        _write(self.last, checkpoint)
        if self.keep:
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = self.folder / f"epoch-{checkpoint.epoch:03}.pt"
            kept.unlink(missing_ok=True)
            try:
                kept.hardlink_to(self.last)  # the last one is replaced, never changed: no second copy is needed
            except OSError:
                shutil.copyfile(self.last, kept)

    def read(self, settings: Mapping[str, Any]) -> Checkpoint | None:
        """Read the last one, if there is one. Raises InputError when it is damaged or of a run of other settings."""
        return read_checkpoint(self.last, settings) if self.last.exists() else None

    def start(self) -> None:
        """Make room for a run that begins: what an earlier one kept does not belong to it."""
        if self.keep and self.folder.is_dir():
            for kept in self.folder.glob("epoch-*.pt"):
                kept.unlink()

    def remove(self) -> None:
        """Remove the last one; what was kept stays."""
        self.last.unlink(missing_ok=True)


def _write(path: Path, checkpoint: Checkpoint) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save({name: getattr(checkpoint, name) for name in Checkpoint.__slots__}, stream)
        except RuntimeError as error:
            # torch's zip writer ends with an error of its own after Python's stream has said what is wrong.
            cause = error.__context__
            if isinstance(cause, OSError):
                raise cause from None
            raise


def read_checkpoint(path: Path, settings: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of a run with these settings. Raises InputError when it is damaged or of another run."""
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**record)
        differing = [key for key in settings if checkpoint.settings.get(key) != settings[key]]
    except (
        AttributeError,
        RuntimeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        EOFError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged ({reason}); remove it, or train without --resume") from None
    if differing:
        found = ", ".join(f"{key} {checkpoint.settings.get(key)} instead of {settings[key]}" for key in differing)
        raise InputError(f"{path} is of a run with other settings ({found}); give the same ones, or leave --resume out")
    return checkpoint
