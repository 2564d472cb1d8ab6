"""Recipes as data: literal records, each how one network is trained on some data sets. The loop reads nothing else.

`best` is the default of every network and ours; the others reproduce published set-ups, whose source they name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeline.errors import InputError, UnknownNameError
from edgeline_train.models.weights import DEFAULT_RECIPE


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained on the data sets that `epochs` names; the first of them is the default.

    `lr` is the peak of the schedule: "one-cycle" (Smith and Topin 2018; its rise takes `warmup` of all steps),
    "cosine", or "constant". `augment` names what edgeline_train.augment varies. `init` is torch's own ("default"),
    "xavier" (Glorot's uniform, biases as torch draws them), or what the network's paper did, if its module does that.
    `standardise` subtracts the training pixels' mean and divides by their deviation; without it pixels are 0 to 1.
    `bf16` trains under autocast, `channels_last` in NHWC memory order.
    """

    name: str
    epochs: Mapping[str, int]
    batch_size: int
    optimizer: str
    lr: float
    source: str = "ours"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "one-cycle"
    warmup: float = 0.2
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    init: str = "default"
    standardise: bool = True
    bf16: bool = False
    channels_last: bool = False


_LENET5 = (
    Recipe(
        name="best",
        epochs={"mnist-10k": 50, "mnist": 10},
        batch_size=64,
        optimizer="adam",
        lr=2e-3,
        augment=("affine",),
    ),
    Recipe(
        name="best",
        epochs={"fashion-mnist": 20},
        batch_size=128,
        optimizer="adam",
        lr=4e-3,
        augment=("flip",),
    ),
    Recipe(
        name="published",
        source="a published LeNet-5 exercise: standardised MNIST, Adam at 1e-3, 10 epochs; no batch size, no result",
        epochs={"mnist": 10, "mnist-10k": 10},
        batch_size=64,
        optimizer="adam",
        lr=1e-3,
        schedule="constant",
    ),
)

