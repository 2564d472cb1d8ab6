"""`train-model MODEL --plot-activations CLASS,...`: what the trained network's first two layers make of test images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from torch import Tensor

from edgeline.errors import InputError
from edgeline_train.activation_plot import plot_activations
from edgeline_train.activations import classes_from_names, examples_of, predictions_of
from edgeline_train.data.datasets import dataset_from_name, load_split, preprocessing_for
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.models import Model
from edgeline_train.models.weights import load_weights, weights_file_name
from edgeline_train.recipes import default_dataset, recipe_for


def run(model: Model, args: argparse.Namespace) -> None:
    """Draw one row for each class that was named; the picture lies beside the weights."""
    dataset = dataset_from_name(args.dataset or default_dataset(model.name, args.recipe))
    recipe_for(model.name, args.recipe, dataset.name)
    path: Path = args.weights / weights_file_name(model.name, dataset.name, args.recipe)
    if not path.exists():
        recipe = "" if args.recipe == "best" else f" --recipe {args.recipe}"
        raise InputError(
            f"there are no weights at {path}; make them: train-model {model.name} --dataset {dataset.name}{recipe}"
        )
    network = model.build(len(dataset.labels))
    info = load_weights(path, network, model)
    preprocessing = preprocessing_for(dataset, model.input_shape, model.pad, (info.mean, info.std))
    classes = classes_from_names(args.plot_activations, info.labels)
    split = load_split(dataset, "test", args.data_root)

    def to_input(pixels: Tensor) -> Tensor:
        return input_from_pixels(pixels, preprocessing)

    chosen = examples_of(classes, split.labels, predictions_of(network, split.images, to_input))
    picture = path.with_suffix(".activations.png")
    plot_activations(network, split.images[chosen], classes, info.labels, to_input, picture)
    print(json.dumps({"picture": str(picture), "examples": chosen}) if args.json else picture)
