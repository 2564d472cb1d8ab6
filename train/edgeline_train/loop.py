"""The training loop: all images in memory, batches cut by index, no per-sample Python.

It returns what it learnt and reports as it goes; it prints nothing and writes nothing but its checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeline.errors import GateError, MissingCapabilityError
from edgeline.manifest import Preprocessing
from edgeline_train.augment import random_affine
from edgeline_train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from edgeline_train.data import Split
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.models import Model
from edgeline_train.recipes import Recipe

_EVALUATION_BATCH = 250
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True, slots=True)
class Run:
    """All that decides the result of a training run."""

    model: Model
    recipe: Recipe
    dataset: str
    preprocessing: Preprocessing
    classes: int
    epochs: int
    seed: int
    device: str

    def settings(self) -> dict[str, Any]:
        """Return what a checkpoint must agree in, as plain values."""
        recipe = {key: value for key, value in asdict(self.recipe).items() if key not in ("name", "epochs")}
        return {
            "model": self.model.name, "recipe": self.recipe.name, "dataset": self.dataset, "epochs": self.epochs,
            "seed": self.seed, **recipe,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: sent after every few steps (`accuracy`, the test split's, None) and after every epoch.

    `loss` and `train_accuracy` are means over the epoch's steps so far.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    train_accuracy: float
    examples_per_s: float
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The best epoch's weights, judged on the test split, and the history of all epochs."""

    state: dict[str, Tensor]
    best_epoch: int
    accuracy: float
    loss: float
    history: list[dict[str, float]]


