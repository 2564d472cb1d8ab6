"""Reading the images and arrays that a person hands to `edgeline run`.

.npy and .pgm need nothing; .png needs Pillow. No other format, and no colour conversion: a picture must have the
network's channels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import InputError, MissingCapabilityError

SUFFIXES = (".npy", ".pgm", ".png")

# Magic, width, height, maxval, separated by white space and # comments; one white space before the pixels. (Netpbm)
_PGM_HEADER = re.compile(rb"(P[25])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")


def array_from_file(path: Path) -> npt.NDArray[Any]:
    """Read .npy as it is; .pgm and .png as uint8 [1, H, W] (grey) or [1, H, W, 3] (colour).

    Raises InputError for a missing, damaged or unknown kind of file, MissingCapabilityError for .png without Pillow.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: edgeline reads {', '.join(SUFFIXES)}, not '{path.suffix}'")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix.lower() == ".npy":
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise InputError(f"{path} is no .npy array: {error}") from None
    pixels = _pixels_from_pgm(path) if path.suffix.lower() == ".pgm" else _pixels_from_png(path)
    return pixels[np.newaxis]


def _pixels_from_pgm(path: Path) -> npt.NDArray[np.uint8]:
    content = path.read_bytes()
    header = _PGM_HEADER.match(content)
    if header is None:
        raise InputError(f"{path} is no PGM image (no P2 or P5 header)")
    magic = header.group(1)
    width, height, maximum = (int(header.group(i)) for i in (2, 3, 4))
    if not (0 < maximum < 65536 and width > 0 and height > 0):
        raise InputError(f"{path} is no PGM image: {width} x {height}, maximum {maximum}")
    body = content[header.end() :]
    try:
        if magic == b"P2":
            values = np.array(body.split(), dtype=np.int64)
        else:
            values = np.frombuffer(body, np.uint8 if maximum < 256 else np.dtype(">u2"))
        values = values[: width * height].reshape(height, width)
    except ValueError:
        raise InputError(f"{path} is truncated or damaged: it has no {width} x {height} pixels") from None
    if values.max() > maximum:
        raise InputError(f"{path} is damaged: a pixel is above the maximum {maximum} of its header")
    return np.asarray(np.rint(values * (255 / maximum)), np.uint8)


def _pixels_from_png(path: Path) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingCapabilityError(
            f"{path}: reading .png needs Pillow: pip install pillow (or convert the image to .pgm, which needs nothing)"
        ) from None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "I;16", "I") else "RGB"), np.uint8)
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} is no PNG image: {error}") from None