RECIPES: dict[str, tuple[Recipe, ...]] = {
    "lenet": (
        Recipe(
            name="best",
            epochs={"mnist-10k": 40, "mnist": 8},
            batch_size=64,
            optimizer="adam",
            lr=0.02,
            augment=("affine",),
            init="xavier",
        ),
        Recipe(
            name="best",
            epochs={"fashion-mnist": 20},
            batch_size=128,
            optimizer="adam",
            lr=0.02,
            init="xavier",
        ),
        Recipe(
            name="d2l",
            source="Zhang et al., Dive into Deep Learning, 7.6: loss 0.467, train accuracy 0.825, test accuracy 0.821",
            epochs={"fashion-mnist": 10},
            batch_size=256,
            optimizer="sgd",
            lr=0.9,
            schedule="constant",
            init="xavier",
            standardise=False,
        ),
    ),
    "lenet-maxpool": (
        Recipe(
            name="best",
            epochs={"mnist-10k": 40, "mnist": 8},
            batch_size=64,
            optimizer="adam",
            lr=0.02,
            augment=("affine",),
            init="xavier",
        ),
        Recipe(
            name="best",
            epochs={"fashion-mnist": 20},
            batch_size=128,
            optimizer="adam",
            lr=0.02,
            init="xavier",
        ),
        Recipe(
            name="published",
            source="a published LeNet exercise: batch 256, Xavier, SGD at 0.9 for 5 epochs; it states no result",
            epochs={"fashion-mnist": 5},
            batch_size=256,
            optimizer="sgd",
            lr=0.9,
            schedule="constant",
            init="xavier",
            standardise=False,
        ),
    ),
    "lenet-linear": (
        Recipe(
            name="best",
            epochs={"mnist-10k": 40, "mnist": 8},
            batch_size=64,
            optimizer="adam",
            lr=0.01,
            augment=("affine",),
            init="xavier",
        ),
        Recipe(
            name="best",
            epochs={"fashion-mnist": 20},
            batch_size=128,
            optimizer="adam",
            lr=0.01,
            init="xavier",
        ),
        Recipe(
            name="published",
            source="a published LeNet exercise: batch 64, SGD at 0.05 for 20 epochs, TensorBoard; it states no result",
            epochs={"mnist": 20, "mnist-10k": 20},
            batch_size=64,
            optimizer="sgd",
            lr=0.05,
            schedule="constant",
            standardise=False,
        ),
    ),
    "lenet-relu": (
        Recipe(
            name="best",
            epochs={"mnist-10k": 40, "mnist": 12},
            batch_size=64,
            optimizer="adam",
            lr=4e-3,
            augment=("affine",),
        ),
        Recipe(
            name="best",
            epochs={"fashion-mnist": 25},
            batch_size=128,
            optimizer="adam",
            lr=4e-3,
            augment=("flip",),
        ),
    ),
    "lenet5": _LENET5,
    "lenet5-c3": _LENET5,
    "lenet5-c3-rbf": _LENET5,
    "alexnet": (
        Recipe(
            name="best",
            epochs={"mnist-10k": 4, "mnist": 2, "fashion-mnist": 5},
            batch_size=64,
            optimizer="adamw",
            lr=3e-4,
            weight_decay=0.01,
            bf16=True,
            channels_last=True,
        ),
        Recipe(
            name="d2l",
            source="Zhang et al., Dive into Deep Learning, 8.1, cut to 5 epochs; the book ends near 0.88 after 10",
            epochs={"fashion-mnist": 5},
            batch_size=128,
            optimizer="sgd",
            lr=0.01,
            schedule="constant",
            init="xavier",
            standardise=False,
        ),
        Recipe(
            name="adam",
            source="the same exercise with Adam and weight decay; it states no result",
            epochs={"fashion-mnist": 5},
            batch_size=128,
            optimizer="adam",
            lr=1e-3,
            weight_decay=5e-4,
            schedule="constant",
            standardise=False,
        ),
    ),
    "alexnet-28": (
        Recipe(
            name="best",
            epochs={"mnist-10k": 20, "mnist": 6},
            batch_size=128,
            optimizer="adamw",
            lr=1e-3,
            weight_decay=0.01,
            augment=("affine",),
            bf16=True,
            channels_last=True,
        ),
        Recipe(
            name="best",
            epochs={"fashion-mnist": 20},
            batch_size=128,
            optimizer="adamw",
            lr=1e-3,
            weight_decay=0.01,
            augment=("flip", "crop"),
            bf16=True,
            channels_last=True,
        ),
    ),
}


def default_dataset(model: str, name: str) -> str:
    """Return the data set that a recipe is meant for. Raises UnknownNameError for an unknown recipe."""
    return next(iter(_of_name(model, name)[0].epochs))


def recipe_for(model: str, name: str, dataset: str) -> Recipe:
    """Look a recipe up. Raises UnknownNameError for an unknown one, InputError when it does not know the data set."""
    records = _of_name(model, name)
    for record in records:
        if dataset in record.epochs:
            return record
    known = ", ".join(known for record in records for known in record.epochs)
    raise InputError(f"recipe '{name}' of {model} is made for {known}, not for {dataset}; leave --recipe out for ours")


def recipe_names(model: str) -> list[str]:
    """Return the names of a network's recipes, the default first."""
    return list(dict.fromkeys(recipe.name for recipe in RECIPES[model]))


def _of_name(model: str, name: str) -> list[Recipe]:
    records = [recipe for recipe in RECIPES[model] if recipe.name == name]
    if not records:
        elsewhere = [other for other in RECIPES if other != model and name in recipe_names(other)]
        if elsewhere:
            raise InputError(
                f"recipe '{name}' is one of {', '.join(elsewhere)}, not of {model}, which has "
                f"{', '.join(recipe_names(model))}"
            )
        raise UnknownNameError(f"recipe of {model}", name, recipe_names(model))
    return records


__all__ = ["DEFAULT_RECIPE", "RECIPES", "Recipe", "default_dataset", "recipe_for", "recipe_names"]
