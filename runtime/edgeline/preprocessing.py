"""From uint8 pixels to the network's input, as the manifest says, with numpy alone.

The training side does the same arithmetic in torch (edgeline_train.data.pixels); a test holds the two together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeline.errors import ShapeError
from edgeline.manifest import Preprocessing

FloatArray = npt.NDArray[np.float32]


def input_from_pixels(
    images: npt.NDArray[np.uint8], preprocessing: Preprocessing, shape: tuple[int, ...]
) -> FloatArray:
    """Turn uint8 [N, H, W] (one channel) or [N, H, W, C] into float32 [N, C, height, width].

    `shape` is (C, height, width), the input the network takes. Where the manifest names a size to resize to, images of
    any size are resized bilinearly; elsewhere H x W must be height x width, less what it says to pad.

    Raises ShapeError on another dtype, rank, channel count or size.
    """
    channels, height, width = shape
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ShapeError(f"expected images as uint8 [N, H, W] or [N, H, W, C], got {images.dtype} {list(images.shape)}")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.shape[3] != channels:
        raise ShapeError(f"expected images with {channels} channel(s), got {images.shape[3]}")
    rows, columns = preprocessing.pad or (0, 0)
    expected = (height - 2 * rows, width - 2 * columns)
    if preprocessing.resize is None and images.shape[1:3] != expected:
        padded = f" (they are padded to {height} x {width} here)" if preprocessing.pad else ""
        raise ShapeError(
            f"expected images of {expected[0]} x {expected[1]} pixels{padded}, "
            f"got {images.shape[1]} x {images.shape[2]}: resize first"
        )
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    if preprocessing.resize is not None:
        planes = resize_bilinear(planes, preprocessing.resize)
    if preprocessing.pad is not None:
        planes = np.pad(planes, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    mean = np.asarray(preprocessing.mean, np.float32).reshape(-1, 1, 1)
    std = np.asarray(preprocessing.std, np.float32).reshape(-1, 1, 1)
    planes *= np.float32(preprocessing.scale)
    planes -= mean
    planes /= std
    return planes


def resize_bilinear(planes: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Resize float32 [N, C, H, W] to [N, C, *size]: bilinear, half-pixel centres, edges clamped.

    That is ONNX Resize with coordinate_transformation_mode=half_pixel, and torch's interpolate with
    align_corners=False and antialias=False. No smoothing before shrinking: this is made for enlarging.
    """
    for axis, length in ((2, size[0]), (3, size[1])):
        planes = _resize_axis(planes, axis, length)
    return planes


def _resize_axis(planes: FloatArray, axis: int, length: int) -> FloatArray:
    old = planes.shape[axis]
    if old == length:
        return planes
    centre = np.maximum((np.arange(length, dtype=np.float32) + 0.5) * (old / length) - 0.5, 0)
    low = np.minimum(centre.astype(np.int64), old - 1)
    high = np.minimum(low + 1, old - 1)
    weight_shape = [1] * planes.ndim
    weight_shape[axis] = length
    weight = (centre - low).astype(np.float32).reshape(weight_shape)
    return np.asarray(planes.take(low, axis) * (1 - weight) + planes.take(high, axis) * weight, np.float32)
