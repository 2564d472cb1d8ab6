"""The history of a training run, `<weights>.history.json`: what each epoch came to, for pictures and tables.

It stands beside the weights and not in them: its times differ from run to run, and the same training must give the
same bytes of weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeline.errors import InputError
from edgeline.files import write_atomically
from edgeline_train.models.weights import WeightsInfo

# History of the file's schema:
# 1  2026-11  the first: {schema_version, run: the weights' metadata, machine, epochs: [one record an epoch], confusion}
_SCHEMA_VERSION = 1
_FIGURES = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "examples_per_s", "time_s")


@dataclass(frozen=True, slots=True)
class History:
    """What the file holds: the metadata of the weights that the run gave, and a record for each epoch.

    `confusion` counts the test split's examples by true class (row) and prediction, for the kept epoch; `machine` is
    edgeline_train.machine's record.
    """

    run: Mapping[str, Any]
    machine: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    confusion: Sequence[Sequence[int]]


def history_path(weights: Path) -> Path:
    """Return where the history of the run that wrote `weights` lies."""
    return weights.with_suffix(".history.json")


def write_history(
    path: Path,
    info: WeightsInfo,
    machine: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    confusion: Sequence[Sequence[int]],
) -> None:
    """Write it whole or not at all. Raises OSError.

    An epoch's record holds `epoch`, `train_loss` and `train_accuracy` (means over its steps, as the network stood at
    each), `test_loss`, `test_accuracy`, `examples_per_s` of its steps and `time_s` with its evaluation.
    """
    record = {
        "schema_version": _SCHEMA_VERSION,
        "run": asdict(info),
        "machine": dict(machine),
        "epochs": list(epochs),
        "confusion": [list(row) for row in confusion],
    }
    write_atomically(path, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_history(path: Path) -> History:
    """Read it. Raises InputError when it is missing, damaged, of another version, or no history."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no history at {path}; train-model writes it beside the weights") from None
    except ValueError as error:  # no JSON, or no text
        raise InputError(f"{path} is damaged ({error}); train again with train-model") from None
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version is None:
        raise InputError(f"{path} is no history of a training run: it has no schema_version")
    if version != _SCHEMA_VERSION:
        raise InputError(f"{path} is a history of version {version}, expected {_SCHEMA_VERSION}; train again")
    run, machine, epochs, confusion = (record.get(key) for key in ("run", "machine", "epochs", "confusion"))
    if not (isinstance(run, dict) and isinstance(machine, dict) and isinstance(epochs, list) and confusion):
        raise InputError(f"{path} is damaged: it lacks run, machine, epochs or confusion; train again with train-model")
    for number, epoch in enumerate(epochs, 1):
        for figure in _FIGURES:
            value = epoch.get(figure) if isinstance(epoch, dict) else None
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise InputError(f"{path} is damaged: {figure} of its record {number} is no number; train again")
    return History(run, machine, epochs, confusion)
