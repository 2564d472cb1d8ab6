"""A training run for TensorBoard: scalars, and what the first layers make of a few sample images.

Scalars over optimiser steps: each 100 of them `loss/train` (the mean over the epoch so far), `learning_rate` and
`examples_per_s`; after each epoch `loss/test`, `accuracy/test` and `accuracy/train`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from edgeline.errors import MissingCapabilityError
from edgeline_train.activations import feature_maps, tile
from edgeline_train.observer import REPORT_STEPS, Epoch, Step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_PICTURE_PIXELS = 400  # an activation grid is enlarged to about this: the browser would blur it


class TensorBoardObserver:
    """An Observer that writes event files into `folder`. Look at them with `tensorboard --logdir folder`.

    `sample_images` is uint8 [k, H, W], `sample_labels` their classes' names; `to_input` makes the network's input of
    them (a uint8 tensor [k, H, W] on `device`). What an earlier process wrote after the checkpoint that a resumed run
    goes on from is hidden, and all that it wrote when a run starts anew.
    """

    def __init__(
        self,
        folder: Path,
        sample_images: npt.NDArray[np.uint8],
        sample_labels: Sequence[str],
        to_input: Callable[[Tensor], Tensor],
        device: str,
    ) -> None:
        try:
            import torch.utils.tensorboard
        except ImportError as error:
            raise MissingCapabilityError(
                f"TensorBoard's files need the package tensorboard ({error}): pip install 'edgeline[train]'"
            ) from None
        self._folder = folder
        self._sample_images = sample_images
        self._names = [f"{i}-{name}" for i, name in enumerate(sample_labels)]
        self._images = torch.from_numpy(sample_images.copy()).to(device)
        self._to_input = to_input
        self._writer: SummaryWriter | None = None

    def on_start(self, done: Sequence[Epoch]) -> None:
        """Open the files; write the sample images unless the run goes on."""
        from torch.utils.tensorboard import SummaryWriter

        # Hidden is what has the purge step or a later one: the checkpoint's own step is kept.
        self._writer = SummaryWriter(str(self._folder), purge_step=done[-1].global_step + 1 if done else 0)
        if not done:
            for name, image in zip(self._names, self._sample_images, strict=True):
                self._picture(f"samples/{name}", image / np.float32(255), 0)

    def on_step(self, step: Step) -> None:
        """Write each hundredth step's scalars."""
        if step.global_step % REPORT_STEPS:
            return
        self._scalar("loss/train", step.loss, step.global_step)
        self._scalar("learning_rate", step.lr, step.global_step)
        self._scalar("examples_per_s", step.examples_per_s, step.global_step)

    def on_epoch(self, epoch: Epoch, epochs: int, network: nn.Module) -> None:  # noqa: ARG002 - an Observer's
        """Write the epoch's scalars and the sample images' feature maps; the network is left as it was."""
        self._scalar("loss/test", epoch.test_loss, epoch.global_step)
        self._scalar("accuracy/test", epoch.test_accuracy, epoch.global_step)
        self._scalar("accuracy/train", epoch.train_accuracy, epoch.global_step)
        if self._names:
            self._activations(network, epoch.global_step)
        if self._writer is not None:
            self._writer.flush()  # whoever looks on sees the epoch at once

    def close(self) -> None:
        """Write what is left; a second call does nothing."""
        if self._writer is not None:
            self._writer.close()

    def _activations(self, network: nn.Module, step: int) -> None:
        for number, layer in enumerate(feature_maps(network, self._to_input(self._images)), 1):
            low, high = float(layer.maps.min()), float(layer.maps.max())
            maps = (layer.maps - low) / ((high - low) or 1.0)  # one scale for all samples
            for name, one in zip(self._names, maps.numpy(), strict=True):
                self._picture(f"activations/{number}-{layer.name}/{name}", tile(one, gap=0.5), step)

    def _picture(self, tag: str, picture: npt.NDArray[np.float32], step: int) -> None:
        factor = max(1, round(_PICTURE_PIXELS / max(picture.shape)))
        enlarged = picture.repeat(factor, 0).repeat(factor, 1)
        if self._writer is not None:
            self._writer.add_image(tag, enlarged, step, dataformats="HW")

    def _scalar(self, tag: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, value, step)
