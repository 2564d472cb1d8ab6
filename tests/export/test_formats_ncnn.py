"""export-model with --format ncnn, and its artefacts on ncnn: against eager PyTorch and ONNX Runtime."""

import os
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import edgeline
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.errors import ArtefactError, MissingCapabilityError
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS
from edgeline_train.models.weights import load_weights
from tests.conftest import one_line
from tests.sessions import check_calls_at_once, check_closing, check_memory

MAIN = edgeline_export.cli.main
BATCH = np.random.default_rng(0).standard_normal((64, 1, 28, 28)).astype(np.float32)

pytestmark = pytest.mark.skipif(
    find_spec("ncnn") is None or find_spec("pnnx") is None, reason="ncnn or pnnx missing: pip install 'edgeline[peers]'"
)


@pytest.fixture(scope="module")
def exports(weights_file, tmp_path_factory):
    """LeNet's artefacts by precision. Read-only."""
    out = tmp_path_factory.mktemp("ncnn")
    for precision in ("fp32", "bf16"):
        argv = ["lenet", "--weights", str(weights_file), "--format", "ncnn", "--precision", precision]
        assert MAIN([*argv, "--out", str(out)]) == 0
    return {precision: out / f"lenet-mnist-10k.{precision}.ncnn" for precision in ("fp32", "bf16")}


@pytest.fixture(scope="module")
def session(exports):
    with edgeline.load(exports["fp32"]) as opened:
        yield opened


@pytest.fixture(scope="module")
def eager(weights_file):
    network = MODELS["lenet"].build().eval()
    load_weights(weights_file, network, MODELS["lenet"])
    return lambda batch: network(torch.from_numpy(batch)).detach().numpy()


def test_the_manifest(exports):
    manifest = open_artefact(exports["fp32"]).manifest
    assert {"model.onnx", "model.ncnn.param", "model.ncnn.bin", "selftest.npz"} == set(manifest.files)
    # By hand: LeNet has 61,706 weights of 4 bytes, and a flag of 4 bytes stands before each of its 5 weight tensors.
    assert manifest.files["model.ncnn.bin"].bytes == 61_706 * 4 + 5 * 4
    assert {"pnnx", "ncnn"} <= set(manifest.versions)
    assert manifest.compilation["converter"] == "pnnx"
    assert manifest.compilation["layers"] == {
        "Input": 1, "Convolution": 2, "Pooling": 2, "Reshape": 1, "InnerProduct": 3,
    }  # fmt: skip
    assert manifest.verification["engine"] == "ncnn"
    assert manifest.verification["top1_agreement"] == 1.0


def test_the_same_weights_give_the_same_bytes(exports):
    """pnnx does not know of the precision: the two exports have converted the same graph."""
    first, second = (open_artefact(exports[precision]).manifest.files for precision in ("fp32", "bf16"))
    assert {name: first[name].sha256 for name in ("model.ncnn.param", "model.ncnn.bin")} == {
        name: second[name].sha256 for name in ("model.ncnn.param", "model.ncnn.bin")
    }


@pytest.mark.parametrize("size", [1, 5, 8, 64])
def test_it_computes_what_eager_pytorch_computes(session, eager, size):
    logits = session.infer(BATCH[:size])
    assert (logits.shape, logits.dtype) == ((size, 10), np.float32)
    expected = eager(BATCH[:size])
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_bf16_rounds_what_fp32_does_not(exports, eager):
    """bfloat16 has 8 bits of mantissa: through LeNet's five layers an error between 1e-4 and a tenth."""
    expected = eager(BATCH)
    with edgeline.load(exports["bf16"]) as session:
        error = np.abs(session.infer(BATCH) - expected).max() / np.abs(expected).max()
    assert 1e-4 < error < 0.1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_classify_reaches_the_accuracy_in_the_manifest(exports, precision):
    split = load_split(DATASETS["mnist-10k"], "test")
    with edgeline.load(exports[precision], threads=2) as session:
        accuracy = float(np.mean(session.classify(split.images) == split.labels))
        assert accuracy == pytest.approx(session.manifest.verification["accuracy_exported"], abs=1e-9)
    assert accuracy > 0.5


def test_memory_is_the_callers(session):
    check_memory(session)


def test_four_threads_get_what_one_gets(session):
    check_calls_at_once(session)


