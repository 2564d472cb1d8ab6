import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import edgeline_train.cli
from edgeline_train.models import MODELS, lenet5, model_from_name
from edgeline_train.models.digit_codes import codes_for
from edgeline_train.models.plain import plain_network
from edgeline_train.summary import summarise

# Shapes of the textbook's tables (Dive into Deep Learning, sections 7.6 and 8.1), and of LeNet-5's Figure 2.
LENET = [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
ALEXNET = [
    (96, 54, 54), (96, 26, 26), (256, 26, 26), (256, 12, 12), (384, 12, 12), (384, 12, 12), (256, 12, 12), (256, 5, 5),
    (6400,), (4096,), (4096,), (10,),
]  # fmt: skip
LENET_VALID = [(6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (256,), (120,), (84,), (10,)]
LENET_5 = [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (120,), (84,), (10,)]
ALEXNET_28 = [
    (64, 28, 28), (64, 14, 14), (128, 14, 14), (128, 7, 7), (192, 7, 7), (192, 7, 7), (128, 7, 7), (128, 3, 3),
    (1152,), (512,), (512,), (10,),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shapes", "parameters", "macs"),
    [
        # LeNet by hand: 6*28*28*25 + 16*10*10*150 + 400*120 + 120*84 + 84*10
        ("lenet", LENET, 61_706, 416_520),
        # AlexNet by hand: 96*54*54*121 + 256*26*26*2400 + 384*144*(2304 + 3456) + 256*144*3456
        #                  + 6400*4096 + 4096*4096 + 4096*10
        ("alexnet", ALEXNET, 46_764_746, 938_146_176),
        ("lenet-linear", LENET, 61_706, 416_520),
        ("lenet-relu", LENET, 61_706, 416_520),
        # 6*25 + 6, 16*150 + 16, 256*120 + 120, 120*84 + 84, 84*10 + 10;
        # 6*24*24*25, 16*8*8*150, 256*120, 120*84, 84*10
        ("lenet-maxpool", LENET_VALID, 156 + 2_416 + 30_840 + 10_164 + 850, 86_400 + 153_600 + 30_720 + 10_080 + 840),
        # The layers of the paper's section II.B, with a full C3 (2,416) and a linear output (850), then without either.
        # MACs: 6*28*28*25, 16*10*10*150, 120*400, 120*84, 84*10; Table I leaves 60*25 of C3's 96*25, at 10*10 places.
        ("lenet5", LENET_5, 156 + 12 + 2_416 + 32 + 48_120 + 10_164 + 850, 117_600 + 240_000 + 48_000 + 10_080 + 840),
        ("lenet5-c3", LENET_5, 60_000 + 850, 117_600 + 150_000 + 48_000 + 10_080 + 840),
        ("lenet5-c3-rbf", LENET_5, 60_000, 117_600 + 150_000 + 48_000 + 10_080),
        # 64*25 + 64, 128*64*9 + 128, 192*128*9 + 192, 192*192*9 + 192, 128*192*9 + 128, 1152*512 + 512, 512*512 + 512,
        # 512*10 + 10; 784*64*25 + 196*128*576 + 49*(192*1152 + 192*1728 + 128*1728) + 1152*512 + 512*512 + 5120
        (
            "alexnet-28", ALEXNET_28, 1_664 + 73_856 + 221_376 + 331_968 + 221_312 + 590_336 + 262_656 + 5_130,
            1_254_400 + 14_450_688 + 49 * (221_184 + 331_776 + 221_184) + 589_824 + 262_144 + 5_120,
        ),
    ],
)  # fmt: skip
def test_shapes_parameters_and_macs(name, shapes, parameters, macs):
    rows = summarise(MODELS[name])
    layers = [row.output_shape for row in rows if row.kind not in ("Sigmoid", "ReLU", "ScaledTanh", "Dropout")]
    assert layers == shapes
    assert sum(row.parameters for row in rows) == parameters
    assert sum(row.macs for row in rows) == macs


@pytest.mark.parametrize(
    ("name", "activation", "count", "pooling", "poolings", "dropouts"),
    [
        ("lenet", "Sigmoid", 4, "AvgPool2d", 2, 0),
        ("lenet-maxpool", "Sigmoid", 4, "MaxPool2d", 2, 0),
        ("lenet-linear", "Sigmoid", 2, "AvgPool2d", 2, 0),
        ("lenet-relu", "ReLU", 4, "MaxPool2d", 2, 2),
        ("lenet5", "ScaledTanh", 6, "Subsampling", 2, 0),
        ("lenet5-c3", "ScaledTanh", 6, "Subsampling", 2, 0),
        ("lenet5-c3-rbf", "ScaledTanh", 6, "Subsampling", 2, 0),
        ("alexnet", "ReLU", 7, "MaxPool2d", 3, 2),
        ("alexnet-28", "ReLU", 7, "MaxPool2d", 3, 2),
    ],
)
def test_activations(name, activation, count, pooling, poolings, dropouts):
    kinds = [row.kind for row in summarise(MODELS[name])]
    assert (kinds.count(activation), kinds.count(pooling), kinds.count("Dropout")) == (count, poolings, dropouts)


def test_the_table_of_activations_has_every_network():
    marks = test_activations.pytestmark + test_shapes_parameters_and_macs.pytestmark
    assert [{row[0] for row in mark.args[1]} for mark in marks] == [set(MODELS)] * 2


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
    code, out, _ = command(edgeline_train.cli.main, "lenet", "--list")
    assert code == 0
    assert "d2l: fashion-mnist (10 epochs)\n  sgd at 0.9, constant, batch 256\n  source: Zhang et al." in out
    assert "best: mnist-10k (40 epochs), mnist (8 epochs)\n  adam at 0.02, one-cycle, batch 64, affine" in out
    code, out, _ = command(edgeline_train.cli.main, "lenet", "--summary")
    assert code == 0
    assert "conv1          Conv2d      6x28x28             156       117,600" in out
    assert out.splitlines()[-1].split() == ["total", "61,706", "416,520"]


# --- LeNet-5 against its paper ----------------------------------------------------------------------------------------

# Table I of LeCun et al. 1998, as it is printed: a row for each map of S2, a column for each map of C3.
TABLE_I = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""


def test_the_connection_table_is_the_papers():
    rows = [line.split() for line in TABLE_I.strip().splitlines()]
    columns = [tuple(source for source in range(6) if rows[source][output] == "X") for output in range(16)]
    assert tuple(columns) == lenet5.C3_TABLE
    # "The first six take three, the next six and three four, the last one all six": 6 * 3 + 9 * 4 + 1 * 6 kernels.
    assert [len(column) for column in columns] == [3] * 6 + [4] * 9 + [6]
    assert sum(map(len, columns)) == 60


def test_the_trainable_parameters_of_each_layer_are_the_papers():
    layers = dict(MODELS["lenet5-c3-rbf"].build().named_children())
    counts = {
        name: sum(p.numel() for p in layers[name].parameters() if p.requires_grad)
        for name in ["c1", "s2", "c3", "s4", "c5", "f6"]
    }
    assert counts == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert sum(p.numel() for p in MODELS["lenet5-c3-rbf"].build().parameters()) == 60_000


def test_a_map_of_c3_sees_its_maps_of_s2_alone():
    """Against a convolution of each map by itself, kernel by kernel."""
    torch.manual_seed(0)
    table = ((0,), (1, 2), (0, 2))
    layer = lenet5.PartialConv(3, table, 3)
    x = torch.randn(2, 3, 6, 7)
    kernels = iter(layer.kernels.detach())
    for output, sources in enumerate(table):
        maps = [nn.functional.conv2d(x[:, [i]], next(kernels)[None, None]) for i in sources]
        torch.testing.assert_close(layer(x)[:, output], (sum(maps) + layer.bias[output])[:, 0])
    assert {name for name, _ in layer.named_parameters()} == {"bias", "parametrizations.weight.original"}


def test_a_missing_connection_stays_missing_in_training():
    layer = lenet5.PartialConv(3, ((0,), (1, 2)), 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.1)
    before = layer.weight.detach().clone()
    layer(torch.randn(4, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    there = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.bool)
    assert (layer.weight[~there] == 0).all()
    assert (layer.weight[there] != before[there]).any(dim=(1, 2)).all()


def test_weights_start_as_appendix_a_says():
    """Uniform within 2.4 / fan-in; with so many draws, the largest comes near to the limit."""
    torch.manual_seed(0)
    network = MODELS["lenet5-c3"].build()
    for layer, fan_in in ((network.c1, 25), (network.c5, 400), (network.f6, 120), (network.output, 84)):
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= 2.4 / fan_in
        assert layer.weight.abs().max() > 0.9 * 2.4 / fan_in
    for output, sources in enumerate(lenet5.C3_TABLE):
        limit = 2.4 / (25 * len(sources))
        assert 0.9 * limit < network.c3.weight[output].abs().max() <= limit
        assert network.c3.bias[output].abs() <= limit


def test_the_squashing_function():
    """Appendix A: f(1) = 1 and f(-1) = -1, and the second derivative is largest there; A = 1.7159."""
    x = torch.tensor([0.0, 1.0, -1.0, 100.0], dtype=torch.float64)
    found = lenet5.ScaledTanh()(x)
    np.testing.assert_allclose(found, [0, 1, -1, 1.7159], atol=5e-5)


def test_subsampling_by_hand():
    layer = lenet5.Subsampling(2)
    with torch.no_grad():
        layer.coefficient[:, 0, 0] = torch.tensor([2.0, -1.0])
        layer.bias[:, 0, 0] = torch.tensor([0.5, 0.0])
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[1.0, 1.0], [1.0, 5.0]]]])  # means 3 and 2
    assert layer(x).detach().flatten().tolist() == [6.5, -2.0]


