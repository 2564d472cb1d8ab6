import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgeline_export.cli
from edgeline.backends.onnxruntime import OnnxRuntimeSession
from edgeline.manifest import Preprocessing, TensorSpec
from edgeline_export.calibration_data import calibration_data
from edgeline_export.page import _figure
from edgeline_export.ranges import RangeCollector
from tests.conftest import one_line

MAIN = edgeline_export.cli.main
LENET_INPUT = TensorSpec("input", (-1, 1, 28, 28), "float32", "NCHW")
DIGITS = Preprocessing(None, 1 / 255, (0.1313,), (0.3089,))


def embedded(count=48):
    return calibration_data("mnist-10k", count, LENET_INPUT, DIGITS, None)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def export(command, weights_folder, tmp_path):
    def run(*options):
        return command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path / "out", *options)

    return run


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--precision", "int8", "--calibration", "nowhere"], 2, "'nowhere' is no data set"),
        (["--precision", "int8", "--calibration-samples", "8001"], 2, "8,001 were asked for"),
        (["--precision", "int8", "--calibration-samples", "0"], 2, "at least 1"),
        (["--precision", "int8", "--calibration-method", "guess"], 2, "guess"),
        (["--precision", "fp32", "--calibration", "mnist-10k"], 2, "nothing is calibrated in fp32"),
        (["--format", "trt", "--precision", "tf32", "--calibration", "mnist-10k"], 2, "nothing is calibrated in tf32"),
        (["--format", "trt", "--precision", "tf32", "--calibration-samples", "9"], 2, "nothing is calibrated in tf32"),
        (["--precision", "int4"], 2, "unknown precision of format onnx 'int4'"),
        (["--precision", "int8", "--calibration", ""], 2, "--calibration is empty; name a data set, an .npz file"),
        (["--compute-capability", "8.9"], 2, "--compute-capability is for --format trt-rtx, not for onnx"),
        (["--require-engine"], 2, "--require-engine is for --format trt, trt-rtx and c, not for onnx"),
        (["--target", "generic"], 2, "--target is for --format c, not for onnx; leave it out"),
        (["--cc", "gcc"], 2, "--cc is for --format c, not for onnx; leave it out"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line_and_write_nothing(export, tmp_path, options, code, words):
    found, out, err = export(*options)
    assert found == code
    assert words in one_line(err)
    assert out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["int8", "fp16", "int8+fp16"])
def test_without_calibration_data(command, exported, tmp_path, precision):
    code, _, err = command(MAIN, exported / "model.onnx", "--precision", precision, "--out", tmp_path / "out")
    assert code == 2
    assert f"{precision} needs calibration data: --calibration" in one_line(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoilt", "count", "words"),
    [
        ("black", 64, "hold the same samples"),
        ("black", 31, "only 1 of 31 calibration samples of black.npz differ"),
        ("almost black", 64, "saw inputs up to 0.425, mnist-10k test split reaches 2.81: int8 would cut it off"),
        ("black but for a corner", 64, "accuracy falls from"),
    ],
)
def test_a_calibration_on_black_images_is_stopped(export, tmp_path, spoilt, count, words):
    """Alike samples are found at once, a range that is too small before accuracy; one bright pixel gets that far."""
    images = np.zeros((count, 28, 28), np.uint8)
    if spoilt != "black":
        images[np.arange(count), 0, 0] = np.arange(count)
    if spoilt == "black but for a corner":
        images[np.arange(count), 27, 27] = 255
    inputs = ((images / np.float32(255) - 0.1313) / 0.3089).astype(np.float32)[:, np.newaxis]
    if spoilt == "almost black":
        inputs = np.minimum(inputs, 0.4)
    np.savez(tmp_path / "black.npz", inputs=inputs)
    code, out, err = export(
        "--precision", "int8", "--calibration", tmp_path / "black.npz", "--calibration-samples", count, "--max-drop", 0
    )
    assert (code, out) == (1, "")
    assert words in one_line(err)
    assert "nothing was written" in one_line(err)
    assert not list((tmp_path / "out").glob("*"))


# --- what the export makes of it --------------------------------------------------------------------------------------