def test_threads_are_those_of_the_network(exports, session):
    with edgeline.load(exports["fp32"], threads=2) as two:
        assert (session._net.opt.num_threads, two._net.opt.num_threads) == (1, 2)
        np.testing.assert_allclose(two.infer(BATCH), session.infer(BATCH), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_precision_is_on_that_was_not_asked_for(exports, precision):
    with edgeline.load(exports[precision]) as session:
        options = session._net.opt
        half = [options.use_fp16_packed, options.use_fp16_storage, options.use_fp16_arithmetic]
        assert not any([*half, options.use_int8_inference, options.use_vulkan_compute])
        assert options.use_bf16_storage == (precision == "bf16")


def test_close_is_final(exports):
    check_closing(edgeline.load(exports["fp32"]))


def test_there_is_no_gpu(exports):
    with pytest.raises(MissingCapabilityError, match="is for ncnn on the CPU: device='cpu' or 'auto' runs it"):
        edgeline.load(exports["fp32"], device="cuda")


def test_without_ncnn_the_error_names_the_line(exports, monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(MissingCapabilityError, match=r"ncnn is not installed .*: pip install 'edgeline\[peers\]'"):
        edgeline.load(exports["fp32"])


@pytest.mark.parametrize(
    ("file", "content"), [("model.ncnn.param", b"no network\n"), ("model.ncnn.bin", b"\0" * 3_000)]
)
def test_a_file_that_ncnn_refuses(exports, tmp_path, edit_manifest, file, content):
    import shutil

    folder = shutil.copytree(exports["fp32"], tmp_path / exports["fp32"].name)
    (folder / file).write_bytes(content)
    edit_manifest(folder)
    with pytest.raises(ArtefactError, match=f"ncnn refuses .*{file}"):
        edgeline.load(folder)


def test_int8_is_not_offered(command, weights_file, tmp_path):
    argv = ["lenet", "--weights", weights_file, "--format", "ncnn", "--precision", "int8", "--out", tmp_path]
    code, _, err = command(MAIN, *argv)
    assert code == 2
    assert "unknown precision of format ncnn 'int8'; known: bf16, fp32" in one_line(err)


def graph_of(nodes, output_shape, weights=(), output_type=TensorProto.FLOAT, batch="batch"):
    """A network that takes float32 [N, 4]."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", output_type, [batch, *output_shape])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("batch", ["batch", 3])
def test_an_onnx_file_with_a_free_or_a_fixed_batch(command, tmp_path, batch):
    weight = np.arange(12, dtype=np.float32).reshape(4, 3) - 6
    bias = np.asarray([1, 0, -1], np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    onnx.save(graph_of(nodes, [3], [("w", weight), ("b", bias)], batch=batch), tmp_path / "small.onnx")
    code, out, err = command(MAIN, tmp_path / "small.onnx", "--format", "ncnn", "--out", tmp_path / "out")
    assert code == 0, err
    assert out == "" or "small" in out
    samples = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    with edgeline.load(tmp_path / "out" / "small.fp32.ncnn") as session:
        np.testing.assert_allclose(session.infer(samples), np.maximum(samples @ weight + bias, 0), atol=1e-5)
    assert sorted(os.listdir(tmp_path)) == ["out", "small.onnx"]


def test_an_operator_that_ncnn_has_not(command, tmp_path):
    shape = ("s", np.asarray([0, 2, 2], np.int64))
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["m"]),
        helper.make_node("Det", ["m"], ["y"]),
    ]
    onnx.save(graph_of(nodes, [], [shape]), tmp_path / "det.onnx")
    code, _, err = command(MAIN, tmp_path / "det.onnx", "--format", "ncnn", "--out", tmp_path / "out")
    assert code == 2
    assert "ncnn has no layer Det: take --format onnx" in one_line(err)


def test_outputs_that_are_not_float(command, tmp_path):
    nodes = [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)]
    onnx.save(graph_of(nodes, [], output_type=TensorProto.INT64), tmp_path / "class.onnx")
    code, _, err = command(MAIN, tmp_path / "class.onnx", "--format", "ncnn", "--out", tmp_path / "out")
    assert code == 2
    assert "ncnn takes float32 samples of one to three dimensions and gives float32" in one_line(err)


def test_weights_that_are_not_float32_are_refused():
    """A Gemm of 10 weights in 20 bytes is float16."""
    from edgeline.errors import GateError
    from edgeline_export.formats.ncnn import _check_weights

    layer = ["InnerProduct", "fc", "1", "1", "in0", "out0", "0=5", "1=0", "2=10"]
    _check_weights([layer], bytes(40))
    with pytest.raises(GateError, match="20 bytes for 10 weights, which is not float32"):
        _check_weights([layer], bytes(20))


def test_without_pnnx_it_says_what_is_missing(command, monkeypatch):
    import edgeline_export.formats.packages as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "pnnx" else True)
    code, _, err = command(MAIN, "lenet", "--format", "ncnn")
    assert code == 3
    assert "format ncnn cannot be written here: pnnx not installed -> pip install 'edgeline[peers]'" in err or (
        "pnnx not installed" in one_line(err) and "edgeline[peers]" in one_line(err)
    )


@pytest.mark.slow
def test_alexnet_converts(tmp_path):
    """With the weights it is born with; dropout and adaptive pooling must vanish or become layers that ncnn has."""
    from edgeline_export.formats.ncnn import _check_layers, _converted, _layers
    from edgeline_export.torch_source import graph_from_module

    torch.manual_seed(0)
    model = MODELS["alexnet"]
    graph = graph_from_module(model.build(), model.input_shape)
    param, weights = _converted(graph.SerializeToString(), (1, *model.input_shape))
    _check_layers(_layers(param))
    count = sum(
        int(np.prod(tensor.dims)) for tensor in graph.graph.initializer if tensor.data_type == TensorProto.FLOAT
    )
    assert len(weights) == pytest.approx(4 * count, rel=1e-4)
