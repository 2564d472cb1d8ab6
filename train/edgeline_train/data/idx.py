"""IDX files: the format of MNIST and its kin, read and checked.

Format: http://yann.lecun.com/exdb/mnist/ ("the IDX file format"): two zero bytes, a type byte (8: uint8), the number of
dimensions, each dimension as big-endian uint32, then the data. Files may be gzipped.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeline.errors import InputError

_UINT8 = 8


@dataclass(frozen=True, slots=True)
class Split:
    """One split in memory: images uint8 [N, H, W], labels int64 [N], and the part's name (`train` or `test`)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    name: str

    def __len__(self) -> int:
        return len(self.labels)


def array_from_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file, gzipped or not, of uint8 with so many dimensions.

    Raises InputError, naming the file, when it is damaged, truncated, longer than its header says, or of another kind.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); remove it and get it again") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:3] != bytes([0, 0, _UINT8]) or content[3] != dimensions:
        raise InputError(f"{path} is no IDX file of bytes with {dimensions} dimension(s); remove it and get it again")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise InputError(
            f"{path} is truncated or damaged: its header says {expected} bytes, it has {len(content)}; get it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def split_from_files(images_path: Path, labels_path: Path, name: str, classes: int) -> Split:
    """Read one split's two files. Raises InputError when one is damaged, or they do not belong together."""
    images = array_from_idx(images_path, 3)
    labels = array_from_idx(labels_path, 1)
    if len(images) != len(labels):
        raise InputError(f"{images_path} has {len(images)} images, {labels_path} has {len(labels)} labels: not a pair")
    if len(labels) == 0:
        raise InputError(f"{labels_path} is empty: the {name} split has no examples")
    if labels.max() >= classes:
        raise InputError(f"{labels_path} holds the label {labels.max()}; the data set has {classes} classes")
    return Split(images, labels.astype(np.int64), name)
