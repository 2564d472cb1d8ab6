"""export-model with --format iree, and its artefacts on IREE: against eager PyTorch and ONNX Runtime."""

import json
import shutil
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
from edgeline.backends import iree as backend
from edgeline.errors import ArtefactError, GateError, InputError, MissingCapabilityError
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS
from edgeline_train.models.weights import load_weights
from tests.conftest import one_line
from tests.sessions import check_calls_at_once, check_closing, check_memory

MAIN = edgeline_export.cli.main
BATCH = np.random.default_rng(0).standard_normal((64, 1, 28, 28)).astype(np.float32)

pytestmark = pytest.mark.skipif(find_spec("iree") is None, reason="IREE missing: pip install 'edgeline[peers]'")


@pytest.fixture(scope="module")
def exports(weights_file, tmp_path_factory):
    """LeNet's artefacts by precision. Read-only."""
    out = tmp_path_factory.mktemp("iree")
    for precision in ("fp32", "int8"):
        argv = ["lenet", "--weights", str(weights_file), "--format", "iree", "--precision", precision]
        assert MAIN([*argv, "--out", str(out)]) == 0
    return {precision: out / f"lenet-mnist-10k.{precision}.iree" for precision in ("fp32", "int8")}


@pytest.fixture(scope="module")
def session(exports):
    with edgeline.load(exports["fp32"]) as opened:
        yield opened


@pytest.fixture
def copy(exports, tmp_path):
    return shutil.copytree(exports["fp32"], tmp_path / exports["fp32"].name)


@pytest.fixture(scope="module")
def eager(weights_file):
    network = MODELS["lenet"].build().eval()
    load_weights(weights_file, network, MODELS["lenet"])
    return lambda batch: network(torch.from_numpy(batch)).detach().numpy()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_manifest(exports, precision):
    manifest = open_artefact(exports[precision]).manifest
    assert {"model.onnx", "model.irpa", "model.b1.vmfb", "model.b8.vmfb", "model.b64.vmfb"} <= set(manifest.files)
    assert manifest.compilation["batches"] == [1, 8, 64]
    assert manifest.compilation["converter"] == "iree-import-onnx"
    assert "--iree-llvmcpu-target-cpu=host" in manifest.compilation["settings"]
    assert {"iree-base-compiler", "iree-base-runtime"} <= set(manifest.versions)
    assert set(manifest.target["cpu_flags"]) <= backend.cpu_flags()
    assert manifest.verification["engine"] == "iree"
    assert manifest.precision_coverage["macs"] == {precision: 1.0}
    assert manifest.precision_coverage["source"] == ("engine" if precision == "int8" else "graph")


def test_weights_are_stored_once(exports):
    """By hand: three of LeNet's five weight tensors have 1024 elements or more; the others stay in the code."""
    files = open_artefact(exports["fp32"]).manifest.files
    large = 4 * (16 * 6 * 25 + 400 * 120 + 120 * 84)
    assert large < files["model.irpa"].bytes < large + 4096 * 2
    assert all(files[f"model.b{size}.vmfb"].bytes < large / 2 for size in (1, 8, 64))


@pytest.mark.parametrize("size", [1, 5, 8, 12, 64])
def test_it_computes_what_eager_pytorch_computes(session, eager, size):
    logits = session.infer(BATCH[:size])
    assert (logits.shape, logits.dtype) == ((size, 10), np.float32)
    expected = eager(BATCH[:size])
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_int8_is_what_onnxruntime_makes_of_the_graph(exports):
    """Both compute in integers; a number that lies between two levels may be rounded either way."""
    digits = load_split(DATASETS["mnist-10k"], "test").images[:256]
    with (
        edgeline.load(exports["int8"]) as ours,
        edgeline.load(exports["int8"], engine="onnxruntime") as theirs,
    ):
        inputs = ours.preprocess(digits)
        found, expected = ours.infer_all(inputs), theirs.infer_all(inputs)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) >= 0.99


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_classify_reaches_the_accuracy_in_the_manifest(exports, precision):
    split = load_split(DATASETS["mnist-10k"], "test")
    with edgeline.load(exports[precision]) as session:
        accuracy = float(np.mean(session.classify(split.images) == split.labels))
        assert accuracy == pytest.approx(session.manifest.verification["accuracy_exported"], abs=1e-9)
    assert accuracy > 0.5


def test_memory_is_the_callers(session):
    check_memory(session)


@pytest.mark.parametrize("threads", [1, 2])
def test_four_threads_get_what_one_gets(exports, threads):
    with edgeline.load(exports["fp32"], threads=threads) as session:
        check_calls_at_once(session)


def test_workers_are_the_processes(exports, session):
    with edgeline.load(exports["fp32"], threads=2) as two:
        np.testing.assert_allclose(two.infer(BATCH), session.infer(BATCH), atol=1e-5)
    with pytest.raises(InputError, match="IREE has 2 workers in this process and cannot change that to 3"):
        edgeline.load(exports["fp32"], threads=3)


def test_close_is_final(exports):
    check_closing(edgeline.load(exports["fp32"]))


def test_there_is_no_gpu(exports):
    with pytest.raises(MissingCapabilityError, match="is for IREE on the CPU: device='cpu' or 'auto' runs it"):
        edgeline.load(exports["fp32"], device="cuda")


