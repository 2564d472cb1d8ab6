"""Recipes as data: one literal record per model and name. The loop in edgeline_train.loop reads them; nothing else.

`best` is the default of every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeline.errors import InputError, UnknownNameError
from edgeline_train.models.weights import DEFAULT_RECIPE


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    `epochs` is per data set, since the embedded digits are few. `lr` is the peak of a one-cycle schedule (Smith and
    Topin 2018) whose rise takes `warmup` of all steps. `affine` is the strength of the random affine augmentation, 0
    for none (edgeline_train.augment). `bf16` trains under autocast, `channels_last` in NHWC memory order.
    """

    name: str
    epochs: Mapping[str, int]
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float = 0.0
    warmup: float = 0.2
    affine: float = 0.0
    init: str = "default"
    bf16: bool = False
    channels_last: bool = False


RECIPES: dict[str, tuple[Recipe, ...]] = {
    "lenet": (
        Recipe(
            name="best",
            epochs={"mnist-10k": 40, "mnist": 8, "fashion-mnist": 12},
            batch_size=64,
            optimizer="adam",
            lr=0.02,
            affine=1.0,
            init="xavier",
        ),
    ),
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
    ),
}


def recipe_for(model: str, name: str, dataset: str) -> Recipe:
    """Look a recipe up. Raises UnknownNameError for an unknown one, InputError when it does not know the data set."""
    recipes = {recipe.name: recipe for recipe in RECIPES[model]}
    if name not in recipes:
        raise UnknownNameError(f"recipe of {model}", name, recipes)
    if dataset not in recipes[name].epochs:
        raise InputError(f"recipe '{name}' of {model} is made for {', '.join(recipes[name].epochs)}, not for {dataset}")
    return recipes[name]


__all__ = ["DEFAULT_RECIPE", "RECIPES", "Recipe", "recipe_for"]