def test_output_units_are_distances_from_the_codes():
    x = torch.randn(5, 84, dtype=torch.float64)
    layer = lenet5.RbfOutput(10).double()
    expected = -(torch.cdist(x, layer.codes) ** 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)
    assert not list(layer.parameters())
    assert layer.state_dict().keys() == {"codes"}
    torch.testing.assert_close(layer(layer.codes).argmax(1), torch.arange(10))


def test_codes():
    codes = codes_for(10)
    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1, 1}
    pictures = codes.reshape(10, 12, 7) > 0
    # A 1 and an 8, and the bar over a 0, as rows of pixels.
    assert ["".join(".#"[pixel] for pixel in row) for row in pictures[1][[0, 2, 9, 10]].astype(int)] == [
        "...##..", ".####..", ".######", ".......",
    ]  # fmt: skip
    assert (pictures[8] == pictures[8, :, ::-1]).all()
    assert (pictures[0][:2].sum(axis=1) == [5, 0]).all()
    distances = (codes[:, None] != codes[None]).sum(axis=2) + 84 * np.eye(10)
    assert distances.min() >= 10  # no two digits are nearly the same
    assert np.array_equal(codes_for(26), codes_for(26))
    assert codes_for(26).shape == (26, 84)
    assert len(np.unique(codes_for(26), axis=0)) == 26


