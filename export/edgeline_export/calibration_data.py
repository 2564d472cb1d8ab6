"""The samples that calibration runs on: named data only, from the training split, in batches that differ.

There is no random default: ranges of noise are the ranges of nothing. Preprocessing is the model's own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import GateError, InputError, ShapeError
from edgeline.images import SUFFIXES, array_from_file
from edgeline.manifest import Preprocessing, TensorSpec
from edgeline.preprocessing import input_from_pixels
from edgeline_export.samples import samples_from_file
from edgeline_train.data import load_split
from edgeline_train.data.datasets import DATASETS

BATCH = 16
_SEED = 0
_LEAST_DIFFERENT = 0.9  # share of the samples; data sets hold a few twins


@dataclass(frozen=True, slots=True)
class CalibrationData:
    """What calibration runs on. `array` holds pixels or network inputs; `indices` say which of the source's samples.

    `dataset` names the source in the manifest, `split` is "train" or None for files of the user's.
    """

    dataset: str
    split: str | None
    seed: int | None
    indices: npt.NDArray[np.int64]
    array: npt.NDArray[Any]
    preprocessing: Preprocessing | None
    input_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int = BATCH) -> list[npt.NDArray[Any]]:
        """Return the samples in order, `size` at a time, not yet preprocessed."""
        return [self.array[start : start + size] for start in range(0, len(self.array), size)]

    def network_input(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn one of batches() into the network's input, [n, ...]."""
        if self.preprocessing is None:
            return np.ascontiguousarray(batch)
        return input_from_pixels(batch, self.preprocessing, self.input_shape)

    def digest(self) -> str:
        """Return the SHA-256 of indices and content, as hex digits."""
        hashed = hashlib.sha256(self.indices.tobytes())
        hashed.update(f"{self.array.dtype} {self.array.shape}".encode())
        hashed.update(np.ascontiguousarray(self.array).tobytes())
        return hashed.hexdigest()


def calibration_data(
    source: str,
    count: int,
    spec: TensorSpec,
    preprocessing: Preprocessing | None,
    data_root: Path | None,
    judged_on: str | None = None,
) -> CalibrationData:
    """Choose `count` samples from a data set's training split, an .npz file or a folder of images.

    `judged_on` names the data set that judges the export: files that lie in `data_root` itself are that one's. Raises
    InputError when the source is unknown, has fewer samples, or holds samples of another shape; GateError when
    two batches hold the same samples.
    """
    if source in DATASETS:
        named = judged_on not in (None, source)
        data = _from_dataset(source, count, spec, preprocessing, data_root, named)
    elif source.endswith(".npz"):
        data = _from_file(Path(source), count, spec)
    elif source and Path(source).is_dir():
        data = _from_folder(Path(source), count, spec, preprocessing)
    else:
        raise InputError(
            f"--calibration: '{source}' is no data set ({', '.join(DATASETS)}), no .npz file and no folder"
        )
    _check_batches_differ(data)
    return data


def _choose(source: str, available: int, count: int) -> npt.NDArray[np.int64]:
    """Draw without replacement, by a fixed seed, so that no class comes first; sorted, since order does not matter."""
    if not available:
        raise InputError(f"--calibration: {source} has no samples")
    if available < count:
        raise InputError(
            f"--calibration: {source} has {available:,} samples, {count:,} were asked for; "
            f"give more, or --calibration-samples {available}"
        )
    return np.sort(np.random.default_rng(_SEED).choice(available, count, replace=False)).astype(np.int64)


def _from_dataset(
    name: str, count: int, spec: TensorSpec, preprocessing: Preprocessing | None, data_root: Path | None, named: bool
) -> CalibrationData:
    if len(spec.shape) != 4:
        raise InputError(f"--calibration {name} fits networks with inputs of [N, C, H, W], not {list(spec.shape)}")
    if preprocessing is None:
        raise InputError(
            f"--calibration {name}: how pixels become this network's input is not known; give --dataset {name} if it "
            "was trained on that, or an .npz file with `inputs` as the network takes them"
        )
    dataset = DATASETS[name]
    split = load_split(dataset, "train", data_root, named)
    indices = _choose(f"the training split of {name}", len(split.images), count)
    shape = spec.shape[1:]
    return CalibrationData(name, "train", _SEED, indices, split.images[indices], preprocessing, shape)


def _from_file(path: Path, count: int, spec: TensorSpec) -> CalibrationData:
    inputs = samples_from_file(path, spec, option="--calibration").array
    indices = _choose(path.name, len(inputs), count)
    return CalibrationData(path.name, None, _SEED, indices, inputs[indices], None, spec.shape[1:])


def _from_folder(folder: Path, count: int, spec: TensorSpec, preprocessing: Preprocessing | None) -> CalibrationData:
    if preprocessing is None or len(spec.shape) != 4:
        raise InputError(
            "--calibration: how pixels become this network's input is not known; give --dataset, or an .npz file with "
            "`inputs` as the network takes them"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    indices = _choose(f"{folder} ({', '.join(SUFFIXES)})", len(paths), count)
    shape = spec.shape[1:]
    images = [_image(paths[index], preprocessing, shape) for index in indices]
    if len({image.shape for image in images}) > 1:
        raise InputError(f"--calibration: the images in {folder} differ in size")
    return CalibrationData(folder.name, None, _SEED, indices, np.concatenate(images), preprocessing, shape)


def _image(path: Path, preprocessing: Preprocessing, input_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    image = array_from_file(path, grey=input_shape[0] == 1)
    image = image[np.newaxis] if image.ndim == 2 else image
    if len(image) != 1:
        raise InputError(f"--calibration: {path} holds {len(image)} images; a folder has one a file")
    try:
        input_from_pixels(image, preprocessing, input_shape)
    except ShapeError as error:
        raise InputError(f"--calibration: {path}: {error}") from None
    return image


def _check_batches_differ(data: CalibrationData) -> None:
    """A loader that yields one batch over and over calibrates on that batch alone, and no error shows it."""
    seen: dict[bytes, int] = {}
    for number, batch in enumerate(data.batches()):
        digest = hashlib.sha256(np.ascontiguousarray(batch).tobytes()).digest()
        if digest in seen:
            raise GateError(
                f"calibration batches {seen[digest]} and {number} of {data.dataset} hold the same samples: ranges from "
                "them say nothing about others; nothing was written"
            )
        seen[digest] = number
    # Adding 0 makes -0 the same as 0.
    different = len({hashlib.sha256(np.ascontiguousarray(sample + 0).tobytes()).digest() for sample in data.array})
    if different < len(data) * _LEAST_DIFFERENT:
        raise GateError(
            f"only {different} of {len(data)} calibration samples of {data.dataset} differ: ranges from them say "
            "nothing about others; nothing was written"
        )
