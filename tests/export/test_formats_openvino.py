"""The format openvino: what is written, in which precision OpenVINO computes it, and what is refused."""

import json
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

import edgeline
import edgeline_export.cli
from edgeline.backends.openvino import OpenVinoLayer
from edgeline_export.formats import packages
from edgeline_export.peers.openvino import UNKNOWN, node_precisions
from tests.conftest import one_line

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed: edgeline[peers]")
MAIN = edgeline_export.cli.main


@pytest.fixture(scope="module")
def exports(weights_folder, tmp_path_factory):
    """LeNet's artefact in each precision that is asked for, exported once."""
    out, made = tmp_path_factory.mktemp("openvino"), {}

    def export(precision):
        if precision not in made:
            options = ["--calibration-samples", "64"] if precision == "int8" else []
            argv = ["lenet", "--weights", str(weights_folder), "--format", "openvino", "--precision", precision]
            assert MAIN([*argv, *options, "--out", str(out)]) == 0
            made[precision] = out / f"lenet-mnist-10k.{precision}.openvino"
        return made[precision]

    return export


def has_bf16():
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize("precision", ["fp32", "int8", "bf16"])
def test_it_writes_a_model_in_the_precision(exports, precision):
    if precision == "bf16" and not has_bf16():
        pytest.skip("this processor has no bfloat16 arithmetic")
    folder = exports(precision)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"model.xml", "model.bin", "model.onnx", "selftest.npz"} <= set(manifest["files"])
    assert manifest["precision_coverage"]["source"] == "engine"
    assert manifest["precision_coverage"]["macs"][precision] == 1
    assert manifest["compilation"]["converter"] == "openvino.convert_model"
    assert manifest["compilation"]["batches"] == [1, 8, 64]
    assert manifest["compilation"]["settings"]["INFERENCE_PRECISION_HINT"] == ("bf16" if precision == "bf16" else "f32")
    assert (manifest["compilation"]["quantiser"] is None) == (precision != "int8")
    assert manifest["versions"]["openvino"].startswith("20")
    assert manifest["verification"]["engine"] == "openvino"
    assert manifest["verification"]["drop"] <= 0.01
    assert manifest["verification"]["top1_agreement"] > 0.97


def test_bf16_keeps_a_float32_graph_and_rounds(exports, exported):
    """Eight bits of mantissa leave differences that float32 does not: it did compute in bfloat16."""
    if not has_bf16():
        pytest.skip("this processor has no bfloat16 arithmetic")
    folder = exports("bf16")
    assert {t.data_type for t in onnx.load(folder / "model.onnx").graph.initializer} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
    }
    assert json.loads((folder / "manifest.json").read_text())["verification"]["max_abs_diff"] > 1e-3


def test_float32_weights_are_kept_whole(exports):
    """OpenVINO halves float weights when it saves a model, unless told not to: LeNet has 61,706 numbers."""
    assert (exports("fp32") / "model.bin").stat().st_size > 61_706 * 4 * 0.99


def test_a_processor_without_bfloat16_is_a_missing_capability(weights_folder, tmp_path, command, monkeypatch):
    import openvino

    def capabilities(self, device, name):
        return ["FP32", "INT8"]

    monkeypatch.setattr(openvino.Core, "get_property", capabilities)
    argv = ["lenet", "--weights", weights_folder, "--format", "openvino", "--precision", "bf16", "--out", tmp_path]
    code, _, err = command(MAIN, *argv)
    assert code == 3
    assert "no bfloat16" in one_line(err)
    assert not list(tmp_path.iterdir())


def test_a_precision_that_it_does_not_have(weights_folder, tmp_path, command):
    code, _, err = command(MAIN, "lenet", "--weights", weights_folder, "--format", "openvino", "--precision", "fp16")
    assert code == 2
    assert "precision of format openvino 'fp16'" in one_line(err)
    assert "fp32, int8" in one_line(err)


def test_without_openvino_it_says_what_to_install(tmp_path, command, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "openvino" else sys)
    code, _, err = command(MAIN, "lenet", "--format", "openvino", "--out", tmp_path)
    assert code == 3
    assert "openvino not installed: pip install 'edgeline[peers]'" in one_line(err)


def test_an_onnx_file_with_one_fixed_batch(exported, tmp_path):
    model = onnx.load(exported / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "fixed.onnx")
    argv = [str(tmp_path / "fixed.onnx"), "--format", "openvino", "--batch", "4", "--out", str(tmp_path)]
    assert MAIN(argv) == 0
    batch = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    with edgeline.load(tmp_path / "fixed.fp32.openvino") as session, edgeline.load(exported) as reference:
        np.testing.assert_allclose(session.infer(batch), reference.infer(batch), rtol=0, atol=1e-4)


def _node(operator, name, output):
    return onnx.helper.make_node(operator, ["x", "w"], [output], name=name)


@pytest.mark.parametrize(
    ("kind", "nodes", "precision", "constants", "found"),
    [
        ("Convolution", ("conv/WithoutBiases", "conv", "relu"), "u8", ("i8",), "int8"),
        ("Convolution", ("conv/WithoutBiases",), "f32", ("f32",), "fp32"),
        ("Convolution", ("convention",), "u8", (), UNKNOWN),  # another node's
        ("FullyConnected", ("y",), "bf16", (), "bf16"),  # named after the output
        ("Subgraph", ("conv/WithoutBiases/DequantizationMultiply", "conv"), "f32", ("i8",), "int8"),
        ("Subgraph", ("conv/WithoutBiases", "conv"), "f32", ("i8",), UNKNOWN),
        ("Subgraph", ("conv/WithoutBiases", "conv"), "bf16", ("f32",), "bf16"),
        ("Convolution", ("conv",), "u4", (), UNKNOWN),
    ],
)
def test_the_precision_of_a_node_is_that_of_the_layer_that_has_it(kind, nodes, precision, constants, found):
    layer = OpenVinoLayer("layer", kind, nodes, precision, constants)
    assert node_precisions([layer], [_node("Conv", "conv", "y")]) == {"conv": found}
