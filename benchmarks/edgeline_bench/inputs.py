"""The batch that every engine gets: the artefact's own self-test inputs, repeated up to the batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from edgeline.artefact import SELFTEST_FILE


def batch_from_selftest(folder: Path, size: int) -> npt.NDArray[Any]:
    """Return [size, ...] real inputs: the 16 of selftest.npz, cycled."""
    with np.load(folder / SELFTEST_FILE, allow_pickle=False) as archive:
        inputs = archive["inputs"]
    return np.ascontiguousarray(inputs[np.arange(size) % len(inputs)])