def one_layer(folder, nodes, input_shape, output_shape, **weights):
    """Save an .onnx file and 64 inputs for it."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *input_shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *output_shape])],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "net.onnx")
    inputs = np.random.default_rng(0).standard_normal((64, *input_shape)).astype(np.float32)
    np.savez(folder / "s.npz", inputs=inputs)
    return [folder / "net.onnx", "--calibration", folder / "s.npz", "--calibration-samples", 64,
            "--samples", folder / "s.npz", "--out", folder / "out"]  # fmt: skip


@pytest.mark.parametrize("precision", ["fp16", "int8+fp16"])
def test_a_network_with_large_activations_is_not_written_in_fp16(command, tmp_path, precision):
    """0.01 * 30,000 * 100: 30,000 on the way, which float16 holds and an export must not lean on."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["big"], "gemm"),
        helper.make_node("Mul", ["big", "small"], ["y"], "mul"),
    ]
    argv = one_layer(tmp_path, nodes, [2], [2], w=np.eye(2) * 20_000, small=1e-4)
    code, out, err = command(MAIN, *argv, "--precision", precision)
    assert (code, out) == (1, "")
    assert "the activation 'big' reaches " in one_line(err)
    assert not (tmp_path / "out").exists()
    code, _, _ = command(MAIN, *argv, "--precision", "int8", "--max-drop", "0.2")
    assert code == 0


def test_a_product_of_two_activations_is_not_int8_and_is_named(command, tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), helper.make_node("MatMul", ["x", "r"], ["y"], "attention")]
    argv = one_layer(tmp_path, nodes, [4, 4], [4, 4])
    code, out, err = command(MAIN, *argv, "--precision", "int8", "--format", "trt")
    assert (code, out) == (1, "")
    assert "int8 was asked for, but 0.0% " in one_line(err)
    assert "not: attention (MatMul, fp32, 100.0%); " in one_line(err)
    assert "Gemm and MatMul with constant weights: take fp16" in one_line(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_a_network_that_is_quantised_already_is_refused_by_name(command, exported, tmp_path, export, precision):
    export("--precision", "int8", "--calibration-samples", 64)
    graph = tmp_path / "out" / "lenet-mnist-10k.int8.onnx" / "model.onnx"
    code, out, err = command(MAIN, graph, "--precision", precision, "--dataset", "mnist-10k", "--out", tmp_path / "two")
    assert (code, out) == (2, "")
    assert "is quantised already; export the float network it was made from" in one_line(err)


def test_dilated_pooling_stays_float_in_int8(command, tmp_path):
    """ONNX Runtime has no AveragePool of integers with dilations."""
    pool = helper.make_node("AveragePool", ["c"], ["y"], "pool", kernel_shape=[2, 2], dilations=[2, 2])
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "conv"), pool]
    weights = np.random.default_rng(1).standard_normal((3, 2, 1, 1))
    argv = one_layer(tmp_path, nodes, [2, 6, 6], [3, 4, 4], w=weights)
    code, _, err = command(MAIN, *argv, "--precision", "int8")
    assert code == 0, err


def test_an_inner_name_that_is_taken(command, tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["x_fp16"], "relu"), helper.make_node("Gemm", ["x_fp16", "w"], ["y"], "g")]
    argv = one_layer(tmp_path, nodes, [4], [3], w=np.random.default_rng(1).standard_normal((4, 3)))
    for precision in ("fp16", "int8+fp16"):
        assert command(MAIN, *argv, "--precision", precision, "--format", "trt")[0] == 0


def test_upper_case_suffixes(command, tmp_path):
    argv = one_layer(tmp_path, [helper.make_node("Relu", ["x"], ["y"], "relu")], [4], [4])
    (tmp_path / "net.onnx").rename(tmp_path / "NET.ONNX")
    samples = ["--samples", tmp_path / "s.npz", "--out", tmp_path / "out"]
    assert command(MAIN, tmp_path / "NET.ONNX", *samples)[0] == 0
    assert argv[0].name == "net.onnx"


