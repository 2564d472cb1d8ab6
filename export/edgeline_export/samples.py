"""The inputs that an export is judged on: a test split, a file of the user's, or, said so, generated ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import InputError
from edgeline.images import arrays_from_npz
from edgeline.manifest import Preprocessing, TensorSpec
from edgeline.preprocessing import input_from_pixels
from edgeline_train.data import Dataset, dataset_from_name, load_split, preprocessing_for

_GENERATED = 64
_SEED = 0


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs with, perhaps, labels (int64 [N]). Pixels are preprocessed batch by batch: a split may not fit as floats.

    `data` says in words what they are, for the manifest.
    """

    data: str
    array: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    preprocessing: Preprocessing | None = None
    input_shape: tuple[int, ...] = ()
    label_names: tuple[str, ...] | None = None
    generated: bool = False

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the network's input for samples `start` to `stop`, [n, ...]."""
        part = self.array[start:stop]
        if self.preprocessing is None:
            return np.ascontiguousarray(part)
        return input_from_pixels(part, self.preprocessing, self.input_shape)


def samples_for(spec: TensorSpec, file: Path | None, dataset: str | None, data_root: Path | None) -> Samples:
    """Return what a network that is not ours is judged on: its owner's file, else a data set, else generated inputs."""
    if file is not None:
        return samples_from_file(file, spec)
    if dataset is None:
        return generated_samples(spec)
    if len(spec.shape) != 4:
        raise InputError(f"--dataset fits networks with inputs of [N, C, H, W], not {['N', *spec.shape[1:]]}")
    found = dataset_from_name(dataset)
    return samples_from_dataset(found, data_root, preprocessing_for(found, spec.shape[1:]), spec.shape[1:])


def samples_from_dataset(
    dataset: Dataset, data_root: Path | None, preprocessing: Preprocessing, input_shape: tuple[int, ...]
) -> Samples:
    """Take a data set's whole test split, for a network that takes `input_shape`, (C, H, W)."""
    split = load_split(dataset, "test", data_root)
    data = f"{dataset.name} test split"
    return Samples(data, split.images, split.labels, preprocessing, input_shape, dataset.labels)


def samples_from_file(path: Path, spec: TensorSpec | None, option: str = "--samples") -> Samples:
    """Read an .npz file: `inputs` as the network takes them and, optionally, `labels`; `option` named it.

    Raises InputError when the file is damaged, lacks `inputs`, or they do not fit `spec`.
    """
    arrays = arrays_from_npz(path)
    inputs, labels = arrays.get("inputs"), arrays.get("labels")
    if inputs is None or inputs.ndim < 2 or inputs.dtype.kind not in "fiu":
        raise InputError(
            f"{option}: {path} has no numbers [N, ...] named 'inputs' (and, if you have them, 'labels' [N])"
        )
    if labels is not None and labels.dtype.kind not in "iu":
        raise InputError(f"{option}: the labels in {path} are {labels.dtype}, expected class numbers as integers")
    labels = None if labels is None else labels.astype(np.int64)
    if len(inputs) == 0 or (labels is not None and labels.shape != (len(inputs),)):
        raise InputError(f"{option}: {path} has {len(inputs)} inputs and {0 if labels is None else len(labels)} labels")
    if spec is not None and (inputs.dtype != spec.dtype or inputs.shape[1:] != spec.shape[1:]):
        expected = ["N", *spec.shape[1:]]
        raise InputError(
            f"{option}: {path} holds {inputs.dtype} {list(inputs.shape)}, the network takes {spec.dtype} {expected}"
        )
    if not np.isfinite(inputs).all():
        raise InputError(f"{option}: {path} holds NaN or infinity")
    return Samples(f"inputs of {path.name}", inputs, labels)


def generated_samples(spec: TensorSpec) -> Samples:
    """Draw inputs: standard normal for floats, uniform bytes for uint8. They prove equality, not accuracy.

    Raises InputError for other dtypes.
    """
    random = np.random.default_rng(_SEED)
    shape = (_GENERATED, *spec.shape[1:])
    if spec.dtype in ("float32", "float16"):
        return Samples(f"{_GENERATED} generated standard-normal inputs, seed {_SEED}",
                       random.standard_normal(shape).astype(spec.dtype), None, generated=True)  # fmt: skip
    if spec.dtype == "uint8":
        return Samples(f"{_GENERATED} generated uniform inputs, seed {_SEED}",
                       random.integers(0, 256, shape).astype(np.uint8), None, generated=True)  # fmt: skip
    raise InputError(f"no inputs can be generated for {spec.dtype} '{spec.name}'; give some with --samples FILE.npz")
