import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import edgeline_train.cli
from edgeline_train import loop
from edgeline_train.checkpoint import Checkpoints
from edgeline_train.data import DATASETS, Split, load_split, preprocessing_for
from edgeline_train.models import MODELS
from edgeline_train.models.weights import info_from_weights, top_level, weights_file_name
from edgeline_train.observer import Observers
from edgeline_train.qat import (
    ActivationQuantiser,
    FineTuning,
    WeightQuantiser,
    fine_tuning_recipe,
)
from edgeline_train.recipes import recipe_for
from tests.conftest import one_line

MAIN = edgeline_train.cli.main


def start_of(name, bits=8):
    torch.manual_seed(0)
    return FineTuning(bits, MODELS[name].build().state_dict(), "0" * 64, 0.98)


def observed(name, bits=8):
    """A network whose ranges come from two batches of noise."""
    model = MODELS[name]
    network = start_of(name, bits).prepare(model.build(), 2)
    for _ in range(2):
        network(torch.randn(8, *model.input_shape))
    return network.eval()


# --- weights ----------------------------------------------------------------------------------------------------------


def test_three_bits_by_hand():
    """A largest weight of 3 makes steps of 1, which float16 has: -3, ..., 3. Channels have steps of their own."""
    weight = torch.tensor([[3.0, 1.4, -0.6, 0.2], [-0.375, 0.06, 0.19, -0.24]])
    expected = [[3.0, 1.0, -1.0, 0.0], [-0.375, 0.0, 0.25, -0.25]]
    assert WeightQuantiser(3)(weight).tolist() == expected


@pytest.mark.parametrize(("bits", "top"), [(8, 127), (4, 112), (3, 96), (2, 64)])
def test_weights_have_so_many_values_per_channel(bits, top):
    assert top_level(bits) == top
    weight = torch.randn(6, 500, generator=torch.Generator().manual_seed(0))
    rounded = WeightQuantiser(bits)(weight).numpy().astype(np.float64)
    for before, channel in zip(weight.numpy(), rounded, strict=True):
        values = np.unique(channel)
        assert len(values) <= 2**bits - 1
        step = np.abs(values).max() / (2 ** (bits - 1) - 1)
        assert np.allclose(values / step, np.rint(values / step), atol=1e-5)
        assert np.abs(channel - before).max() <= step * 0.5001
        assert np.float16(step / 2 ** (8 - bits)) == step / 2 ** (8 - bits)  # int8's own step


def test_gradients_go_straight_through():
    weight = torch.randn(4, 9, requires_grad=True)
    (WeightQuantiser(2)(weight) * torch.arange(9.0)).sum().backward()
    assert weight.grad.tolist() == [list(range(9))] * 4


# --- activations ------------------------------------------------------------------------------------------------------


def test_ranges_follow_the_first_batches_and_then_stay():
    quantiser = ActivationQuantiser(steps=2, averages=True)
    quantiser(torch.tensor([0.0, 2.0]))
    quantiser(torch.tensor([0.0, 4.0]))  # 2 + (4 - 2) / 10
    assert quantiser.high.item() == pytest.approx(2.2)
    quantiser(torch.tensor([-5.0, 50.0]))
    quantiser.eval()
    assert quantiser.high.item() == pytest.approx(2.2)
    low, high = quantiser.ends()
    assert low == 0.0
    assert 2.2 <= high < 2.2 * 1.001  # rounded up to a step that float16 has


def test_the_input_is_not_cut():
    quantiser = ActivationQuantiser(steps=3, averages=False)
    for batch in ([-0.5, 1.0], [0.0, 2.54], [0.1, 1.0]):
        quantiser(torch.tensor(batch))
    low, high = quantiser.ends()
    assert 2.54 <= high < 2.54 * 1.001
    assert low == -high  # symmetric where there is anything negative


def test_activations_by_hand():
    """0 to 255 / 256 in steps of 1 / 256; -127 / 128 to 127 / 128 in steps of 1 / 128, one more below."""
    positive = ActivationQuantiser(steps=1, averages=True)
    positive(torch.tensor([0.0, 255 / 256]))
    found = positive.eval()(torch.tensor([-1.0, 0.0, 0.6 / 256, 1.4 / 256, 2.0])) * 256
    assert found.tolist() == [0.0, 0.0, 1.0, 1.0, 255.0]
    signed = ActivationQuantiser(steps=1, averages=True)
    signed(torch.tensor([-0.5, 127 / 128]))
    found = signed.eval()(torch.tensor([-3.0, -0.6 / 128, 1.4 / 128, 2.0])) * 128
    assert found.tolist() == [-128.0, -1.0, 1.0, 127.0]


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("lenet", "conv1 act1 pool1 conv2 act2 pool2 fc1 act3 fc2 act4"),
        ("lenet-relu", "act1 act2 act3 act4"),  # saturation is the ReLU; pools, Flatten and dropout move numbers
        ("lenet-linear", "conv1 act1 pool1 conv2 act2 pool2 fc1 fc2"),
        ("lenet5-c3-rbf", "c1 act2 c3 act4 c5 act5"),  # what goes between float operators stays float
        ("alexnet-28", None),
    ],
)
def test_what_is_rounded(name, outputs):
    network = observed(name)
    found = {
        path.removeprefix("output_quantisers.")
        for path, module in network.named_modules()
        if isinstance(module, ActivationQuantiser)
    }
    if outputs is None:  # a ReLU behind each layer but the last
        relus = {path for path, module in network.named_modules() if isinstance(module, nn.ReLU)}
        assert found == {*relus, "input_quantiser"}
    else:
        assert found == {*outputs.split(), "input_quantiser"}


