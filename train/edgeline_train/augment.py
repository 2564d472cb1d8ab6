"""Random changes of the training images, by torchvision's transforms, at next to no cost.

torchvision.transforms.v2 draws once for a whole batch of tensors. Called for each image it would cost more than the
training of a LeNet. So an epoch's images, which were shuffled already, are dealt into some hundred hands: image i goes
to hand i mod hands, and each hand gets one draw. Images of one batch then lie in different hands (as long as a batch
is not larger than their number), and each epoch draws anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

from edgeline.errors import UnknownNameError

_HANDS = 512

# Each for square one-channel uint8 images; what comes in from outside is black.
AUGMENTATIONS: dict[str, Callable[[int], v2.Transform]] = {
    # What a hand varies in a digit without making it another one; two pixels of 28.
    "affine": lambda _size: v2.RandomAffine(
        degrees=10, translate=(2 / 28, 2 / 28), scale=(0.9, 1.1), shear=8.5, interpolation=v2.InterpolationMode.BILINEAR
    ),
    "flip": lambda _size: v2.RandomHorizontalFlip(0.5),
    "crop": lambda size: v2.RandomCrop(size, padding=size // 14),
    "jitter": lambda _size: v2.ColorJitter(brightness=0.2, contrast=0.2),  # hue and saturation mean nothing in grey
    "erase": lambda _size: v2.RandomErasing(p=0.5, scale=(0.02, 0.2)),
}


def check_augmentations(names: Sequence[str]) -> None:
    """Raise UnknownNameError, listing the nearest, when there is no augmentation of one of these names."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise UnknownNameError("augmentation", name, AUGMENTATIONS)


def augmented(images: Tensor, names: Sequence[str], hands: int = _HANDS) -> Tensor:
    """Return uint8 [N, H, W] images changed at random, in the same order and on the same device.

    Draws come from torch's global random state on the CPU: whoever seeds it gets the same images on every device.
    """
    transform = v2.Compose([AUGMENTATIONS[name](images.shape[-1]) for name in names])
    result = torch.empty_like(images)
    for hand in range(min(hands, len(images))):
        result[hand::hands] = transform(images[hand::hands].unsqueeze(1)).squeeze(1)
    return result
