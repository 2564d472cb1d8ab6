"""The history of a training run, `<weights>.history.json`: what each epoch came to, for pictures and tables.

It stands beside the weights and not in them: its times differ from run to run, and the same training must give the
same bytes of weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeline.files import write_atomically
from edgeline_train.models.weights import WeightsInfo

# History of the file's schema:
# 1  2026-11  the first: {schema_version, run: the weights' metadata, epochs: [one record an epoch]}
_SCHEMA_VERSION = 1


def history_path(weights: Path) -> Path:
    """Return where the history of the run that wrote `weights` lies."""
    return weights.with_suffix(".history.json")


def write_history(path: Path, info: WeightsInfo, epochs: Sequence[dict[str, Any]]) -> None:
    """Write it whole or not at all. Raises OSError.

    An epoch's record holds `epoch`, `train_loss` and `train_accuracy` (means over its steps, as the network stood at
    each), `test_loss`, `test_accuracy`, `examples_per_s` of its steps and `time_s` with its evaluation.
    """
    record = {"schema_version": _SCHEMA_VERSION, "run": asdict(info), "epochs": list(epochs)}
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())