# --- weights made plain -----------------------------------------------------------------------------------------------


def test_a_plain_network_is_a_copy_that_computes_the_same():
    torch.manual_seed(0)
    network = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(1, 3, 3)), nn.Flatten(),
        parametrizations.spectral_norm(nn.Linear(48, 4)), nn.Linear(4, 2),
    ).eval()  # fmt: skip
    x = torch.randn(2, 1, 6, 6)
    with torch.inference_mode():
        expected = network(x)
        plain = plain_network(network)
        assert torch.equal(plain(x), expected)
        assert torch.equal(network(x), expected)  # which still has what computes its weights
    assert parametrize.is_parametrized(network[0])
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    assert [type(module) for module in plain] == [nn.Conv2d, nn.Flatten, nn.Linear, nn.Linear]
    assert plain.state_dict().keys() == {f"{i}.{name}" for i in (0, 2, 3) for name in ("weight", "bias")}


def test_a_network_that_is_plain_already_is_not_copied():
    network = MODELS["lenet"].build()
    assert plain_network(network) is network


def test_lenet5_made_plain():
    network = MODELS["lenet5-c3-rbf"].build().eval()
    state = copy.deepcopy(network.state_dict())
    plain = plain_network(network)
    x = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(plain(x), network(x))
    assert plain.c3.weight.shape == (16, 6, 5, 5)
    assert int((plain.c3.weight == 0).all(dim=(2, 3)).sum()) == 36
    assert state.keys() == network.state_dict().keys()
