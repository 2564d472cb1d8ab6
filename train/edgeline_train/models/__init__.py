"""The networks: one module each, in a literal table. Importing the table imports no torch.

Adding a network: its module here, its line in MODELS, its recipe in edgeline_train.recipes (and its test).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeline.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Model:
    """A registered network: its class, the input it takes as (C, H, W), and one line for people."""

    name: str
    path: str
    input_shape: tuple[int, int, int]
    summary: str

    def build(self, classes: int = 10) -> nn.Module:
        """Return the network in train mode, initialised from torch's global random state."""
        module, _, name = self.path.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), name)(classes)
        return network


MODELS = {
    model.name: model
    for model in (
        Model(
            "lenet",
            "edgeline_train.models.lenet:LeNet",
            (1, 28, 28),
            "two sigmoid convolutions with average pooling, three dense layers; 61,706 parameters",
        ),
        Model(
            "alexnet",
            "edgeline_train.models.alexnet:AlexNet",
            (1, 224, 224),
            "five ReLU convolutions with max pooling, three dense layers; 46,764,746 parameters",
        ),
    )
}


def model_from_name(name: str) -> Model:
    """Look a network up. Raises UnknownNameError, which lists the nearest names."""
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    return MODELS[name]
