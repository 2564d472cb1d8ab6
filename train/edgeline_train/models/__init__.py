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
    """A registered network: its class, the input it takes as (C, H, W), and one line for people.

    `pad` says how many rows and columns of that input are added to the image, on each side.
    """

    name: str
    path: str
    input_shape: tuple[int, int, int]
    summary: str
    pad: tuple[int, int] | None = None

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
            "lenet-maxpool",
            "edgeline_train.models.lenet:LeNetMaxPool",
            (1, 28, 28),
            "lenet with max pooling and without padding; 44,426 parameters",
        ),
        Model(
            "lenet-linear",
            "edgeline_train.models.lenet:LeNetLinear",
            (1, 28, 28),
            "lenet with no activation between its dense layers; 61,706 parameters",
        ),
        Model(
            "lenet-relu",
            "edgeline_train.models.lenet:LeNetRelu",
            (1, 28, 28),
            "lenet with ReLU, max pooling and dropout; 61,706 parameters",
        ),
        Model(
            "lenet5",
            "edgeline_train.models.lenet5:LeNet5",
            (1, 32, 32),
            "LeNet-5 of 1998: scaled tanh, learnt subsampling, full connections in C3; 61,750 parameters",
            pad=(2, 2),
        ),
        Model(
            "lenet5-c3",
            "edgeline_train.models.lenet5:LeNet5C3",
            (1, 32, 32),
            "lenet5 with the paper's connection table in C3; 60,850 parameters",
            pad=(2, 2),
        ),
        Model(
            "lenet5-c3-rbf",
            "edgeline_train.models.lenet5:LeNet5C3Rbf",
            (1, 32, 32),
            "lenet5-c3 with the paper's RBF output units: its 60,000 parameters",
            pad=(2, 2),
        ),
        Model(
            "alexnet",
            "edgeline_train.models.alexnet:AlexNet",
            (1, 224, 224),
            "five ReLU convolutions with max pooling, three dense layers; 46,764,746 parameters",
        ),
        Model(
            "alexnet-28",
            "edgeline_train.models.alexnet:AlexNet28",
            (1, 28, 28),
            "alexnet's plan at 28 x 28: narrower, and without its strides; 1,708,298 parameters",
        ),
    )
}


def model_from_name(name: str) -> Model:
    """Look a network up. Raises UnknownNameError, which lists the nearest names."""
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    return MODELS[name]
