"""Every network learns; the small ones reach the figures that are promised for them."""

import dataclasses
import json

import pytest

import edgeline_train.cli
from edgeline_train.checkpoint import Checkpoints
from edgeline_train.data import DATASETS, Split, find_files, load_split, preprocessing_for
from edgeline_train.loop import Run, train
from edgeline_train.models import MODELS
from edgeline_train.observer import Observers
from edgeline_train.recipes import RECIPES, recipe_for

MAIN = edgeline_train.cli.main
FASHION = pytest.mark.skipif(
    find_files(DATASETS["fashion-mnist"]) is None, reason="Fashion-MNIST is not on disk: Debian's dataset-fashion-mnist"
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "alexnet" else name for name in MODELS]
)
def test_every_network_learns_in_a_few_steps(name, tmp_path):
    """The loss of the same sixteen digits after a few steps on them, at the recipe's rate without its schedule."""
    model, dataset = MODELS[name], DATASETS["mnist-10k"]
    digits = load_split(dataset, "train")
    few = Split(digits.images[:16], digits.labels[:16], "train")
    recipe = dataclasses.replace(recipe_for(name, "best", dataset.name), batch_size=16, augment=(), schedule="constant")
    preprocessing = preprocessing_for(dataset, model.input_shape, model.pad)
    run = Run(model, recipe, dataset.name, preprocessing, 10, 10 if name == "alexnet" else 30, 0, "cpu")
    history = train(run, few, few, Observers(), Checkpoints(tmp_path / "c.checkpoint.pt"), False).history
    assert min(epoch["test_loss"] for epoch in history) < 0.8 * history[0]["train_loss"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_published_recipe_trains_for_a_step(name, tmp_path):
    for recipe in RECIPES[name]:
        if recipe.name == "best" or name == "alexnet":  # AlexNet's step in float32 takes seconds
            continue
        model, dataset = MODELS[name], DATASETS["mnist-10k"]
        digits = load_split(dataset, "train")
        few = Split(digits.images[: recipe.batch_size], digits.labels[: recipe.batch_size], "train")
        preprocessing = preprocessing_for(dataset, model.input_shape, model.pad, (0.0, 1.0))
        run = Run(model, recipe, dataset.name, preprocessing, 10, 1, 0, "cpu")
        result = train(run, few, few, Observers(), Checkpoints(tmp_path / "c.checkpoint.pt"), False)
        assert 1.5 < result.history[0]["train_loss"] < 3.5  # about ln 10 before anything is learnt


@pytest.mark.slow
@FASHION
def test_the_textbooks_lenet_lands_where_the_textbook_says(command, tmp_path):
    """Dive into Deep Learning, section 7.6: loss 0.467, test accuracy 0.821."""
    code, out, err = command(MAIN, "lenet", "--recipe", "d2l", "--weights", tmp_path, "--json")
    assert code == 0, err
    epochs = json.loads((tmp_path / "lenet-fashion-mnist-d2l.history.json").read_text())["epochs"]
    assert epochs[-1]["train_loss"] == pytest.approx(0.467, abs=0.03)
    assert json.loads(out)["accuracy"] == pytest.approx(0.82, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dataset", "least"),
    [("lenet5", "mnist-10k", 0.985), pytest.param("lenet-relu", "fashion-mnist", 0.905, marks=FASHION)],
)
def test_our_recipes_reach_what_is_promised(command, tmp_path, model, dataset, least):
    code, out, err = command(MAIN, model, "--dataset", dataset, "--weights", tmp_path, "--json")
    assert code == 0, err
    assert json.loads(out)["accuracy"] >= least
