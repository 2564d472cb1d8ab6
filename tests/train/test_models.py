import pytest
import torch

import edgeline_train.cli
from edgeline_train.models import MODELS, model_from_name
from edgeline_train.summary import summarise

# Batch-free shapes of the textbook's tables (Dive into Deep Learning, sections 7.6 and 8.1).
LENET = [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
ALEXNET = [
    (96, 54, 54), (96, 26, 26), (256, 26, 26), (256, 12, 12), (384, 12, 12), (384, 12, 12), (256, 12, 12), (256, 5, 5),
    (6400,), (4096,), (4096,), (10,),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shapes", "parameters", "macs"),
    [
        # LeNet by hand: 6*28*28*25 + 16*10*10*150 + 400*120 + 120*84 + 84*10
        ("lenet", LENET, 61_706, 416_520),
        # AlexNet by hand: 96*54*54*121 + 256*26*26*2400 + 384*144*(2304 + 3456) + 256*144*3456
        #                  + 6400*4096 + 4096*4096 + 4096*10
        ("alexnet", ALEXNET, 46_764_746, 938_146_176),
    ],
)
def test_shapes_parameters_and_macs(name, shapes, parameters, macs):
    rows = summarise(MODELS[name])
    layers = [row.output_shape for row in rows if row.kind not in ("Sigmoid", "ReLU", "Dropout")]
    assert layers == shapes
    assert sum(row.parameters for row in rows) == parameters
    assert sum(row.macs for row in rows) == macs


@pytest.mark.parametrize(("name", "activation", "count"), [("lenet", "Sigmoid", 4), ("alexnet", "ReLU", 7)])
def test_activations(name, activation, count):
    kinds = [row.kind for row in summarise(MODELS[name])]
    assert kinds.count(activation) == count
    assert kinds.count("Dropout") == (2 if name == "alexnet" else 0)
    assert kinds.count("AvgPool2d" if name == "lenet" else "MaxPool2d") == (2 if name == "lenet" else 3)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_takes_its_input_shape(name):
    model = model_from_name(name)
    with torch.inference_mode():
        logits = model.build(classes=7).eval()(torch.zeros(2, *model.input_shape))
    assert logits.shape == (2, 7)


def test_list_and_summary(command):
    code, out, _ = command(edgeline_train.cli.main, "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(MODELS)
    code, out, _ = command(edgeline_train.cli.main, "lenet", "--summary")
    assert code == 0
    assert "conv1          Conv2d      6x28x28             156       117,600" in out
    assert out.splitlines()[-1].split() == ["total", "61,706", "416,520"]