def test_zeros_of_either_sign_are_the_same_sample(command, tmp_path):
    argv = one_layer(tmp_path, [helper.make_node("Gemm", ["x", "w"], ["y"], "g")], [4], [3], w=np.ones((4, 3)))
    zeros = np.where(np.random.default_rng(0).random((64, 4)) < 0.5, -0.0, 0.0).astype(np.float32)
    np.savez(tmp_path / "s.npz", inputs=zeros)
    code, _, err = command(MAIN, *argv, "--precision", "int8")
    assert code == 1
    assert "only 1 of 64 calibration samples" in one_line(err)


@pytest.mark.parametrize("sample", [0, 7, 15])
def test_what_ships_in_fp16_is_held_against_its_twin(export, tmp_path, monkeypatch, sample):
    """On each of the 16 inputs of the self-test: one that is off is enough."""
    real = OnnxRuntimeSession._infer
    off = (np.arange(16) == sample).astype(np.float32)[:, np.newaxis]
    monkeypatch.setattr(OnnxRuntimeSession, "_infer", lambda self, batch: real(self, batch) + off[: len(batch)])
    code, out, err = export("--precision", "fp16")
    assert (code, out) == (1, "")
    assert "the float16 graph and its float32 twin differ by 1" in one_line(err)
    assert not list((tmp_path / "out").glob("*"))


def test_the_method_that_is_asked_for_is_used(export, tmp_path):
    code, _, _ = export("--precision", "int8", "--calibration-method", "percentile", "--calibration-samples", 64)
    assert code == 0
    folder = tmp_path / "out" / "lenet-mnist-10k.int8.onnx"
    assert json.loads((folder / "manifest.json").read_text())["calibration"]["method"] == "percentile"
    tensors = {t["name"]: t for t in json.loads((folder / "calibration.json").read_text())["tensors"]}
    assert 0 < tensors["conv2d"]["threshold"] < max(-tensors["conv2d"]["min"], tensors["conv2d"]["max"])


def test_marks_stand_where_values_saturate():
    """From -1 to 3 on 420 units: zero is a quarter of the way, 2 three quarters, -2 outside."""
    collector = RangeCollector("t")
    collector.add(np.linspace(-1, 3, 10_001, dtype=np.float32))
    drawn = _figure("t", collector.result(), 2.0)
    marks = re.findall(r'class="(zero|cut)" x1="([\d.]+)"', drawn)
    assert [kind for kind, _ in marks] == ["zero", "cut"]
    assert [float(x) for _, x in marks] == pytest.approx([105.0, 315.0], abs=0.5)
    assert 'class="cut"' not in _figure("t", collector.result(), None)


def test_a_file_that_calibrates_also_judges(command, exported, tmp_path):
    """Where nothing else is named: generated noise says nothing about a network of digits."""
    data = embedded(64)
    np.savez(tmp_path / "digits.npz", inputs=np.concatenate([data.network_input(b) for b in data.batches()]))
    code, _, err = command(
        MAIN, exported / "model.onnx", "--precision", "int8", "--calibration", tmp_path / "digits.npz",
        "--calibration-samples", 64, "--out", tmp_path / "out", "--max-drop", 0.1,
    )  # fmt: skip
    assert code == 0
    assert "judged on " in err
    assert "outputs were compared on inputs of digits.npz" in err


@pytest.mark.parametrize(
    ("operator", "domain", "words"),
    [
        ("Einsum", "", "Einsum (node 'it') is not supported in int8"),
        ("Gelu", "com.microsoft", "Gelu of com.microsoft (node"),
    ],
)
def test_an_operator_whose_arithmetic_is_not_counted_is_named(command, tmp_path, operator, domain, words):
    attributes = {"equation": "ij->ij"} if operator == "Einsum" else {}
    node = helper.make_node(operator, ["x"], ["y"], "it", domain=domain, **attributes)
    argv = one_layer(tmp_path, [node], [2], [2])
    if domain:
        model = onnx.load(tmp_path / "net.onnx")
        model.opset_import.append(helper.make_opsetid(domain, 1))
        onnx.save(model, tmp_path / "net.onnx")
    code, out, err = command(MAIN, *argv, "--precision", "int8")
    assert (code, out) == (2, "")
    assert words in one_line(err)
