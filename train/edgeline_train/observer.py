"""What a training run tells whoever watches it: a bar, a log, TensorBoard."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

REPORT_STEPS = (
    100  # each hundredth step of a run is told, whatever the time: curves of two runs then have the same steps
)


@dataclass(frozen=True, slots=True)
class Step:
    """Where a run is, every few steps.

    `epoch` and `step` count from 1, `step` within the epoch, `global_step` over the run. `loss` and `train_accuracy`
    are means over the epoch's examples so far; `lr` is the rate of this step.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    global_step: int
    loss: float
    train_accuracy: float
    examples_per_s: float
    lr: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch came to: the records of the history file.

    `train_loss` and `train_accuracy` are means over the epoch's examples, each as the network stood when it saw them.
    `examples_per_s` is of the training steps alone, `time_s` with the evaluation.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    examples_per_s: float
    time_s: float
    global_step: int


class Observer(Protocol):
    """What is told. It is called in the training loop: what takes long there slows training."""

    def on_start(self, done: Sequence[Epoch]) -> None:
        """Hear that the run begins, or goes on after the epochs that were done before."""

    def on_step(self, step: Step) -> None:
        """Hear of a step; not of every one, but of each hundredth of the run."""

    def on_epoch(self, epoch: Epoch, epochs: int, network: nn.Module) -> None:
        """Hear of an epoch's end; `network` is in eval mode and must be left as it is."""

    def close(self) -> None:
        """Hear that the run is over, also by an error."""


class Observers:
    """Several observers as one; all are closed, whatever one of them does."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_start(self, done: Sequence[Epoch]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.on_start(done)

    def on_step(self, step: Step) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.on_step(step)

    def on_epoch(self, epoch: Epoch, epochs: int, network: nn.Module) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.on_epoch(epoch, epochs, network)

    def close(self) -> None:
        """Close all."""
        with contextlib.ExitStack() as stack:
            for observer in self._observers:
                stack.callback(observer.close)