def test_without_iree_the_error_names_the_line(exports, monkeypatch):
    monkeypatch.setitem(sys.modules, "iree.runtime", None)
    with pytest.raises(MissingCapabilityError, match=r"IREE is not installed .*: pip install 'edgeline\[peers\]'"):
        edgeline.load(exports["fp32"])


def test_another_cpu_is_refused_before_it_crashes(copy, edit_manifest):
    target = json.loads((copy / "manifest.json").read_text())["target"]
    edit_manifest(copy, target={**target, "cpu": "later", "cpu_flags": [*target["cpu_flags"], "avx4096"]})
    with pytest.raises(MissingCapabilityError, match="was compiled for later; this CPU lacks avx4096: export it here"):
        edgeline.load(copy)
    edit_manifest(copy, target={**target, "architecture": "riscv64"})
    with pytest.raises(MissingCapabilityError, match="was compiled for riscv64, this is"):
        edgeline.load(copy)


@pytest.mark.parametrize("file", ["model.b8.vmfb", "model.irpa"])
def test_a_file_that_iree_refuses(copy, edit_manifest, file):
    (copy / file).write_bytes(b"no module of any version")
    edit_manifest(copy)
    with pytest.raises(ArtefactError, match=f"IREE refuses .*{file}, which IREE .* wrote: .*; export it again"):
        edgeline.load(copy)


def test_fp16_is_not_offered(command, weights_file, tmp_path):
    argv = ["lenet", "--weights", weights_file, "--format", "iree", "--precision", "fp16", "--out", tmp_path]
    code, _, err = command(MAIN, *argv)
    assert code == 2
    assert "unknown precision of format iree 'fp16'" in one_line(err)


def small_graph(operator="Gemm"):
    """float32 [3, 4] -> [3, 3]: a fixed batch, weights too small for an archive."""
    weight = np.arange(12, dtype=np.float32).reshape(4, 3) - 6
    nodes = [helper.make_node(operator, ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, size]) for name, size in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], [onnx.numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), weight


def test_an_onnx_file_with_a_fixed_batch(command, tmp_path):
    graph, weight = small_graph()
    onnx.save(graph, tmp_path / "small.onnx")
    code, _, err = command(MAIN, tmp_path / "small.onnx", "--format", "iree", "--batch", 3, "--out", tmp_path / "out")
    assert code == 0, err
    samples = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    with edgeline.load(tmp_path / "out" / "small.fp32.iree") as session:
        assert session.manifest.compilation["batches"] == [3]
        np.testing.assert_allclose(session.infer(samples), np.maximum(samples @ weight, 0), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.onnx"]


def test_the_same_graph_gives_the_same_bytes(tmp_path):
    from edgeline_export.peers.iree import FLAGS, _import, _iree, _with_batch

    graph, _ = small_graph()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _import(tmp_path / name, _with_batch(graph, 3), 3, save=True)
        _iree(tmp_path / name, "compile", "b3.mlir", *FLAGS, "-o", "model.b3.vmfb")
    first, second = ((tmp_path / name / "model.b3.vmfb").read_bytes() for name in ("a", "b"))
    assert first == second
    assert str(tmp_path).encode() not in first


def test_what_iree_refuses_is_said_in_its_words(tmp_path):
    from edgeline_export.peers.iree import _iree

    (tmp_path / "bad.mlir").write_text("func.func @f() { unknown.operation }\n")
    with pytest.raises(InputError, match="iree-compile cannot take this network: .*error: .*; take --format onnx"):
        _iree(tmp_path, "compile", "bad.mlir", "-o", "bad.vmfb")


def test_products_in_floats_fail_an_int8_export(exports, tmp_path):
    """Against a form in which IREE computes in floats: that of the float32 graph."""
    from edgeline_export.coverage import coverage_of
    from edgeline_export.peers.iree import FLAGS, _check_integers, _import, _iree, _products, _with_batch

    forms = {}
    for precision, folder in exports.items():
        graph = onnx.load(folder / "model.onnx")
        (tmp_path / precision).mkdir()
        _import(tmp_path / precision, _with_batch(graph, 8), 8, save=True)
        _iree(tmp_path / precision, "compile", "b8.mlir", *FLAGS, "--compile-to=dispatch-creation", "-o", "form.mlir")
        forms[precision] = (tmp_path / precision / "form.mlir").read_text()
    # LeNet has two Conv and three Gemm.
    assert (_products(forms["int8"]), _products(forms["fp32"])) == ((5, 0), (0, 5))
    coverage = coverage_of(onnx.load(exports["int8"] / "model.onnx"))
    assert _check_integers(forms["int8"], coverage).source == "engine"
    with pytest.raises(GateError, match="IREE computes 0 of 5 quantised matrix products in integers and 5 in floats"):
        _check_integers(forms["fp32"], coverage)


def test_flags_are_named_as_linux_names_them(monkeypatch):
    from edgeline_export.peers import iree as module

    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"pni", "avx512_vnni", "sse4_1", "abm", "tsc"}))
    features = "+sse3,+avx512vnni,+sse4.1,+lzcnt,+avx,-sse4.1"
    assert module._linux_flags(features) == {"pni", "avx512_vnni", "abm"}
