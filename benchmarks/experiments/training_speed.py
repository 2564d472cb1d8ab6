"""How fast the training loop is beside the textbook's: the same network, batch and data, in one interleaved run.

    python benchmarks/experiments/training_speed.py [--write docs/results/training-speed.md]

The textbook's loop is what a first course writes: torchvision's data set with ToTensor for each image, DataLoader,
cross-entropy, backward, step. For LeNet both take the recipe `d2l`, so that both do the same arithmetic; for AlexNet
the textbook's is that loop in float32, its images resized by the data set's transform, and ours the recipe `best`.
Rounds alternate, so that drift of the machine hits both; what is reported is the median of the rounds' ratios with the
interval of a bootstrap. To say where the time goes, the textbook's data and the textbook's steps are timed alone too.
"""

from __future__ import annotations

import argparse
import gzip
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision import transforms

from edgeline.files import write_atomically
from edgeline_train.data import DATASETS, Split, find_files, load_split, preprocessing_for
from edgeline_train.evaluation import tensors_from_split
from edgeline_train.loop import Run, Trainer
from edgeline_train.machine import machine_record
from edgeline_train.models import MODELS
from edgeline_train.observer import Observers
from edgeline_train.optimisation import OPTIMIZERS, initialise, make_optimizer, make_scheduler
from edgeline_train.recipes import recipe_for
from edgeline_train.team import ALONE

DATASET = DATASETS["fashion-mnist"]
# (model, our recipe, steps a round)
CASES = (("lenet", "d2l", 40), ("alexnet", "best", 4))
# One loop's stretch: runs so many steps and returns the seconds that they took.
Stretch = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Case:
    """What one network's rounds came to, in examples a second, a figure a round."""

    model: str
    batch: int
    textbook: list[float]
    ours: list[float]
    data_only: list[float]
    steps_only: list[float]

    def ratio(self) -> tuple[float, float, float]:
        """Return the median of ours / textbook, and its 95 % interval by bootstrap over rounds."""
        ratios = np.array(self.ours) / np.array(self.textbook)
        draws = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
        low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
        return float(np.median(ratios)), float(low), float(high)


def textbook_root(folder: Path) -> Path:
    """Lay the data set out as torchvision wants it, unpacked."""
    found = find_files(DATASET)
    if found is None:
        sys.exit(
            "Fashion-MNIST is not on disk: apt-get install dataset-fashion-mnist, or train-model lenet --recipe d2l"
        )
    raw = folder / str(DATASET.folder) / "raw"
    raw.mkdir(parents=True)
    for path in found.iterdir():
        content = path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
    return folder


def textbook_loader(root: Path, model: str, batch: int) -> Iterator[list[Tensor]]:
    """Return batches for ever, as the textbook makes them: each image alone."""
    size = MODELS[model].input_shape[1]
    steps = [transforms.ToTensor()] if size == 28 else [transforms.Resize(size), transforms.ToTensor()]
    data = torchvision.datasets.FashionMNIST(root, train=True, transform=transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True)
    while True:
        yield from loader


def textbook_stretches(root: Path, model: str, recipe_name: str, steps: int) -> dict[str, Stretch]:
    """Return the textbook's loop, its data alone, and its steps alone on a batch that is there."""
    recipe = recipe_for(model, recipe_name, DATASET.name)
    torch.manual_seed(0)
    network = MODELS[model].build()
    initialise(network, recipe.init)
    optimizers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(network.parameters(), lr=recipe.lr),
        "adamw": lambda: torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay),
    }
    assert optimizers.keys() <= OPTIMIZERS.keys()
    optimizer, loss = optimizers[recipe.optimizer](), nn.CrossEntropyLoss()
    loader = textbook_loader(root, model, recipe.batch_size)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()

    def whole() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            step(*next(loader))
        return time.perf_counter() - started

    def data_only() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            next(loader)
        return time.perf_counter() - started

    kept = next(loader)

    def steps_only() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            step(*kept)
        return time.perf_counter() - started

    return {"textbook": whole, "data_only": data_only, "steps_only": steps_only}


