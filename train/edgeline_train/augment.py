"""Random affine changes of a whole batch at once, each image its own, on the device that holds it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# At strength 1.0; what a hand varies in a digit of 28 pixels without making it another one.
_ROTATION_RAD = math.radians(10)
_SCALE = 0.10
_SHEAR = 0.15
_SHIFT = 2 / 14  # two pixels of 28, in grid_sample's units, where the image spans -1 to 1


def random_affine(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shear and shift float32 [N, H, W] at random; what comes in from outside is 0 (black).

    Each image gets its own draw from `generator`, which must live on the CPU: the same seed gives the same batch on
    every device.
    """
    count = len(images)
    draw = (torch.rand(5, count, generator=generator) * 2 - 1) * strength
    angle, scale, shear = draw[0] * _ROTATION_RAD, 1 + draw[1] * _SCALE, draw[2] * _SHEAR
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    theta = torch.stack(
        [
            torch.stack([cosine, shear - sine, draw[3] * _SHIFT], dim=1),
            torch.stack([sine, cosine, draw[4] * _SHIFT], dim=1),
        ],
        dim=1,
    ).to(images.device)
    planes = images.unsqueeze(1)
    grid = functional.affine_grid(theta, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, padding_mode="zeros", align_corners=False).squeeze(1)
