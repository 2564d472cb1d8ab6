"""The training loop: all images in memory, batches cut by index, no per-sample Python.

It returns what it learnt and tells an observer as it goes; it prints nothing and writes nothing but its checkpoints.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeline.errors import GateError, InputError, MissingCapabilityError
from edgeline.manifest import Preprocessing
from edgeline_train.batches import batches, steps_of
from edgeline_train.checkpoint import Checkpoint, Checkpoints
from edgeline_train.data import Split
from edgeline_train.evaluation import Evaluation, autocast, evaluate, tensors_from_split
from edgeline_train.models import Model
from edgeline_train.observer import REPORT_STEPS, Epoch, Observer, Step
from edgeline_train.optimisation import initialise, make_optimizer, make_scheduler
from edgeline_train.qat import FineTuning
from edgeline_train.recipes import Recipe
from edgeline_train.team import ALONE, Team

_REPORT_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """All that decides the result of a training run. `patience` None: no early stopping.

    With `qat`, finished weights are fine-tuned under fake quantisation, and all figures are of the network with it.
    """

    model: Model
    recipe: Recipe
    dataset: str
    preprocessing: Preprocessing
    classes: int
    epochs: int
    seed: int
    device: str
    patience: int | None = None
    qat: FineTuning | None = None
    compile: bool = False

    def settings(self) -> dict[str, Any]:
        """Return what a checkpoint must agree in, as plain values, as JSON gives them back."""
        recipe = {key: value for key, value in asdict(self.recipe).items() if key not in ("name", "epochs", "source")}
        return {
            "model": self.model.name, "recipe": self.recipe.name, "dataset": self.dataset, "epochs": self.epochs,
            "seed": self.seed, "patience": self.patience, "compile": self.compile,
            **recipe, "augment": list(self.recipe.augment),
            "qat": None if self.qat is None else self.qat.settings(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """The best epoch's weights, how they do on the test split in float32, and the history of all epochs."""

    state: dict[str, Tensor]
    best_epoch: int
    evaluation: Evaluation
    history: list[dict[str, Any]]


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
    observer: Observer,
    checkpoints: Checkpoints,
    resume: bool,
    team: Team = ALONE,
) -> Result:
    """Train as `run` says and return the best epoch by test accuracy.

    Raises GateError when the loss is no longer finite, InputError when the checkpoint to resume does not fit or a
    batch is too small for the team.
    """
    if run.recipe.batch_size < team.size:
        raise InputError(f"a batch of {run.recipe.batch_size} cannot be shared by {team.size} processes")
    torch.manual_seed(run.seed)
    network = run.model.build(run.classes)
    initialise(network, run.recipe.init)
    steps = steps_of(len(train_split), run.recipe)
    if run.qat is not None:
        network = run.qat.prepare(network, steps)
    memory_format = torch.channels_last if run.recipe.channels_last else torch.contiguous_format
    network = network.to(device=run.device, memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack it
    images, labels = tensors_from_split(train_split, run.device)
    optimizer = make_optimizer(network, run.recipe)
    scheduler = make_scheduler(optimizer, run.recipe, steps * run.epochs)
    first, history = 0, []
    best: dict[str, Any] = {"epoch": 0, "accuracy": -1.0, "loss": math.inf, "state": {}}
    # Each process reads the file, when the lead has found it good: none takes a pickle from another.
    if resume and team.from_lead(lambda: checkpoints.read(run.settings()) is not None):
        saved = checkpoints.read(run.settings())
        if saved is None:
            raise InputError(f"{checkpoints.last} is seen by the lead alone: all machines need the folder in common")
        saved.restore(network, optimizer, scheduler)
        first, history, best = saved.epoch, saved.history, dict(saved.best)
        del saved  # of AlexNet, half a gigabyte
    else:
        checkpoints.start()
    observer.on_start([Epoch(**record) for record in history])
    wrapped = team.wrap(network)
    trainer = Trainer(
        run,
        network,
        cast(nn.Module, torch.compile(wrapped)) if run.compile else wrapped,
        optimizer,
        scheduler,
        observer,
        team,
    )
    examples = tensors_from_split(test_split, run.device)
    for epoch in range(first + 1, run.epochs + 1):
        if run.patience is not None and epoch - 1 - best["epoch"] >= run.patience:
            break
        started = time.perf_counter()
        network.train()
        loss, accuracy, rate = trainer.epoch(epoch, steps, images, labels)
        judged = _judge(run, network, examples, team, run.recipe.bf16)
        if not math.isfinite(judged.loss):  # the last step's update may do what no step's loss has shown
            raise not_finite(run, epoch, steps, "after")
        record = Epoch(
            epoch, loss, accuracy, judged.loss, judged.accuracy, rate, time.perf_counter() - started, epoch * steps
        )
        history.append(asdict(record))
        if (judged.accuracy, -judged.loss) > (best["accuracy"], -best["loss"]):
            state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            best = {"epoch": epoch, "accuracy": judged.accuracy, "loss": judged.loss, "state": state}
        if team.leads:
            checkpoints.write(
                Checkpoint(
                    epoch, run.settings(), network.state_dict(), optimizer.state_dict(), scheduler.state_dict(), best,
                    history,
                )
            )  # fmt: skip
        observer.on_epoch(record, run.epochs, network)
    # Epochs are compared in the precision of training; what is published is the float32 network's own figure.
    network.load_state_dict(best["state"])
    return Result(best["state"], best["epoch"], _judge(run, network, examples, team, bf16=False), history)


def _judge(run: Run, network: nn.Module, examples: tuple[Tensor, Tensor], team: Team, bf16: bool) -> Evaluation:
    return evaluate(
        network, examples, run.preprocessing, run.classes, run.device, bf16=bf16,
        channels_last=run.recipe.channels_last, team=team,
    )  # fmt: skip


def not_finite(run: Run, epoch: int, step: int, when: str) -> GateError:
    """Return the error that ends a run whose loss is no longer finite."""
    kept = f"the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else "no epoch was finished"
    return GateError(
        f"the loss is no longer finite {when} epoch {epoch}, step {step}; {kept}; "
        f"try a lower --lr than {run.recipe.lr:g}"
    )


@dataclass(frozen=True, slots=True)
class Trainer:
    """What an epoch's steps need. `network` is trained through `wrapped`, which shares gradients within a team."""

    run: Run
    network: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    observer: Observer
    team: Team

    def epoch(self, epoch: int, steps: int, images: Tensor, labels: Tensor) -> tuple[float, float, float]:
        """Train one epoch; return its mean loss, its accuracy on what it trained on, and its examples per second."""
        run, recipe, team = self.run, self.run.recipe, self.team
        # One row a step, summed over the batch: read now and then, since reading waits for the device.
        sums = torch.zeros(steps, 2, device=run.device)
        seen, done = 0, 0
        started = reported = time.perf_counter()
        # Everything random in an epoch starts from (seed, epoch): see checkpoint.py.
        seed = run.seed * 100_003 + epoch
        for inputs, target, size in batches(images, labels, recipe, run.preprocessing, seed, team):
            rate = float(self.scheduler.get_last_lr()[0])
            sums[done] = self._step(inputs, target, size)
            done, seen, now = done + 1, seen + size, time.perf_counter()
            global_step = (epoch - 1) * steps + done
            if (now - reported > _REPORT_INTERVAL_S or global_step % REPORT_STEPS == 0) and done < steps:
                reported = now
                # A share that is not finite ends a team at the epoch's end, when all of it sees that.
                mean, accuracy = self._means(epoch, sums[:done], seen, team.size, check=team.size == 1)
                self.observer.on_step(
                    Step(epoch, run.epochs, done, steps, global_step, mean, accuracy, seen / (now - started), rate)
                )  # fmt: skip
        team.sum_(sums)
        mean, accuracy = self._means(epoch, sums, seen, 1, check=True)
        per_s = seen / (time.perf_counter() - started)
        self.observer.on_step(Step(epoch, run.epochs, steps, steps, epoch * steps, mean, accuracy, per_s, rate))
        return mean, accuracy, per_s

    def _step(self, inputs: Tensor, target: Tensor, size: int) -> Tensor:
        """Make an optimiser step on this process's share of a batch of `size`; return (loss, right), summed over it."""
        recipe = self.run.recipe
        with autocast(self.run.device, recipe.bf16):
            logits = self.wrapped(inputs)
            total = functional.cross_entropy(logits, target, reduction="sum", label_smoothing=recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        # A team averages gradients: times its size, the sum over all shares is the mean over the whole batch.
        (total * (self.team.size / size)).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.scheduler.step()
        return torch.stack([total.detach().float(), (logits.detach().argmax(1) == target).sum().float()])

    def _means(self, epoch: int, sums: Tensor, seen: int, shares: int, check: bool) -> tuple[float, float]:
        """Return loss and accuracy per example so far; `shares`: of how many this process has seen one.

        With `check`, raises GateError, naming the step, when the loss is no longer finite.
        """
        losses, right = sums.cpu().double().unbind(1)
        finite = torch.isfinite(losses)
        if check and not bool(finite.all()):
            raise not_finite(self.run, epoch, int((~finite).nonzero()[0]) + 1, "at")
        return float(losses.sum()) * shares / seen, float(right.sum()) * shares / seen
