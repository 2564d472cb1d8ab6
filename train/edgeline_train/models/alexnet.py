"""AlexNet for one-channel 224 x 224 images, and a small one for 28 x 28.

After Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, as
laid out in Zhang et al., "Dive into Deep Learning", section 8.1. Unlike the paper: one tower instead of two, no local
response normalisation, one input channel. AlexNet28 keeps its plan (five convolutions, three poolings, three dense
layers, ReLU and dropout) and starts with a convolution that does not stride: 28 pixels are what AlexNet's first two
layers leave of 224.
"""

from __future__ import annotations

from torch import Tensor, nn


class AlexNet(nn.Module):
    """float32 [N, 1, 224, 224] -> logits float32 [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 96, kernel_size=11, stride=4, padding=1),  # [N, 96, 54, 54]
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # [N, 96, 26, 26]
            nn.Conv2d(96, 256, kernel_size=5, padding=2),  # [N, 256, 26, 26]
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # [N, 256, 12, 12]
            nn.Conv2d(256, 384, kernel_size=3, padding=1),  # [N, 384, 12, 12]
            nn.ReLU(),
            nn.Conv2d(384, 384, kernel_size=3, padding=1),  # [N, 384, 12, 12]
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),  # [N, 256, 12, 12]
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # [N, 256, 5, 5]
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # [N, 6400]
            nn.Linear(6400, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, [N, classes], of x, [N, 1, 224, 224]."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


class AlexNet28(nn.Module):
    """float32 [N, 1, 28, 28] -> logits float32 [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 64, kernel_size=5, padding=2),  # [N, 64, 28, 28]
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # [N, 64, 14, 14]
            nn.Conv2d(64, 128, kernel_size=3, padding=1),  # [N, 128, 14, 14]
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # [N, 128, 7, 7]
            nn.Conv2d(128, 192, kernel_size=3, padding=1),  # [N, 192, 7, 7]
            nn.ReLU(),
            nn.Conv2d(192, 192, kernel_size=3, padding=1),  # [N, 192, 7, 7]
            nn.ReLU(),
            nn.Conv2d(192, 128, kernel_size=3, padding=1),  # [N, 128, 7, 7]
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # [N, 128, 3, 3]
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # [N, 1152]
            nn.Linear(1152, 512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, [N, classes], of x, [N, 1, 28, 28]."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
