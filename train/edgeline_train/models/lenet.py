"""LeNet as the textbooks have it, and its variants: other pooling, no activation between dense layers, ReLU.

After LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, as simplified in Zhang et al.,
"Dive into Deep Learning", section 7.6. Unlike the paper, which edgeline_train.models.lenet5 follows: plain sigmoids,
pooling without learnt coefficients, full connections in the second convolution, a linear output layer.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class LeNet(nn.Module):
    """float32 [N, 1, 28, 28] -> logits float32 [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding=2)  # [N, 6, 28, 28]
        self.act1 = nn.Sigmoid()
        self.pool1 = nn.AvgPool2d(2)  # [N, 6, 14, 14]
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)  # [N, 16, 10, 10]
        self.act2 = nn.Sigmoid()
        self.pool2 = nn.AvgPool2d(2)  # [N, 16, 5, 5]
        self.flatten = nn.Flatten()  # [N, 400]
        self.fc1 = nn.Linear(400, 120)
        self.act3 = nn.Sigmoid()
        self.fc2 = nn.Linear(120, 84)
        self.act4 = nn.Sigmoid()
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, [N, classes], of x, [N, 1, 28, 28]."""
        x = self.pool1(self.act1(self.conv1(x)))
        x = self.pool2(self.act2(self.conv2(x)))
        x = self.flatten(x)
        x = self.act3(self.fc1(x))
        x = self.act4(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class LeNetMaxPool(nn.Sequential):
    """float32 [N, 1, 28, 28] -> logits float32 [N, classes]. No padding, the largest of four instead of their mean."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, kernel_size=5),  # [N, 6, 24, 24]
                act1=nn.Sigmoid(),
                pool1=nn.MaxPool2d(2),  # [N, 6, 12, 12]
                conv2=nn.Conv2d(6, 16, kernel_size=5),  # [N, 16, 8, 8]
                act2=nn.Sigmoid(),
                pool2=nn.MaxPool2d(2),  # [N, 16, 4, 4]
                flatten=nn.Flatten(),  # [N, 256]
                fc1=nn.Linear(256, 120),
                act3=nn.Sigmoid(),
                fc2=nn.Linear(120, 84),
                act4=nn.Sigmoid(),
                fc3=nn.Linear(84, classes),
            )
        )


class LeNetLinear(nn.Sequential):
    """float32 [N, 1, 28, 28] -> logits float32 [N, classes]. Its three dense layers compute what one could."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, kernel_size=5, padding=2),  # [N, 6, 28, 28]
                act1=nn.Sigmoid(),
                pool1=nn.AvgPool2d(2),  # [N, 6, 14, 14]
                conv2=nn.Conv2d(6, 16, kernel_size=5),  # [N, 16, 10, 10]
                act2=nn.Sigmoid(),
                pool2=nn.AvgPool2d(2),  # [N, 16, 5, 5]
                flatten=nn.Flatten(),  # [N, 400]
                fc1=nn.Linear(400, 120),
                fc2=nn.Linear(120, 84),
                fc3=nn.Linear(84, classes),
            )
        )


class LeNetRelu(nn.Sequential):
    """float32 [N, 1, 28, 28] -> logits float32 [N, classes]. What AlexNet changed, at LeNet's size.

    AlexNet drops half of its 4,096 units; of 120 and 84, half is too many: 0.902 on Fashion-MNIST, against 0.915.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, kernel_size=5, padding=2),  # [N, 6, 28, 28]
                act1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),  # [N, 6, 14, 14]
                conv2=nn.Conv2d(6, 16, kernel_size=5),  # [N, 16, 10, 10]
                act2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),  # [N, 16, 5, 5]
                flatten=nn.Flatten(),  # [N, 400]
                fc1=nn.Linear(400, 120),
                act3=nn.ReLU(),
                drop1=nn.Dropout(0.1),
                fc2=nn.Linear(120, 84),
                act4=nn.ReLU(),
                drop2=nn.Dropout(0.1),
                fc3=nn.Linear(84, classes),
            )
        )