def our_stretch(model: str, recipe_name: str, steps: int, split: Split) -> Stretch:
    """Return the product's own loop over an epoch of so many steps: shuffling, batches, reports and all."""
    recipe = recipe_for(model, recipe_name, DATASET.name)
    standardisation = None if recipe.standardise else (0.0, 1.0)
    preprocessing = preprocessing_for(DATASET, MODELS[model].input_shape, MODELS[model].pad, standardisation)
    run = Run(MODELS[model], recipe, DATASET.name, preprocessing, len(DATASET.labels), 1_000, 0, "cpu")
    torch.manual_seed(0)
    network = MODELS[model].build()
    initialise(network, recipe.init)
    if recipe.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimizer = make_optimizer(network, recipe)
    scheduler = make_scheduler(optimizer, recipe, 1_000 * steps)
    trainer = Trainer(run, network, network, optimizer, scheduler, Observers(), ALONE)
    images, labels = tensors_from_split(split, "cpu")
    count = steps * recipe.batch_size
    epoch = 0

    def stretch() -> float:
        nonlocal epoch
        epoch += 1
        started = time.perf_counter()
        trainer.epoch(epoch, steps, images[:count], labels[:count])
        return time.perf_counter() - started

    return stretch


def measure(root: Path, model: str, recipe: str, steps: int, rounds: int, split: Split) -> Case:
    """Run the interleaved rounds, after one that is not counted."""
    stretches = textbook_stretches(root, model, recipe, steps)
    stretches["ours"] = our_stretch(model, recipe, steps, split)
    rates: dict[str, list[float]] = {name: [] for name in stretches}
    batch = recipe_for(model, recipe, DATASET.name).batch_size
    for turn in range(rounds + 1):
        for name in sorted(stretches, reverse=bool(turn % 2)):
            seconds = stretches[name]()
            if turn:
                rates[name].append(steps * batch / seconds)
        print(f"{model}: round {turn} of {rounds}", file=sys.stderr, flush=True)
    return Case(model=model, batch=batch, **rates)


def table_of(cases: list[Case], rounds: int) -> str:
    """Return the result as Markdown."""
    machine = machine_record("cpu", 1)
    lines = [
        "# Training speed beside the textbook's loop",
        "",
        f"`{' '.join(['python', *sys.argv])}`",
        "",
        f"{rounds} interleaved rounds, DataLoader in the same process (its default); {machine['cpu']},",
        f"{machine['threads']} threads, torch {machine['torch']}, {platform.system()}. Examples per second,",
        "medians of the rounds; the ratio is the median of the rounds' ratios, with its 95 % interval.",
        "",
        "| network | batch | textbook | its data alone | its steps alone | ours | ours / textbook |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in cases:
        ratio, low, high = case.ratio()
        columns = (case.textbook, case.data_only, case.steps_only, case.ours)
        figures = " | ".join(f"{statistics.median(rates):,.0f}" for rates in columns)
        lines.append(f"| {case.model} | {case.batch} | {figures} | {ratio:.2f} ({low:.2f} to {high:.2f}) |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds that count (11)")
    parser.add_argument("--models", nargs="+", default=[case[0] for case in CASES], help="which of lenet, alexnet")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    args = parser.parse_args()
    split = load_split(DATASET, "train")
    with tempfile.TemporaryDirectory() as folder:
        root = textbook_root(Path(folder))
        cases = [
            measure(root, model, recipe, steps, args.rounds, split)
            for model, recipe, steps in CASES if model in args.models
        ]  # fmt: skip
    text = table_of(cases, args.rounds)
    print(text)
    if args.write:
        write_atomically(args.write, text)


if __name__ == "__main__":
    main()
