"""Each registered network in each format: weights as they are born or nearly so, and a few digits."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import edgeline
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.manifest import BatchRange
from edgeline.selftest import run_selftest
from edgeline.tensorrt.products import ProductState, product_state
from edgeline_export.formats import FORMATS
from edgeline_export.formats import trt as trt_formats
from edgeline_export.formats.interface import CalibrationRequest, ExportRequest
from edgeline_export.graph import attributes_of
from edgeline_export.subject import SubjectRequest
from edgeline_export.torch_source import graph_from_module, subject_from_model
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS
from edgeline_train.models.lenet5 import C3_TABLE
from edgeline_train.models.weights import load_weights
from tests.export.networks import write_untrained

SAMPLES = 48
# The largest difference of a logit, of the largest logit: rounding alone, 10 bits of mantissa, 7 bits.
ALLOWED = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.1}
SLOW = {"alexnet"}


def subject_of(path, name):
    """The network with its weights, judged on a few digits."""
    request = SubjectRequest(name, path, None, None, None, None, None, BatchRange(1, 2, 3))
    subject = subject_from_model(MODELS[name], request)
    samples = subject.samples
    assert samples.labels is not None
    few = dataclasses.replace(samples, array=samples.array[:SAMPLES], labels=samples.labels[:SAMPLES])
    return dataclasses.replace(subject, samples=few)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS]
)
def network(request, tmp_path_factory):
    name = request.param
    path = write_untrained(tmp_path_factory.mktemp(name), name)
    return name, path, subject_of(path, name)


def export(subject, folder, format_name, precision):
    request = ExportRequest(precision, folder, BatchRange(1, 2, 3), 1.0, CalibrationRequest(samples=32))
    return FORMATS[format_name].export(subject, request)


def largest_logit(artefact):
    with np.load(artefact.file("selftest.npz")) as arrays:
        return float(np.abs(arrays["logits"]).max())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_onnx(network, tmp_path, precision):
    name, path, subject = network
    artefact = export(subject, tmp_path, "onnx", precision)
    manifest = artefact.manifest
    assert manifest.precision_coverage["macs"] == {precision: 1.0}
    assert manifest.verification["max_abs_diff"] <= ALLOWED[precision] * largest_logit(artefact)
    with edgeline.load(artefact) as session:
        run_selftest(session)
        images = load_split(DATASETS["mnist-10k"], "test").images[:3]
        found = session.infer(session.preprocess(images))
    if precision == "fp32":  # from pixels to logits, against PyTorch's own network and arithmetic
        source = MODELS[name].build().eval()
        load_weights(path, source, MODELS[name])
        pixels = torch.from_numpy(images.copy())[:, None].float()
        if name.startswith("lenet5"):
            pixels = nn.functional.pad(pixels, (2, 2, 2, 2))
        elif name == "alexnet":
            pixels = nn.functional.interpolate(pixels, (224, 224), mode="bilinear")
        with torch.inference_mode():
            expected = source((pixels / 255 - 0.1313) / 0.3089).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_int8_for_tensorrt(network, tmp_path, monkeypatch):
    """The graph alone: what is quantised, and that biases and logits are not."""
    _, _, subject = network
    missing = ProductState(None, None, "left out here")
    monkeypatch.setattr("edgeline_export.engines.product_state", lambda name: missing)
    monkeypatch.setattr(trt_formats, "gpu", lambda: None)
    artefact = export(subject, tmp_path, "trt", "int8")
    assert artefact.manifest.precision_coverage["macs"] == {"int8": 1.0}
    assert artefact.manifest.verification["max_abs_diff"] <= ALLOWED["int8"] * largest_logit(artefact)
    graph = onnx.load(artefact.file("model.onnx")).graph
    readers = {name: node.op_type for node in graph.node for name in node.input}
    pairs = [node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"]
    assert {readers[name] for name in pairs} <= {"Conv", "Gemm"}


@pytest.mark.skipif(product_state("trt-rtx").module is None, reason=f"TensorRT-RTX: {product_state('trt-rtx').why}")
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_tensorrt_rtx_builds(network, tmp_path, precision):
    artefact = export(network[2], tmp_path, "trt-rtx", precision)
    assert artefact.manifest.compilation["plan_bytes"] > 0
    assert artefact.manifest.compilation["strongly_typed"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_c(network, tmp_path, precision):
    """From the library, against the same graph on ONNX Runtime: what the session loads is what was compiled."""
    _, _, subject = network
    plain = export(subject, tmp_path, "onnx", precision)
    artefact = export(subject, tmp_path, "c", precision)
    assert artefact.manifest.verification["engine"].startswith("native")
    images = load_split(DATASETS["mnist-10k"], "test").images[:8]
    with edgeline.load(artefact) as session, edgeline.load(plain) as graph:
        run_selftest(session)
        batch = session.preprocess(images)
        found, expected = session.infer(batch), graph.infer(batch)
    if precision == "int8":
        # Units behind the last layer of lenet5-c3-rbf compute in float, on the same integers.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


# --- what LeNet-5's parts become --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lenet5_rbf(tmp_path_factory):
    return subject_of(write_untrained(tmp_path_factory.mktemp("rbf"), "lenet5-c3-rbf"), "lenet5-c3-rbf")


def test_the_connection_table_is_in_the_weights(lenet5_rbf):
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in lenet5_rbf.graph.graph.initializer}
    assert weights["c3.weight"].shape == (16, 6, 5, 5)
    there = [[output, source] for output, sources in enumerate(C3_TABLE) for source in sources]
    assert np.argwhere(weights["c3.weight"].any(axis=(2, 3))).tolist() == there
    assert not any("parametrizations" in name for name in weights)


def test_output_units_stay_float_in_int8(lenet5_rbf, tmp_path):
    """No integer operator, and nothing quantised, behind the last dense layer."""
    graph = onnx.load(export(lenet5_rbf, tmp_path, "onnx", "int8").file("model.onnx")).graph
    kinds = [node.op_type for node in graph.node]
    behind = kinds[kinds.index("Gemm") + 1 :]
    assert behind == ["Mul", "Tanh", "Mul", "Unsqueeze", "Sub", "Pow", "ReduceSum", "Neg"]


def test_the_manifest_pads_what_the_network_was_trained_on_padded(lenet5_rbf, tmp_path):
    artefact = export(lenet5_rbf, tmp_path, "onnx", "fp32")
    record = json.loads((artefact.folder / "manifest.json").read_text())["preprocessing"]
    assert record == {"resize": None, "scale": 1 / 255, "mean": [0.1313], "std": [0.3089], "pad": [2, 2]}
    with np.load(artefact.file("selftest.npz")) as arrays:
        inputs = arrays["inputs"]
    assert inputs.shape[1:] == (1, 32, 32)
    digits = load_split(DATASETS["mnist-10k"], "test").images[:16]
    np.testing.assert_allclose(inputs[:, 0, 2:-2, 2:-2], (digits / 255 - 0.1313) / 0.3089, atol=1e-6)
    np.testing.assert_allclose(inputs[:, 0, :2], (0 - 0.1313) / 0.3089, atol=1e-6)


# --- weights that say how they were made ------------------------------------------------------------------------------


def test_mean_and_deviation_are_those_of_the_weights(tmp_path, command):
    """A recipe need not standardise: 0 and 1 then, whatever the data set's are."""
    weights = write_untrained(tmp_path, "lenet-linear", 0.0, 1.0)
    options = ("--weights", weights, "--precision", "int8", "--calibration-samples", 32, "--max-drop", 1)
    code, _, err = command(edgeline_export.cli.main, "lenet-linear", "--out", tmp_path / "out", *options)
    assert code == 0, err
    artefact = open_artefact(tmp_path / "out" / "lenet-linear-mnist-10k.int8.onnx")
    assert artefact.manifest.preprocessing is not None
    assert (artefact.manifest.preprocessing.mean, artefact.manifest.preprocessing.std) == ((0.0,), (1.0,))
    with np.load(artefact.file("selftest.npz")) as arrays:
        digits = load_split(DATASETS["mnist-10k"], "test").images[:16]
        np.testing.assert_allclose(arrays["inputs"][:, 0], digits / 255, atol=1e-6)
    tensors = json.loads(artefact.file("calibration.json").read_text())["tensors"]
    seen = next(tensor for tensor in tensors if tensor["name"] == "input")
    assert (seen["min"], seen["max"]) == (0.0, 1.0)


def test_weights_of_other_peoples_parametrisations_become_plain():
    torch.manual_seed(0)
    network = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(1, 3, 3)), nn.ReLU(), nn.Flatten(),
        parametrizations.spectral_norm(nn.Linear(48, 4)),
    ).eval()  # fmt: skip
    weight = network[0].weight.detach().numpy()
    graph = graph_from_module(network, (1, 6, 6)).graph
    assert [node.op_type for node in graph.node] == ["Conv", "Relu", "Reshape", "Gemm"]
    conv = next(tensor for tensor in graph.initializer if tensor.name == graph.node[0].input[1])
    np.testing.assert_array_equal(numpy_helper.to_array(conv), weight)
    assert attributes_of(graph.node[3])["transB"] == 1
    assert parametrize.is_parametrized(network[0])  # the caller's own is as it was
    assert parametrize.is_parametrized(network[3])
    np.testing.assert_array_equal(network[0].weight.detach().numpy(), weight)
