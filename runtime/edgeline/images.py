"""Reading the images and arrays that a person hands to `edgeline run`.

.npy and .pgm need nothing; .png needs Pillow. No other format.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import InputError, MissingCapabilityError

SUFFIXES = (".npy", ".pgm", ".png")

# Magic, width, height, maxval, separated by white space and # comments; one white space before the pixels. (Netpbm)
_PGM_HEADER = re.compile(rb"(P[25])(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})\s")


def array_from_file(path: Path, grey: bool = True) -> npt.NDArray[Any]:
    """Read .npy as it is; .pgm and .png as uint8 [1, H, W], or .png as [1, H, W, 3] where `grey` is False.

    Colours become grey by Pillow's rule (ITU-R 601-2 luma). Nothing is resized and nothing is inverted.

    Raises InputError for a missing, damaged or unknown kind of file, MissingCapabilityError for .png without Pillow.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: edgeline reads {', '.join(SUFFIXES)}, not '{path.suffix}'")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix.lower() == ".npy":
        content = _load(path, ".npy array")
        if isinstance(content, dict):
            raise InputError(f"{path} is an .npz archive under another name")
        return content
    if path.suffix.lower() == ".pgm":
        return pixels_from_pgm(path.read_bytes(), str(path))[np.newaxis]
    return _pixels_from_png(path, grey)[np.newaxis]


def arrays_from_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read every array of an .npz archive. Raises InputError, naming the file, when it is missing or damaged."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    content = _load(path, ".npz archive")
    if not isinstance(content, dict):
        raise InputError(f"{path} is an .npy array under another name")
    return content


def pixels_from_pgm(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Return the pixels of a PGM image, P2 or P5, as uint8 [H, W]; `name` is what errors call it.

    Raises InputError when it is damaged, or no PGM image.
    """
    header = _PGM_HEADER.match(content)
    if header is None:
        raise InputError(f"{name} is no PGM image (no P2 or P5 header)")
    magic = header.group(1)
    width, height, maximum = (int(header.group(i)) for i in (2, 3, 4))
    if not (0 < maximum < 65536 and width > 0 and height > 0):
        raise InputError(f"{name} is no PGM image: {width} x {height}, maximum {maximum}")
    body = content[header.end() :]
    try:
        if magic == b"P2":
            values = np.array(body.split(), dtype=np.int64)
        else:
            values = np.frombuffer(body, np.uint8 if maximum < 256 else np.dtype(">u2"))
        values = values[: width * height].reshape(height, width)
    except (ValueError, OverflowError):
        raise InputError(f"{name} is truncated or damaged: it has no {width} x {height} pixels") from None
    if values.max() > maximum or values.min() < 0:
        raise InputError(f"{name} is damaged: a pixel is not between 0 and the maximum {maximum} of its header")
    return np.asarray(np.rint(values * (255 / maximum)), np.uint8)


def _load(path: Path, what: str) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """np.load without pickles. Its errors are of many kinds, by where the damage is; all mean the same to a person."""
    try:
        with path.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            return {name: content[name] for name in content} if hasattr(content, "files") else np.asarray(content)
    except (ValueError, TypeError, EOFError, OSError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error):
        raise InputError(f"{path} is no {what}: damaged, or of another kind") from None


def _pixels_from_png(path: Path, grey: bool) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingCapabilityError(
            f"{path}: reading .png needs Pillow: pip install pillow (or convert the image to .pgm, which needs nothing)"
        ) from None
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode.startswith("I"):  # 16 bits: convert("L") would clip
                return np.asarray(np.rint(np.asarray(image, np.float64) / 257), np.uint8)
            return np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is no PNG image that can be read: {error}") from None
