import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.utils import parametrizations

from edgeline.errors import InputError, MissingCapabilityError, UnknownNameError
from edgeline_train import figures
from edgeline_train.activation_plot import plot_activations
from edgeline_train.activations import classes_from_names, examples_of, feature_maps, predictions_of, tile
from edgeline_train.data import DATASETS
from edgeline_train.models import MODELS

CLOTHES = DATASETS["fashion-mnist"].labels


class ScaledTanh(nn.Module):
    """A network's own activation."""

    def forward(self, x):
        return 1.7159 * torch.tanh(2 / 3 * x)


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_maps_and_is_left_as_it_was(name):
    model = MODELS[name]
    network = model.build().train()
    maps = feature_maps(network, torch.zeros(2, *model.input_shape))
    assert len(maps) == 2
    assert all(layer.maps.dtype == torch.float32 and layer.maps.dim() == 4 and len(layer.maps) == 2 for layer in maps)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_lenets_maps_are_those_behind_its_sigmoids():
    network, inputs = MODELS["lenet"].build(), torch.rand(3, 1, 28, 28)
    first, second = feature_maps(network, inputs)
    after_first = torch.sigmoid(network.conv1(inputs))
    assert (first.name, first.activation, second.name) == ("conv1", "Sigmoid", "conv2")
    torch.testing.assert_close(first.maps, after_first.detach())
    torch.testing.assert_close(
        second.maps, torch.sigmoid(network.conv2(nn.functional.avg_pool2d(after_first, 2))).detach()
    )


@pytest.mark.parametrize(
    ("behind", "activation"),
    [
        (nn.ReLU(), "ReLU"),
        (nn.ReLU(inplace=True), "ReLU"),
        (nn.PReLU(), "PReLU"),
        (ScaledTanh(), "ScaledTanh"),
        (nn.BatchNorm2d(4), ""),
        (nn.MaxPool2d(3, 1, 1), ""),
        (nn.Softmax2d(), ""),
        (nn.Dropout(), ""),
        (nn.Identity(), ""),
    ],
    ids=str,
)
def test_only_an_activation_is_taken_for_one(behind, activation):
    convolution = nn.Conv2d(1, 4, 3)
    inputs = torch.randn(2, 1, 8, 8)
    own = convolution(inputs).detach()
    (layer,) = feature_maps(nn.Sequential(convolution, behind), inputs)
    assert layer.activation == activation
    expected = behind.eval()(own.clone()).detach() if activation else own
    torch.testing.assert_close(layer.maps, expected)


def test_convolutions_come_in_the_order_in_which_they_run():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second = nn.Conv2d(2, 3, 1)
            self.first = parametrizations.weight_norm(nn.Conv2d(1, 2, 1))
            self.act = nn.ReLU()  # one module for both

        def forward(self, x):
            return self.act(self.second(self.act(self.first(x))))

    maps = feature_maps(Backwards(), torch.ones(1, 1, 2, 2), layers=3)
    assert [(layer.name, layer.activation, layer.maps.shape[1]) for layer in maps] == [
        ("first", "ReLU", 2),
        ("second", "ReLU", 3),
    ]


def test_a_network_that_fails_loses_its_hooks_too():
    network = MODELS["lenet"].build().train()
    with pytest.raises(RuntimeError):
        feature_maps(network, torch.zeros(1, 3, 28, 28))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("coat,sweater", [4, 2]),
        (" Coat , T-Shirt", [4, 0]),
        ("shirt,shirt", [6, 6]),
        ("jumper,trousers,pants,tshirt,tee,boot,ankle boot,sneakers", [2, 1, 1, 0, 0, 9, 9, 7]),
    ],
)
def test_names_of_clothes(names, classes):
    assert classes_from_names(names, CLOTHES) == classes


def test_digits_are_names_too_and_have_no_aliases():
    digits = DATASETS["mnist"].labels
    assert classes_from_names("7,0", digits) == [7, 0]
    with pytest.raises(UnknownNameError, match="unknown class 'sweater'.*known: 0, 1, 2, 3"):
        classes_from_names("sweater", digits)


def test_a_name_that_is_a_label_is_no_alias():
    assert classes_from_names("boot", ("ankle-boot", "boot")) == [1]


def test_an_unknown_name_is_told_the_labels():
    with pytest.raises(UnknownNameError, match="unknown class 'cot' .did you mean coat.*ankle-boot, bag"):
        classes_from_names("coat,cot", CLOTHES)
    with pytest.raises(InputError, match="separated by commas; known: t-shirt, trouser"):
        classes_from_names(" , ", CLOTHES)


def test_the_first_right_example_is_chosen_else_the_first():
    labels, predictions = np.array([1, 0, 1, 1, 2, 0]), np.array([0, 0, 1, 1, 1, 0])
    assert examples_of([1, 2, 0], labels, predictions) == [2, 4, 1]
    assert examples_of([1, 1, 1], labels, predictions) == [2, 3, 0]
    with pytest.raises(InputError, match="class 2 has only 1 examples, 2 were asked for"):
        examples_of([2, 2], labels, predictions)


def test_tiles_lie_row_by_row_with_a_gap():
    maps = np.arange(5, dtype=np.float32).reshape(5, 1, 1)
    np.testing.assert_array_equal(tile(maps, gap=-1), [[0, -1, 1, -1, 2], [-1] * 5, [3, -1, 4, -1, -1]])


@pytest.mark.parametrize(("maps", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (6, 2, 3), (16, 4, 4), (64, 8, 8)])
def test_tiles_are_about_square(maps, rows, columns):
    assert tile(np.zeros((maps, 4, 4), np.float32)).shape == (rows * 5 - 1, columns * 5 - 1)


def to_input(images):
    return images.unsqueeze(1).float() / 255


def test_predictions_are_the_networks_own():
    network = MODELS["lenet"].build()
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    with torch.no_grad():
        expected = network.eval()(to_input(torch.from_numpy(images))).argmax(1).numpy()
    np.testing.assert_array_equal(predictions_of(network, images, to_input, batch=2), expected)


def test_the_picture_is_written_whole(tmp_path):
    network = MODELS["lenet"].build()
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)
    plot_activations(network, images, [4, 2], CLOTHES, to_input, tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100
    assert [path.name for path in tmp_path.iterdir()] == ["maps.png"]


def test_the_picture_may_be_svg(tmp_path):
    images = np.zeros((1, 28, 28), np.uint8)
    plot_activations(MODELS["lenet"].build(), images, [4], CLOTHES, to_input, tmp_path / "maps.svg")
    assert ElementTree.parse(tmp_path / "maps.svg").getroot().tag.endswith("svg")


def test_other_pictures_are_refused(tmp_path, monkeypatch):
    images = np.zeros((1, 28, 28), np.uint8)
    with pytest.raises(InputError, match=r"ends in .png or .svg, got '.*maps.jpg': name it maps.png"):
        plot_activations(MODELS["lenet"].build(), images, [4], CLOTHES, to_input, tmp_path / "maps.jpg")
    with pytest.raises(InputError, match="no convolution"):
        dense = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        plot_activations(dense, images, [4], CLOTHES, to_input, tmp_path / "maps.png")
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(MissingCapabilityError, match=r"pip install 'edgeline\[train\]'"):
        figures.check_picture(tmp_path / "maps.png")
    assert not list(tmp_path.iterdir())
