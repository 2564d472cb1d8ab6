import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import edgeline_export.cli
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.learnt import learnt_from, module_outputs
from edgeline_export.quantise import LAYOUTS, ActivationRange, quantised
from edgeline_export.runner import GraphRunner
from edgeline_export.torch_source import exported_from_module
from edgeline_train.data import DATASETS, load_split, preprocessing_for
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.models import MODELS
from edgeline_train.models.weights import info_from_weights, load_weights, write_weights
from edgeline_train.qat import FineTuning

MAIN = edgeline_export.cli.main
SLOW = pytest.mark.slow


def initializer(model, name):
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


# --- which tensor a module makes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW) if n == "alexnet" else n for n in MODELS])
def test_a_modules_tensor_holds_what_the_module_computes(name):
    """Each module's output in PyTorch, against the tensor of the graph that is said to be it."""
    torch.manual_seed(0)
    model = MODELS[name]
    network = model.build().eval()
    exported = exported_from_module(network, model.input_shape)
    tensors = module_outputs(exported)
    plain = clean_graph(folded(clean_graph(exported)))
    computed = {}
    for path, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, output, path=path: computed.update({path: output.numpy()}))
    batch = torch.randn(3, *model.input_shape)
    with torch.inference_mode():
        network(batch)
    layers = {path for path, _ in network.named_modules() if path and "parametrizations" not in path}
    dropouts = {path for path, module in network.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert tensors.keys() == layers - dropouts
    names = tuple(dict.fromkeys(tensors.values()))
    found = dict(zip(names, GraphRunner(plain, names).tensors(names, batch.numpy()), strict=True))
    for path, tensor in tensors.items():
        assert np.allclose(found[tensor], computed[path], atol=1e-4), path


def test_a_module_with_two_results_is_left_to_calibration():
    class Twice(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x), torch.sigmoid(x)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.twice = torch.nn.Linear(4, 4), Twice()

        def forward(self, x):
            left, right = self.twice(self.first(x))
            return left + right

    assert module_outputs(exported_from_module(Network(), (4,))).keys() == {"first"}


# --- the network of training, and the graph that ships ----------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(weights_file):
    """Fake-quantised LeNets whose ranges were found and whose weights were not changed, and their plain weights."""

    def make(bits):
        model = MODELS["lenet"]
        network = model.build()
        info = load_weights(weights_file, network, model)
        start = FineTuning(bits, network.state_dict(), "0" * 64, info.accuracy)
        trained = start.prepare(model.build(), 8)
        for batch in digits("train", 256).split(32):
            trained(batch)
        state, record = start.finish(model.build(), trained.state_dict())
        plain = model.build().eval()
        plain.load_state_dict(state)
        return trained.eval(), plain, replace(info, qat=record)

    return make


def digits(split, count):
    dataset = DATASETS["mnist-10k"]
    images = torch.from_numpy(load_split(dataset, split).images[:count].copy())
    return input_from_pixels(images, preprocessing_for(dataset, (1, 28, 28)))


def integer_graph(plain, record, layout="integer"):
    exported = exported_from_module(plain, (1, 28, 28))
    float_graph = clean_graph(folded(clean_graph(exported)))
    learnt = learnt_from(record, exported).within(float_graph)
    return quantised(float_graph, dict(learnt.ranges), layout, learnt.weight_levels)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_fake_quantised_network_computes_what_the_integer_graph_computes(tuned, bits):
    """A step of one activation may round the other way; the classes and, nearly, the logits are the same."""
    trained, plain, info = tuned(bits)
    inputs = digits("test", 500)
    with torch.inference_mode():
        simulated, exact = trained(inputs).numpy(), plain(inputs).numpy()
    found = GraphRunner(integer_graph(plain, info.qat)).run(inputs.numpy())
    off, rounding = np.abs(found - simulated), np.abs(found - exact)
    assert (found.argmax(1) == simulated.argmax(1)).mean() >= 0.99
    assert off.mean() < rounding.mean() / 3  # most of what int8 does was simulated


@pytest.mark.parametrize("layout", LAYOUTS)
def test_learnt_ranges_become_scales(tuned, layout):
    _, plain, info = tuned(8)
    made = integer_graph(plain, info.qat, layout)
    assert info.qat.outputs["pool1"][0] == 0.0  # of sigmoids
    levels = {"integer": 255, "fused": 127}[layout]
    step = info.qat.outputs["pool1"][1] / levels
    assert step <= initializer(made, "avg_pool2d_scale") <= step * 1.001
    low, high = info.qat.input
    assert initializer(made, "input_scale") == pytest.approx(high / 127, rel=1e-7)
    assert low == -high
    if layout == "integer":
        assert initializer(made, "avg_pool2d_scale") == np.float32(step)
        # Reshape moves numbers: fc1 reads what pool2 learnt.
        assert initializer(made, "view_scale") == np.float32(info.qat.outputs["pool2"][1] / 255)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_weights_that_lie_on_a_grid_are_not_rounded_again(tuned, bits):
    _, plain, info = tuned(bits)
    made = integer_graph(plain, info.qat)
    for name in ("conv1", "conv2", "fc1", "fc2", "fc3"):
        numbers, steps = initializer(made, f"{name}.weight_int8"), initializer(made, f"{name}.weight_int8_scale")
        weight = plain.get_submodule(name).weight.detach().numpy()
        assert not (numbers % 2 ** (8 - bits)).any()
        assert np.array_equal(numbers * steps.reshape(-1, *[1] * (weight.ndim - 1)), weight)


def test_what_is_not_named_keeps_its_calibrated_range(tuned):
    _, plain, info = tuned(8)
    exported = exported_from_module(plain, (1, 28, 28))
    record = replace(info.qat, outputs={"act1": (0.0, 0.5), "gone": (0.0, 1.0)}, input=None)
    assert learnt_from(record, exported).ranges == {"sigmoid": ActivationRange(0.5, True)}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [None, "minmax"])
def test_export_model_takes_the_learnt_ranges_unless_a_method_is_asked_for(command, tuned, tmp_path, method):
    _, plain, info = tuned(8)
    record = replace(info.qat, outputs={**info.qat.outputs, "act1": (0.0, 255 / 128)})  # a step of 1 / 128
    path = tmp_path / "lenet-mnist-10k-qat.safetensors"
    write_weights(path, plain.state_dict(), replace(info, qat=record))
    assert info_from_weights(path).qat == record
    options = [] if method is None else ["--calibration-method", method]
    code, _, err = command(MAIN, "lenet", "--weights", path, "--precision", "int8", "--out", tmp_path, *options)
    assert code == 0, err
    folder = tmp_path / "lenet-mnist-10k.int8.onnx"
    calibration = json.loads((folder / "manifest.json").read_text())["calibration"]
    scale = initializer(onnx.load(folder / "model.onnx"), "sigmoid_scale")
    if method is None:
        assert (calibration["method"], scale) == ("qat", 1 / 128)
        assert calibration["learnt"]["others"] == "minmax"
        assert {"input", "conv2d", "sigmoid", "view"} <= set(calibration["learnt"]["tensors"])
        assert "tensors are those of quantisation-aware training" in err
        assert "by quantisation-aware training" in (folder / "report.html").read_text()
    else:
        assert (calibration["method"], calibration["learnt"]) == ("minmax", None)
        assert scale < 1.01 / 255  # sigmoids end at 1
