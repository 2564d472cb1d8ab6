"""What Triton asks of a configuration beyond its schema: names, sizes and dimensions that fit each other.

After ValidateModelConfig and ValidateModelIOConfig of triton-inference-server/core (src/model_config_utils.cc), for the
fields that are written here. The server checks more when it loads the model itself.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeline.errors import InputError
from edgeline_export.triton.config import NAME


def check_config(config: Any, folder_name: str, version_files: Collection[str]) -> None:
    """Raise InputError that lists every rule that a ModelConfig breaks, for its folder and the files of a version."""
    broken = [
        *_names(config, folder_name),
        *_tensors(config),
        *_batching(config),
        *_files(config, version_files),
    ]
    if broken:
        raise InputError(f"Triton would not load {folder_name}: {'; '.join(broken)}")


def _names(config: Any, folder_name: str) -> list[str]:
    broken = []
    if not NAME.fullmatch(config.name):
        broken.append(f"the name '{config.name}' has other characters than letters, digits, '.', '_' and '-'")
    if config.name != folder_name:
        broken.append(f"the name '{config.name}' is not that of its folder")
    if not config.backend and not config.platform:
        broken.append("it names no backend")
    return broken


def _tensors(config: Any) -> list[str]:
    if not config.input or not config.output:
        return ["it needs an input and an output"]
    broken = []
    for tensor in (*config.input, *config.output):
        if not tensor.name:
            broken.append("an input or output has no name")
        if not tensor.data_type:
            broken.append(f"'{tensor.name}' has no data type")
        if not tensor.dims:
            broken.append(f"'{tensor.name}' has no dimension besides the batch")
        if any(size == 0 or size < -1 for size in tensor.dims):
            broken.append(f"'{tensor.name}' has the dimensions {list(tensor.dims)}, expected sizes above 0, or -1")
    return broken


def _batching(config: Any) -> list[str]:
    largest, sizes = config.max_batch_size, list(config.dynamic_batching.preferred_batch_size)
    if largest < 0:
        return [f"max_batch_size is {largest}, expected 0 or more"]
    if config.HasField("dynamic_batching") and not largest:
        return ["dynamic batching needs a max_batch_size above 0"]
    return [f"the preferred batch size {size} is not in 1 to {largest}" for size in sizes if not 1 <= size <= largest]


def _files(config: Any, version_files: Collection[str]) -> list[str]:
    name = config.default_model_filename
    return [] if name in version_files else [f"its file '{name}' is not among {', '.join(sorted(version_files))}"]
