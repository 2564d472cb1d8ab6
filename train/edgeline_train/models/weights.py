"""Weights on disk: safetensors, with what they are in the header. Written whole, read with suspicion.

The metadata is one JSON text under one key: safetensors keeps its metadata in a hash map of random order, and the same
training must give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeline.errors import InputError, MissingCapabilityError
from edgeline.files import write_atomically
from edgeline_train.models import Model

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_FOLDER = Path("weights")
DEFAULT_RECIPE = "best"
SUFFIX = ".safetensors"
_KEY = "edgeline"
# History of the metadata's schema:
# 1  2026-11  the first
# 2  2026-11  `qat`: null, or what quantisation-aware training learnt; version 1 is read as if it said null
_SCHEMA_VERSION = 2
_READABLE = (1, 2)


@dataclass(frozen=True, slots=True)
class QatRecord:
    """What goes with weights of quantisation-aware training.

    Weights have 2^weight_bits - 1 levels per output channel: whole multiples of the channel's step, which is
    2^(8 - weight_bits) times its step in int8; the largest is top_level(weight_bits) steps of int8. `input` and
    `outputs`, by the path of the module that makes them, are the ends of activations' grids, (low, high): from 0 where
    they are never negative, else symmetric. `float_accuracy` is that of the weights it started from.
    """

    weight_bits: int
    input: tuple[float, float] | None
    outputs: Mapping[str, tuple[float, float]]
    float_accuracy: float


def top_level(weight_bits: int) -> int:
    """Return the largest int8 number among weights of 2 to 8 bits: 127 of 8, 7 * 16 of 4."""
    return 128 - (1 << (8 - weight_bits))


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """What the header says. `accuracy` and `loss` are the test split's, in float32, of the epoch that was kept.

    After quantisation-aware training (`qat`) they are those of the network with its activations rounded too.

    `settings` is all that decided the result (edgeline_train.loop.Run.settings), what overrode the recipe included.
    """

    model: str
    dataset: str
    recipe: str
    seed: int
    mean: float
    std: float
    labels: tuple[str, ...]
    epochs: int
    best_epoch: int
    accuracy: float
    loss: float
    selected_by: str
    settings: Mapping[str, Any]
    qat: QatRecord | None = None
    schema_version: int = _SCHEMA_VERSION


def weights_file_name(model: str, dataset: str, recipe: str, qat_bits: int | None = None) -> str:
    """Return `<model>-<dataset>.safetensors`, with `-<recipe>` behind the data set when it is not the default.

    Weights of quantisation-aware training have `-qat` at the end, with the number of bits where it is not 8.
    """
    qat = "" if qat_bits is None else "-qat" if qat_bits == 8 else f"-qat{qat_bits}"
    return f"{model}-{dataset}{'' if recipe == DEFAULT_RECIPE else f'-{recipe}'}{qat}{SUFFIX}"


def write_weights(path: Path, state: Mapping[str, Tensor], info: WeightsInfo) -> None:
    """Write a state dict and its metadata; the file appears whole or not at all. Raises OSError."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(path, save(tensors, {_KEY: json.dumps(asdict(info))}))


def info_from_weights(path: Path) -> WeightsInfo:
    """Read the metadata alone. Raises InputError when the file is missing, damaged or not one of ours."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"there are no weights at {path}; train-model writes them")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}); train again with train-model") from None
    try:
        record: dict[str, Any] = json.loads(metadata[_KEY])
        if record["schema_version"] not in _READABLE:
            raise InputError(f"{path} has metadata of version {record['schema_version']}, expected {_SCHEMA_VERSION}")
        qat = _qat_from_record(record.get("qat"))
        read = {"labels": tuple(record["labels"]), "qat": qat, "schema_version": _SCHEMA_VERSION}
        return WeightsInfo(**{**record, **read})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} was not written by train-model: its metadata lacks or misnames {error}") from None


def _qat_from_record(record: dict[str, Any] | None) -> QatRecord | None:
    """JSON has lists where the record has pairs."""
    if record is None:
        return None
    ends = None if record["input"] is None else _pair(record["input"])
    return QatRecord(**{**record, "input": ends, "outputs": {k: _pair(v) for k, v in record["outputs"].items()}})


def _pair(values: list[float]) -> tuple[float, float]:
    low, high = values
    return low, high


def load_weights(path: Path, network: nn.Module, model: Model) -> WeightsInfo:
    """Load the file into `network`, in place. Raises InputError when it is damaged or belongs to another model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    info = info_from_weights(path)
    if info.model != model.name:
        raise InputError(f"{path} holds weights of '{info.model}', not of '{model.name}'; name others with --weights")
    try:
        network.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); train again with train-model {model.name}") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path} does not fit this version of '{model.name}': {reason}") from None
    return info


def find_weights(model: Model, given: Path | None, dataset: str | None = None) -> Path:
    """Return the weights file of a model: `given` if that is a file, else the only one that fits in the folder.

    Raises InputError when there is none (naming the command that trains it) or several (listing them).
    """
    if given is not None and not given.is_dir():
        info_from_weights(given)
        return given
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise MissingCapabilityError(f"safetensors does not import ({error}): pip install 'edgeline[train]'") from None
    folder = given or DEFAULT_FOLDER
    fitting = []
    for path in sorted(folder.glob(f"{model.name}-*{SUFFIX}")):
        info = info_from_weights(path)
        if info.model == model.name and dataset in (None, info.dataset):
            fitting.append(path)
    train = f"train-model {model.name}" + (f" --dataset {dataset}" if dataset else "")
    if not fitting:
        where = f" for {dataset}" if dataset else ""
        raise InputError(f"there are no weights of '{model.name}'{where} in {folder}; make them with: {train}")
    if len(fitting) > 1:
        raise InputError(
            f"several weights of '{model.name}' fit: {', '.join(map(str, fitting))}; choose one with --weights FILE"
        )
    return fitting[0]
