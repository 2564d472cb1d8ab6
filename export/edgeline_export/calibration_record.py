"""calibration.json: what calibration saw of each activation, kept in the artefact for people and for other tools."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.calibration import Calibration
from edgeline_export.ranges import BINS, TensorRange

# History of the schema:
# 1  2026-11  the first
SCHEMA_VERSION = 1
CALIBRATION_FILE = "calibration.json"
_KEPT_BINS = 128


def calibration_json(calibration: Calibration, quantised: frozenset[str]) -> str:
    """Return the record as JSON, one tensor a line: range, threshold, and a histogram of 128 bins.

    The threshold is null for tensors that are not among `quantised`.
    """
    cut = calibration.activation_ranges()
    head = {"schema_version": SCHEMA_VERSION, **{k: v for k, v in calibration.to_record().items() if k != "cache"}}
    lines = [
        json.dumps({"name": name, **_record(seen), "threshold": cut[name].threshold if name in quantised else None})
        for name, seen in calibration.ranges.items()
    ]
    tensors = ",\n    ".join(lines)
    return f'{json.dumps(head, indent=2)[:-2]},\n  "tensors": [\n    {tensors}\n  ]\n}}\n'


def histogram(seen: TensorRange) -> tuple[float, float, npt.NDArray[np.int64]]:
    """Return the histogram over what was seen alone: its two ends and the counts of 128 bins between them."""
    width = 2 * seen.limit / BINS
    if width == 0.0:
        return seen.smallest, seen.largest, np.array([seen.counts.sum()])
    first, last = (int(np.clip((value + seen.limit) / width, 0, BINS - 1)) for value in (seen.smallest, seen.largest))
    kept = seen.counts[first : last + 1]
    group = np.arange(len(kept)) * min(_KEPT_BINS, len(kept)) // len(kept)
    counts = np.bincount(group, weights=kept).astype(np.int64)
    return first * width - seen.limit, (last + 1) * width - seen.limit, counts


def _record(seen: TensorRange) -> dict[str, Any]:
    low, high, counts = histogram(seen)
    return {
        "min": seen.smallest,
        "max": seen.largest,
        "histogram": {"low": low, "high": high, "counts": counts.tolist()},
    }
