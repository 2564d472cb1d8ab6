import pytest

from edgeline.errors import InputError, UnknownNameError
from edgeline_train.augment import AUGMENTATIONS
from edgeline_train.data import DATASETS
from edgeline_train.models import MODELS
from edgeline_train.optimisation import OPTIMIZERS
from edgeline_train.recipes import RECIPES, default_dataset, recipe_for, recipe_names


def test_every_model_has_a_default_recipe_for_every_data_set_and_only_one():
    assert RECIPES.keys() == MODELS.keys()
    for model, recipes in RECIPES.items():
        for name in recipe_names(model):
            named = [dataset for recipe in recipes if recipe.name == name for dataset in recipe.epochs]
            assert len(named) == len(set(named)), (model, name)
            if name == "best":
                assert set(named) == set(DATASETS), model
        assert recipe_names(model)[0] == "best"
        assert default_dataset(model, "best") == "mnist-10k"


@pytest.mark.parametrize("model", RECIPES)
def test_recipes_name_what_there_is(model):
    for recipe in RECIPES[model]:
        assert recipe.optimizer in OPTIMIZERS
        assert set(recipe.augment) <= AUGMENTATIONS.keys()
        assert recipe.schedule in ("one-cycle", "cosine", "constant")
        assert recipe.init in ("default", "xavier")
        assert recipe.epochs.keys() <= DATASETS.keys()


# What the exercises say, typed from their table: (model, recipe, data set, batch, optimiser, rate, epochs, Xavier).
PUBLISHED = [
    ("lenet", "d2l", "fashion-mnist", 256, "sgd", 0.9, 10, True),
    ("lenet-maxpool", "published", "fashion-mnist", 256, "sgd", 0.9, 5, True),
    ("lenet-linear", "published", "mnist", 64, "sgd", 0.05, 20, False),
    ("lenet5", "published", "mnist", 64, "adam", 1e-3, 10, False),
    ("alexnet", "d2l", "fashion-mnist", 128, "sgd", 0.01, 5, True),
    ("alexnet", "adam", "fashion-mnist", 128, "adam", 1e-3, 5, False),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row[0]}-{row[1]}")
def test_published_set_ups(row):
    model, name, dataset, batch, optimizer, rate, epochs, xavier = row
    recipe = recipe_for(model, name, dataset)
    assert default_dataset(model, name) == dataset
    assert (recipe.batch_size, recipe.optimizer, recipe.lr) == (batch, optimizer, rate)
    assert recipe.epochs[dataset] == epochs
    assert (recipe.init == "xavier") is xavier
    # Nothing of ours comes in.
    assert (recipe.schedule, recipe.augment, recipe.label_smoothing, recipe.bf16) == ("constant", (), 0.0, False)
    assert recipe.momentum == 0
    assert recipe.standardise is (model == "lenet5")
    assert recipe.weight_decay == (5e-4 if name == "adam" else 0)


def test_unknown_recipes():
    with pytest.raises(UnknownNameError, match=r"unknown recipe of lenet 'd2' .did you mean d2l"):
        recipe_for("lenet", "d2", "fashion-mnist")
    with pytest.raises(InputError, match="recipe 'adam' is one of alexnet, not of lenet"):
        recipe_for("lenet", "adam", "fashion-mnist")
    with pytest.raises(InputError, match="recipe 'd2l' of lenet is made for fashion-mnist, not for mnist"):
        recipe_for("lenet", "d2l", "mnist")