def choose_device(name: str) -> str:
    """Return "cuda", "mps" or "cpu" for "auto"; check that a named one is here.

    Raises MissingCapabilityError when it is not.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, here in available.items() if here)
    if not available.get(name, False):
        here = ", ".join(device for device, is_here in available.items() if is_here)
        raise MissingCapabilityError(f"--device {name} is not available to torch here; available: {here}")
    return name


def train(
    run: Run,
    train_split: Split,
    test_split: Split,
    report: Callable[[Progress], None],
    checkpoint: Path,
    resume: bool,
) -> Result:
    """Train as `run` says and return the best epoch by test accuracy.

    Raises GateError when the loss is no longer finite, InputError when the checkpoint to resume does not fit.
    """
    torch.manual_seed(run.seed)
    memory_format = torch.channels_last if run.recipe.channels_last else torch.contiguous_format
    network = run.model.build(run.classes)
    initialise(network, run.recipe.init)
    network = network.to(device=run.device, memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack it
    images, labels = _on_device(train_split, run.device)
    steps = len(labels) // run.recipe.batch_size or 1
    optimizer = _OPTIMIZERS[run.recipe.optimizer](
        network.parameters(), lr=run.recipe.lr, weight_decay=run.recipe.weight_decay, fused=True
    )
    # OneCycleLR divides by the length of its rise less one step: runs of a few steps get a rise of two.
    total = max(steps * run.epochs, 3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, run.recipe.lr, total_steps=total, pct_start=max(run.recipe.warmup, 2 / total)
    )
    first, history = 0, []
    best: dict[str, Any] = {"epoch": 0, "accuracy": -1.0, "loss": math.inf, "state": {}}
    if resume and checkpoint.exists():
        saved = read_checkpoint(checkpoint, run.settings())
        network.load_state_dict(saved.network)
        optimizer.load_state_dict(dict(saved.optimizer))
        scheduler.load_state_dict(dict(saved.scheduler))
        first, history, best = saved.epoch, saved.history, dict(saved.best)
    for epoch in range(first, run.epochs):
        started = time.perf_counter()
        network.train()
        loss, train_accuracy, rate = _train_epoch(run, epoch, network, optimizer, scheduler, images, labels, report)
        accuracy, test_loss = evaluate(network, test_split, run.preprocessing, run.device, run.recipe.bf16)
        history.append(
            {
                "epoch": epoch + 1,
                "train_loss": loss,
                "train_accuracy": train_accuracy,
                "test_loss": test_loss,
                "test_accuracy": accuracy,
                "examples_per_s": rate,
                "time_s": time.perf_counter() - started,
            }
        )
        if (accuracy, -test_loss) > (best["accuracy"], -best["loss"]):
            state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            best = {"epoch": epoch + 1, "accuracy": accuracy, "loss": test_loss, "state": state}
        write_checkpoint(
            checkpoint,
            Checkpoint(
                epoch + 1, run.settings(), network.state_dict(), optimizer.state_dict(), scheduler.state_dict(),
                best, history,
            ),
        )  # fmt: skip
        report(Progress(epoch + 1, run.epochs, steps, steps, loss, train_accuracy, rate, accuracy))
    # Epochs are compared in the precision of training; what is published is the float32 network's own figure.
    network.load_state_dict(best["state"])
    accuracy, test_loss = evaluate(network, test_split, run.preprocessing, run.device, bf16=False)
    return Result(best["state"], best["epoch"], accuracy, test_loss, history)


def initialise(network: nn.Module, how: str) -> None:
    """Leave torch's own initialisation ("default"), or draw all weights from Glorot's uniform one ("xavier")."""
    if how == "xavier":
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)


def evaluate(
    network: nn.Module, split: Split, preprocessing: Preprocessing, device: str, bf16: bool
) -> tuple[float, float]:
    """Return accuracy (0 to 1) and mean cross-entropy of the network on a split."""
    network.eval()
    images, labels = _on_device(split, device)
    correct, loss = 0, 0.0
    with torch.inference_mode(), _autocast(device, bf16):
        for start in range(0, len(labels), _EVALUATION_BATCH):
            batch = input_from_pixels(images[start : start + _EVALUATION_BATCH], preprocessing)
            target = labels[start : start + _EVALUATION_BATCH]
            logits = network(batch).float()
            correct += int((logits.argmax(1) == target).sum())
            loss += float(functional.cross_entropy(logits, target, reduction="sum"))
    return correct / len(labels), loss / len(labels)


def _train_epoch(
    run: Run,
    epoch: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    images: Tensor,
    labels: Tensor,
    report: Callable[[Progress], None],
) -> tuple[float, float, float]:
    """Train one epoch; return its mean loss, its accuracy on what it trained on, and its examples per second."""
    size = run.recipe.batch_size
    steps = len(labels) // size or 1
    # Everything random in an epoch (order, augmentation, dropout) starts from (seed, epoch): see checkpoint.py.
    torch.manual_seed(run.seed * 100_003 + epoch + 1)
    generator = torch.Generator().manual_seed(run.seed * 100_003 + epoch + 1)
    order = torch.randperm(len(labels), generator=generator).to(run.device)
    total, right = torch.zeros((), device=run.device), torch.zeros((), device=run.device)
    started = reported = time.perf_counter()
    for step in range(steps):
        index = order[step * size : (step + 1) * size]
        batch = images[index]
        if run.recipe.affine:
            batch = random_affine(batch.float(), run.recipe.affine, generator)
        inputs = input_from_pixels(batch, run.preprocessing)
        if run.recipe.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with _autocast(run.device, run.recipe.bf16):
            logits = network(inputs)
            loss = functional.cross_entropy(logits, labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        total += loss.detach()
        right += (logits.detach().argmax(1) == labels[index]).sum()
        now = time.perf_counter()
        if now - reported > 0.2 or step == steps - 1:
            reported = now
            mean = float(total) / (step + 1)
            if not math.isfinite(mean):
                raise GateError(
                    f"the loss is no longer finite at epoch {epoch + 1}, step {step + 1}; "
                    f"the checkpoint of epoch {epoch} is kept; try a lower --lr"
                )
            accuracy = float(right) / ((step + 1) * len(index))
            report(Progress(epoch, run.epochs, step + 1, steps, mean, accuracy, (step + 1) * size / (now - started)))
    return mean, accuracy, steps * len(index) / (time.perf_counter() - started)


def _on_device(split: Split, device: str) -> tuple[Tensor, Tensor]:
    # IDX arrays are read-only views; torch wants memory that it may write.
    return torch.from_numpy(split.images.copy()).to(device), torch.from_numpy(split.labels).to(device)


def _autocast(device: str, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16) if bf16 else contextlib.nullcontext()
