"""The batch that every engine gets, the artefact's own self-test inputs, and the logits that it must give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.artefact import SELFTEST_FILE
from edgeline.errors import InputError

# Of the largest logit. The export gate has held the form to its source closely; other weights are off by far more.
_TOLERANCE = 0.05


def batch_from_selftest(folder: Path, size: int) -> npt.NDArray[Any]:
    """Return [size, ...] real inputs: the 16 of selftest.npz, cycled."""
    with np.load(folder / SELFTEST_FILE, allow_pickle=False) as archive:
        inputs = archive["inputs"]
    return np.ascontiguousarray(inputs[np.arange(size) % len(inputs)])


def check_output(folder: Path, output: npt.NDArray[Any]) -> None:
    """Raise InputError unless `output` [size, ...] are the logits of the self-test, cycled like its inputs."""
    with np.load(folder / SELFTEST_FILE, allow_pickle=False) as archive:
        logits = archive["logits"]
    expected = logits[np.arange(len(output)) % len(logits)]
    difference = float(np.abs(output - expected).max()) if output.shape == expected.shape else float("inf")
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise InputError(f"this is not the network that {folder.name} holds: its logits differ by {difference:.3g}")
