"""The table of data sets, and where each one's files are looked for.

A data set is four IDX files, named as torchvision names them. They are looked for in `--data-root` (the folder itself,
or torchvision's `<Name>/raw` below it), or else where Debian's package puts them, then downloaded through torchvision.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import tempfile
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeline.command import note
from edgeline.errors import InputError, MissingCapabilityError, ResourceError, UnknownNameError
from edgeline.files import atomic_folder
from edgeline.manifest import Preprocessing
from edgeline_train.data.idx import Split, split_from_files

DEFAULT_DATASET = "mnist-10k"
DEFAULT_ROOT = Path("data")
IMAGE_SIZE = (28, 28)  # of every data set in the table
_EMBEDDED = Path(__file__).parent / "mnist-10k"
_DOWNLOAD_TIMEOUT_S = 30.0

_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set: its labels, the mean and standard deviation of its training pixels / 255, and where it comes from.

    `folder` is torchvision's name for it, or None for the one that is embedded.
    """

    name: str
    labels: tuple[str, ...]
    mean: float
    std: float
    train_size: int
    folder: str | None
    system_folder: Path | None
    summary: str


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mnist-10k", _DIGITS, 0.1313, 0.3089, 8_000, None, None,
            "8,000 + 2,000 real digits of MNIST, part of this package",
        ),
        Dataset(
            "mnist", _DIGITS, 0.1307, 0.3081, 60_000, "MNIST", None,
            "60,000 + 10,000 digits",
        ),
        Dataset(
            "fashion-mnist", _CLOTHES, 0.2860, 0.3530, 60_000, "FashionMNIST",
            Path("/usr/share/datasets/fashion-mnist"),
            "60,000 + 10,000 pieces of clothing",
        ),
    )
}  # fmt: skip


def dataset_from_name(name: str) -> Dataset:
    """Look a data set up. Raises UnknownNameError, which lists the nearest names."""
    if name not in DATASETS:
        raise UnknownNameError("data set", name, DATASETS)
    return DATASETS[name]


def preprocessing_for(
    dataset: Dataset,
    input_shape: tuple[int, ...],
    pad: tuple[int, int] | None = None,
    standardisation: tuple[float, float] | None = None,
) -> Preprocessing:
    """Return the preprocessing of a network with that input (C, H, W) on a data set of 28 x 28 images.

    `pad` is edgeline_train.models.Model's. `standardisation` is the (mean, std) of pixels / 255 that weights were
    trained with, where that is known; else it is the data set's own.
    """
    rows, columns = pad or (0, 0)
    size = (input_shape[1] - 2 * rows, input_shape[2] - 2 * columns)
    mean, std = standardisation or (dataset.mean, dataset.std)
    return Preprocessing(resize=None if size == IMAGE_SIZE else size, scale=1 / 255, mean=(mean,), std=(std,), pad=pad)


def load_split(dataset: Dataset, split: str, root: Path | None = None, named: bool = False) -> Split:
    """Read the split `train` or `test` into memory, downloading the data set when it is nowhere on disk.

    With `named`, files that lie in `root` itself are not taken: they are another data set's, whose names are the same.
    Raises InputError for a damaged file or a `root` without the data set, ResourceError when the download fails.
    """
    folder = find_or_download(dataset, root, named)
    stem = "train" if split == "train" else "t10k"
    images, labels = (_file(folder, f"{stem}-{part}-ubyte") for part in ("images-idx3", "labels-idx1"))
    assert images is not None
    assert labels is not None
    result = split_from_files(images, labels, split, len(dataset.labels))
    if result.images.shape[1:] != IMAGE_SIZE:
        raise InputError(
            f"{images} holds images of {' x '.join(map(str, result.images.shape[1:]))} pixels, expected "
            f"{' x '.join(map(str, IMAGE_SIZE))}: is it {dataset.name}?"
        )
    return result


def find_or_download(dataset: Dataset, root: Path | None = None, named: bool = False) -> Path:
    """Return the folder of the data set's files, after downloading it when it is nowhere on disk.

    Raises InputError for a `root` without the data set, ResourceError when the download fails.
    """
    if dataset.folder is None and root is not None:
        note(f"{dataset.name} is part of this package: --data-root does not apply to it")
        root = None
    folder = find_files(dataset, root, named)
    if folder is None and root is not None:
        _refuse_root(dataset, root, named)
    return folder or _download(dataset, root or DEFAULT_ROOT)


def find_files(dataset: Dataset, root: Path | None = None, named: bool = False) -> Path | None:
    """Return the folder that holds all four of the data set's files, or None when it is not on disk.

    Where `root` is given, nothing else is looked at; with `named`, only what is below it under the data set's name.
    """
    for folder in _places(dataset, root, named):
        if not _missing(folder):
            return folder
    return None


def _missing(folder: Path) -> list[str]:
    return [stem for stem in _STEMS if _file(folder, stem) is None]


def _refuse_root(dataset: Dataset, root: Path, named: bool) -> None:
    """Say what is wrong with a --data-root that a download would not mend: no folder, or half a data set."""
    if not root.is_dir():
        raise InputError(f"--data-root {root} is not a folder; without it, {dataset.name} is found or downloaded")
    for folder in _places(dataset, root, named):
        missing = _missing(folder)
        if len(missing) < len(_STEMS):
            raise InputError(f"{folder} lacks {', '.join(missing)} (or .gz) of {dataset.name}")


def _places(dataset: Dataset, root: Path | None, named: bool) -> Iterator[Path]:
    if dataset.folder is None:
        yield _EMBEDDED
    elif root is not None:
        if not named:
            yield root
        yield root / dataset.name
        yield root / dataset.folder / "raw"
        if not named:
            yield root / "raw"
    else:
        yield DEFAULT_ROOT / dataset.folder / "raw"
        yield DEFAULT_ROOT / dataset.name
        if dataset.system_folder is not None:
            yield dataset.system_folder


def _file(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)


def _download(dataset: Dataset, root: Path) -> Path:
    """Fetch the data set through torchvision, which knows mirrors and checks MD5 sums."""
    assert dataset.folder is not None
    try:
        import torchvision
    except ImportError as error:
        raise MissingCapabilityError(
            f"{dataset.name} is not on disk and torchvision, which downloads it, does not import ({error}): "
            f"pip install 'edgeline[train]', or use --dataset {DEFAULT_DATASET}, which needs no download"
        ) from None
    note(f"{dataset.name} is not on disk: downloading it into {root}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    raw = root / dataset.folder / "raw"
    try:
        # Put in place when it is whole: half a download must not be taken for the data set by the next command.
        with atomic_folder(raw) as temporary, tempfile.TemporaryDirectory(dir=root) as scratch:
            getattr(torchvision.datasets, dataset.folder)(scratch, download=True)
            for path in (Path(scratch) / dataset.folder / "raw").iterdir():
                path.rename(temporary / path.name)
    except (urllib.error.URLError, http.client.HTTPException, RuntimeError, TimeoutError) as error:
        _remove_empty(raw.parent, root)
        reason = str(error).strip().splitlines()[0].rstrip(":") if str(error).strip() else type(error).__name__
        system = f", install Debian's dataset-{dataset.name}" if dataset.system_folder else ""
        raise ResourceError(
            f"{dataset.name} is not on disk and could not be downloaded ({reason}); name its folder with --data-root"
            f"{system}, or take {DEFAULT_DATASET} instead, which is embedded and needs no network"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return raw


def _remove_empty(*folders: Path) -> None:
    """Take away what a failed download made; a folder that holds anything stays."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
