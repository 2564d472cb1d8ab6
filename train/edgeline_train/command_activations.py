"""`train-model MODEL --plot-activations CLASS,...`: what the trained network's first two layers make of test images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from torch import Tensor

from edgeline.errors import InputError
from edgeline_train.activation_plot import plot_activations
from edgeline_train.activations import classes_from_names, examples_of, predictions_of
from edgeline_train.data.datasets import dataset_from_name, load_split, preprocessing_for
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.loop import choose_device
from edgeline_train.models import Model
from edgeline_train.models.weights import DEFAULT_FOLDER, DEFAULT_RECIPE, load_weights, weights_file_name
from edgeline_train.recipes import default_dataset, recipe_for

_LOOKED_AT = 20


def run(model: Model, args: argparse.Namespace) -> None:
    """Draw one row for each class that was named; the picture lies beside the weights."""
    dataset = dataset_from_name(args.dataset or default_dataset(model.name, args.recipe))
    recipe_for(model.name, args.recipe, dataset.name)
    path: Path = args.weights / weights_file_name(model.name, dataset.name, args.recipe, _bits(args))
    if not path.exists():
        recipe = "" if args.recipe == DEFAULT_RECIPE else f" --recipe {args.recipe}"
        recipe += " --qat" if args.qat else ""
        recipe += "" if args.weights == DEFAULT_FOLDER else f" --weights {args.weights}"
        raise InputError(
            f"there are no weights at {path}; make them: train-model {model.name} --dataset {dataset.name}{recipe}"
        )
    network = model.build(len(dataset.labels))
    info = load_weights(path, network, model)
    network.to(choose_device(args.device))
    preprocessing = preprocessing_for(dataset, model.input_shape, model.pad, (info.mean, info.std))
    classes = classes_from_names(args.plot_activations, info.labels)
    split = load_split(dataset, "test", args.data_root)

    def to_input(pixels: Tensor) -> Tensor:
        return input_from_pixels(pixels, preprocessing)

    # What is drawn is looked for among the first images of each class: nobody waits for AlexNet to judge 10,000.
    some = np.sort(np.concatenate([np.flatnonzero(split.labels == label)[:_LOOKED_AT] for label in set(classes)]))
    found = examples_of(classes, split.labels[some], predictions_of(network, split.images[some], to_input))
    chosen = [int(some[index]) for index in found]
    picture = path.with_suffix(".activations.png")
    plot_activations(network, split.images[chosen], classes, info.labels, to_input, picture)
    print(json.dumps({"picture": str(picture), "examples": chosen}) if args.json else picture)


def _bits(args: argparse.Namespace) -> int | None:
    return (args.qat_weight_bits or 8) if args.qat else None
