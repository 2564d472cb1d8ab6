"""How a network does on a split."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeline.manifest import Preprocessing
from edgeline_train.data import Split
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.team import ALONE, Team

_BATCH = 250


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`loss` is the mean cross-entropy; `confusion`, int64 [classes, classes] on the CPU, counts true by predicted."""

    loss: float
    confusion: Tensor

    @property
    def accuracy(self) -> float:
        """The share of examples whose largest logit is the true class's, 0 to 1."""
        return int(self.confusion.trace()) / int(self.confusion.sum())


def evaluate(
    network: nn.Module,
    examples: tuple[Tensor, Tensor],
    preprocessing: Preprocessing,
    classes: int,
    device: str,
    *,
    bf16: bool = False,
    channels_last: bool = False,
    team: Team = ALONE,
) -> Evaluation:
    """Judge a network on `examples` of tensors_from_split; it is left in eval mode.

    With a team, each of its processes takes its share.
    """
    network.eval()
    images, labels = (part[team.rank :: team.size] for part in examples)
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    loss = torch.zeros((), device=device)
    with torch.inference_mode(), autocast(device, bf16):
        for start in range(0, len(labels), _BATCH):
            batch = input_from_pixels(images[start : start + _BATCH], preprocessing)
            if channels_last:
                batch = batch.contiguous(memory_format=torch.channels_last)
            target = labels[start : start + _BATCH]
            logits = network(batch).float()
            pairs = target * classes + logits.argmax(1)
            confusion += torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
            loss += functional.cross_entropy(logits, target, reduction="sum")
    team.sum_(confusion)
    team.sum_(loss)
    return Evaluation(float(loss) / int(confusion.sum()), confusion.cpu())


def tensors_from_split(split: Split, device: str) -> tuple[Tensor, Tensor]:
    """Return a split's images, uint8 [N, H, W], and labels, int64 [N], on a device."""
    # IDX arrays are read-only views; torch wants memory that it may write.
    return torch.from_numpy(split.images.copy()).to(device), torch.from_numpy(split.labels).to(device)


def autocast(device: str, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """Return bfloat16 autocast for a device ("cuda:1" too), or nothing."""
    return torch.autocast(device.partition(":")[0], torch.bfloat16) if bf16 else contextlib.nullcontext()