# --- from a float network to plain weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lenet", "lenet5-c3", "alexnet-28"])
def test_plain_weights_have_ordinary_names_and_compute_the_same(name):
    model = MODELS[name]
    trained = observed(name, 3)
    state, record = start_of(name, 3).finish(model.build(), trained.state_dict())
    assert state.keys() == model.build().state_dict().keys()
    plain = model.build().eval()
    plain.load_state_dict(state)
    batch = torch.randn(4, *model.input_shape)
    # With ends so far out that they round next to nothing, what is left is the weights.
    for module in trained.modules():
        if isinstance(module, ActivationQuantiser):
            module.forward = lambda x: x
    torch.testing.assert_close(trained(batch), plain(batch))
    matrices = [module for module in plain.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    for module in matrices:
        assert all(len(channel.unique()) <= 7 for channel in module.weight.detach().flatten(1))
    assert (record.weight_bits, record.float_accuracy) == (3, 0.98)


def test_connections_that_do_not_exist_stay_so():
    network = observed("lenet5-c3")
    weight = network.get_submodule("c3").weight.detach()
    assert (weight.abs().amax((2, 3)) > 0).sum() == 60  # the paper's Table I


def test_a_recipe_for_fine_tuning():
    recipe = fine_tuning_recipe(recipe_for("lenet", "best", "mnist-10k"))
    assert (recipe.lr, recipe.schedule, recipe.augment) == (pytest.approx(0.002), "cosine", ("affine",))
    assert recipe.epochs == {"mnist-10k": 8, "mnist": 2}
    assert not fine_tuning_recipe(recipe_for("alexnet", "best", "mnist-10k")).bf16


# --- the loop and the command -----------------------------------------------------------------------------------------


class Stop(Observers):
    def on_epoch(self, epoch, epochs, network):
        raise KeyboardInterrupt


def test_resuming_gives_what_an_uninterrupted_run_gives(tmp_path):
    full = load_split(DATASETS["mnist-10k"], "train")
    splits = (
        Split(full.images[:320], full.labels[:320], "train"),
        Split(full.images[320:400], full.labels[320:400], "t"),
    )
    model, recipe = MODELS["lenet"], fine_tuning_recipe(recipe_for("lenet", "best", "mnist-10k"))
    preprocessing = preprocessing_for(DATASETS["mnist-10k"], model.input_shape)
    run = loop.Run(model, recipe, "mnist-10k", preprocessing, 10, 3, 0, "cpu", qat=start_of("lenet", 4))
    whole = loop.train(run, *splits, Observers(), Checkpoints(tmp_path / "a.pt"), False)
    with pytest.raises(KeyboardInterrupt):
        loop.train(run, *splits, Stop(), Checkpoints(tmp_path / "b.pt"), False)
    resumed = loop.train(run, *splits, Observers(), Checkpoints(tmp_path / "b.pt"), True)
    assert whole.state["output_quantisers.act1.high"] > 0
    assert all(torch.equal(tensor, resumed.state[name]) for name, tensor in whole.state.items())


def test_without_finished_weights_it_says_what_makes_them(command, tmp_path):
    code, out, err = command(MAIN, "lenet", "--qat", "--weights", tmp_path)
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'lenet-mnist-10k.safetensors'} is not there; make it: train-model lenet" in one_line(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--qat-weight-bits", "4"], "--qat-weight-bits is for --qat"),
        (["--qat", "--bf16"], "leave --bf16 out"),
        (["--qat", "--qat-weight-bits", "9"], "invalid choice"),
    ],
)
def test_options_that_do_not_fit(command, weights_folder, options, words):
    code, _, err = command(MAIN, "lenet", "--weights", weights_folder, *options)
    assert code == 2
    assert words in one_line(err)


def test_names():
    assert weights_file_name("lenet", "mnist", "best", 8) == "lenet-mnist-qat.safetensors"
    assert weights_file_name("lenet", "mnist", "d2l", 4) == "lenet-mnist-d2l-qat4.safetensors"


def test_the_command(command, weights_file, tmp_path):
    (tmp_path / weights_file.name).write_bytes(weights_file.read_bytes())
    argv = ["lenet", "--qat", "--qat-weight-bits", 4, "--epochs", 1, "--weights", tmp_path, "--device", "cpu", "--json"]
    code, out, _ = command(MAIN, *argv)
    assert code == 0
    path = tmp_path / "lenet-mnist-10k-qat4.safetensors"
    record, info = json.loads(out), info_from_weights(path)
    assert record["qat"]["weight_bits"] == 4
    assert info.qat is not None
    assert info.qat.float_accuracy == info_from_weights(weights_file).accuracy
    low, high = info.qat.input
    assert low == -high
    assert high == pytest.approx((1 - info.mean) / info.std, rel=1e-3)  # white, the brightest pixel
    assert info.qat.outputs["act1"][0] == 0.0
    assert load_file(path).keys() == load_file(weights_file).keys()
    assert info.settings["qat"]["weight_bits"] == 4
    code, again, err = command(MAIN, *argv, "--resume")
    assert (code, json.loads(again)) == (0, record)
    assert "nothing to do" in err


def test_weights_of_the_first_schema_are_read(weights_file, tmp_path):
    content = weights_file.read_bytes()
    # As the first version wrote them: JSON within JSON, so with its quotes escaped.
    old = content.replace(rb"\"schema_version\": 2", rb"\"schema_version\": 1").replace(
        rb", \"qat\": null, \"sch", rb", \"sch"
    )
    cut = len(content) - len(old)
    assert cut == len(rb", \"qat\": null")
    size = int.from_bytes(content[:8], "little") - cut
    (tmp_path / "old.safetensors").write_bytes(size.to_bytes(8, "little") + old[8:])
    assert info_from_weights(tmp_path / "old.safetensors") == info_from_weights(weights_file)
