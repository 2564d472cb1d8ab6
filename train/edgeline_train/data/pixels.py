"""From uint8 images to a network's input, in torch: what edgeline.preprocessing does in numpy on the device.

The order, here and on the device: resize, pad, scale, subtract the mean, divide by the standard deviation.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgeline.manifest import Preprocessing


def input_from_pixels(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn uint8 or float [N, H, W] pixels of 0 to 255 into float32 [N, 1, height, width], on the images' device."""
    planes = images.unsqueeze(1).float()
    if preprocessing.resize is not None:
        planes = functional.interpolate(planes, preprocessing.resize, mode="bilinear", align_corners=False)
    if preprocessing.pad is not None:
        rows, columns = preprocessing.pad
        planes = functional.pad(planes, (columns, columns, rows, rows))
    # Numbers, not tensors: those would be copied to the device batch by batch. The data sets have one channel.
    (mean,), (std,) = preprocessing.mean, preprocessing.std
    return (planes * preprocessing.scale - mean) / std
