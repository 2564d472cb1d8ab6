"""Calibration: the ranges of a network's activations, from the cache where the very same were collected before.

The key of the cache is a hash of everything the ranges depend on: the graph, the samples, the preprocessing, the
method, and the versions of what computes them. So a stale entry cannot be found; a damaged one is collected anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from edgeline.cache import cache_folder, read_checked, write_checked
from edgeline.command import note
from edgeline.errors import GateError
from edgeline_export.calibration_data import CalibrationData
from edgeline_export.graph import inputs_of
from edgeline_export.half import LARGEST_ACTIVATION
from edgeline_export.learnt import Learnt
from edgeline_export.quantise import ActivationRange
from edgeline_export.ranges import RangeCollector, TensorRange
from edgeline_export.runner import GraphRunner
from edgeline_export.writer import versions_of

# Raised when the same samples would give other ranges than before.
_REVISION = 1
_NOTE_EVERY = 8  # batches
_VERSIONS = ("onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Calibration:
    """The ranges of all float activations, by tensor name in the graph's order, and how they came about.

    Those that quantisation-aware training fixed (`learnt`) come before what the method makes of the others.
    """

    ranges: Mapping[str, TensorRange]
    input_name: str
    data: CalibrationData
    method: str
    key: str
    cache: str
    learnt: Learnt | None = None

    def activation_ranges(self) -> dict[str, ActivationRange]:
        """Return each range as the method cuts it. What comes in from outside is not the method's to cut."""
        cut = {
            name: ActivationRange(
                seen.magnitude if name == self.input_name else seen.threshold(self.method), seen.smallest >= 0.0
            )
            for name, seen in self.ranges.items()
        }
        return cut if self.learnt is None else {**cut, **self.learnt.ranges}

    def to_record(self) -> dict[str, object]:
        """Return the manifest's record."""
        return {
            "dataset": self.data.dataset,
            "split": self.data.split,
            "samples": len(self.data),
            "seed": self.data.seed,
            "method": self.method if self.learnt is None else "qat",
            "key": self.key,
            "cache": self.cache,
            "learnt": None if self.learnt is None else self._learnt_record(self.learnt),
        }

    def _learnt_record(self, learnt: Learnt) -> dict[str, object]:
        return {"weight_bits": learnt.weight_bits, "tensors": list(learnt.ranges), "others": self.method}


def calibrate(model: onnx.ModelProto, data: CalibrationData, method: str) -> Calibration:
    """Collect the range of every float activation of a folded float32 graph, or take it from the cache.

    Raises GateError when an activation is not finite.
    """
    key = _key(model, data, method)
    path = cache_folder("calibration") / f"{key}.npz"
    cached = read_checked(path)
    if cached is not None:
        note(f"calibration on {len(data)} samples of {data.dataset}, {method}: cache hit ({key[:12]})")
        return Calibration(_ranges_from_bytes(cached), model.graph.input[0].name, data, method, key, "hit")
    note(f"calibration on {len(data)} samples of {data.dataset}, {method}: cache miss ({key[:12]})")
    ranges = _collect(model, data)
    write_checked(path, _bytes_from_ranges(ranges))
    return Calibration(ranges, model.graph.input[0].name, data, method, key, "miss")


def check_fits_half(calibration: Calibration) -> None:
    """Raise GateError, naming the activation, when one comes too near to where float16 ends."""
    for name, seen in calibration.ranges.items():
        if seen.magnitude > LARGEST_ACTIVATION:
            raise GateError(
                f"the activation '{name}' reaches {seen.magnitude:,.0f} on {calibration.data.dataset}; float16 ends at "
                f"65,504, and {LARGEST_ACTIVATION:,.0f} is what an export may use of it; nothing was written"
            )


def _key(model: onnx.ModelProto, data: CalibrationData, method: str) -> str:
    parts = {
        "revision": _REVISION,
        "graph": hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
        "samples": data.digest(),
        "preprocessing": None if data.preprocessing is None else asdict(data.preprocessing),
        "method": method,
        "versions": versions_of(*_VERSIONS),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _collect(model: onnx.ModelProto, data: CalibrationData) -> dict[str, TensorRange]:
    names = _float_activations(model.graph)
    if not names:
        return {}
    runner = GraphRunner(model, names)
    collectors = {name: RangeCollector(name) for name in names}
    batches = _batches(data, inputs_of(model)[0].shape[0])
    for number, batch in enumerate(batches):
        for name, values in zip(names, runner.tensors(names, data.network_input(batch)), strict=True):
            collectors[name].add(values)
        if number and number % _NOTE_EVERY == 0:
            note(f"  {number} of {len(batches)} batches")
    return {name: collector.result() for name, collector in collectors.items()}


def _batches(data: CalibrationData, size: int) -> list[npt.NDArray[Any]]:
    """Cut the samples into batches; where the graph fixes their size, the last one is filled up from the first."""
    if size == -1:
        return data.batches()
    batches = data.batches(size)
    missing = size - len(batches[-1])
    if missing:
        batches[-1] = np.concatenate([batches[-1], np.resize(data.array, (missing, *data.array.shape[1:]))])
    return batches


def _float_activations(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Return the float32 inputs and every float32 tensor that a node makes, in order."""
    weights = {tensor.name for tensor in graph.initializer}
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]}
    names = [value.name for value in graph.input] + [name for node in graph.node for name in node.output]
    return tuple(name for name in names if name not in weights and kinds.get(name) == TensorProto.FLOAT)


def _bytes_from_ranges(ranges: Mapping[str, TensorRange]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(list(ranges)),
        extent=np.array([(seen.smallest, seen.largest, seen.limit) for seen in ranges.values()], np.float64),
        counts=np.array([seen.counts for seen in ranges.values()], np.int64),
    )
    return buffer.getvalue()


def _ranges_from_bytes(content: bytes) -> dict[str, TensorRange]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {
            str(name): TensorRange(float(smallest), float(largest), float(limit), counts)
            for name, (smallest, largest, limit), counts in zip(
                arrays["names"], arrays["extent"], arrays["counts"], strict=True
            )
        }
