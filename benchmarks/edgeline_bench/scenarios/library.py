"""The samples that LoadGen draws from: the artefact's own test split where it is on disk, else its self-test inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.artefact import SELFTEST_FILE
from edgeline.manifest import FILE_NAME, manifest_from_file
from edgeline.preprocessing import input_from_pixels
from edgeline_bench.scenarios.loadgen import LIBRARY_SAMPLES


def samples_from_artefact(folder: Path, count: int = LIBRARY_SAMPLES) -> npt.NDArray[Any]:
    """Return up to `count` inputs [k, ...] of the test split that the artefact was verified on, preprocessed.

    They are held in memory (AlexNet's 1,024 take 206 MB). Nothing is downloaded: where the data set is not on disk, and
    for a network without one, these are the 16 self-test inputs, and LoadGen's record says how few.
    """
    from edgeline_train.data import DATASETS, find_files, load_split

    manifest = manifest_from_file(folder / FILE_NAME)
    dataset = DATASETS.get(manifest.dataset or "")
    shape = manifest.inputs[0].shape[1:]
    if dataset is not None and manifest.preprocessing is not None and find_files(dataset) is not None:
        images = load_split(dataset, "test").images[:count]
        return input_from_pixels(images, manifest.preprocessing, shape)
    with np.load(folder / SELFTEST_FILE, allow_pickle=False) as archive:
        inputs: npt.NDArray[Any] = archive["inputs"]
    return inputs[:count]
