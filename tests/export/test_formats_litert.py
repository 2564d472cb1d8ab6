"""The format litert and its engine: against eager PyTorch, on real digits, and with wrong files and packages."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import edgeline
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.backends.litert import MODEL_FILE
from edgeline.errors import ArtefactError, GateError, InputError, MissingCapabilityError
from edgeline.manifest import BatchRange
from edgeline.selftest import run_selftest
from edgeline_export.coverage import check_precision, coverage_of
from edgeline_export.formats import FORMATS
from edgeline_export.formats.interface import CalibrationRequest, ExportRequest
from edgeline_export.peers.litert import _converted, free_batch
from edgeline_export.peers.tflite import read_model
from edgeline_export.subject import SubjectRequest
from edgeline_export.torch_source import graph_from_module, subject_from_factory
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS
from edgeline_train.models.weights import load_weights
from tests.conftest import one_line
from tests.export.networks import write_untrained
from tests.export.test_every_network import export, largest_logit, subject_of
from tests.sessions import check_calls_at_once, check_closing, check_memory

MAIN = edgeline_export.cli.main
BATCH = np.random.default_rng(0).standard_normal((200, 1, 28, 28)).astype(np.float32)
# LeNet by hand: places of the output times the filter for its two convolutions, and three matrices.
LENET_MACS = [28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25, 400 * 120, 120 * 84, 84 * 10]


@pytest.fixture(scope="module")
def exports(weights_folder, tmp_path_factory):
    """LeNet in both precisions. Read-only: tests that change one take `copy`."""
    out = tmp_path_factory.mktemp("litert")
    for precision in ("fp32", "int8"):
        argv = ["lenet", "--weights", str(weights_folder), "--format", "litert", "--precision", precision]
        assert MAIN([*argv, "--out", str(out)]) == 0
    return {precision: out / f"lenet-mnist-10k.{precision}.litert" for precision in ("fp32", "int8")}


@pytest.fixture(scope="module")
def eager(weights_file):
    network = MODELS["lenet"].build().eval()
    load_weights(weights_file, network, MODELS["lenet"])
    return lambda batch: network(torch.from_numpy(batch)).detach().numpy()


@pytest.fixture(scope="module")
def session(exports):
    with edgeline.load(exports["fp32"]) as opened:
        yield opened


@pytest.fixture
def copy(exports, tmp_path):
    return shutil.copytree(exports["fp32"], tmp_path / "copy")


# --- what it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8, 13, 64, 200, 1])
def test_it_computes_what_eager_pytorch_computes(session, eager, size):
    found, expected = session.infer(BATCH[:size]), eager(BATCH[:size])
    assert (found.shape, found.dtype) == ((size, 10), np.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_memory_is_the_callers(session):
    check_memory(session)


def test_real_digits_in_int8(exports, eager):
    """Accuracy within a hundredth of the float network's, and the same class for nearly all digits."""
    split = load_split(DATASETS["mnist-10k"], "test")
    with edgeline.load(exports["int8"]) as session:
        run_selftest(session)
        batch = session.preprocess(split.images)
        found, expected = session.infer_all(batch).argmax(axis=1), eager(batch).argmax(axis=1)
        single = session.infer(batch[:1])
        np.testing.assert_allclose(session.infer(batch[:9])[:1], single, atol=1e-6)
    assert np.mean(found == split.labels) >= np.mean(expected == split.labels) - 0.01
    assert np.mean(found == expected) >= 0.98


def test_two_threads_compute_the_same(exports, session):
    with edgeline.load(exports["fp32"], threads=2) as two:
        np.testing.assert_allclose(two.infer(BATCH[:8]), session.infer(BATCH[:8]), atol=1e-5)


def test_four_threads_get_what_one_gets(session):
    check_calls_at_once(session)


def test_close_is_final(exports):
    check_closing(edgeline.load(exports["fp32"]))


# --- what the artefact says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_manifest(exports, precision):
    artefact = open_artefact(exports[precision])
    manifest = artefact.manifest
    assert (manifest.format, manifest.build, manifest.inputs[0].shape) == ("litert", "built", (-1, 1, 28, 28))
    assert manifest.verification["engine"] == "litert"
    assert {"litert-torch", "litert-converter", "ai-edge-litert"} <= manifest.versions.keys()
    assert manifest.precision_coverage == {"source": "engine", "macs": {precision: 1.0}, "weights": {precision: 1.0}}
    record = manifest.compilation
    assert (record["converter"], record["batches"]) == ("litert-torch", "any")
    kind = {"fp32": "FLOAT32", "int8": "INT8"}[precision]
    assert record["operators"][f"FULLY_CONNECTED {kind}"] == 3
    assert record["operators"][f"CONV_2D {kind}"] + record["operators"][f"DEPTHWISE_CONV_2D {kind}"] == 2
    if precision == "int8":
        assert (record["quantiser"]["name"], record["quantiser"]["samples"]) == ("ai-edge-quantizer", 512)
        assert manifest.versions["ai-edge-quantizer"] == record["quantiser"]["version"]
        assert coverage_of(onnx.load(artefact.file("model.onnx"))).macs == {"int8": 1.0}  # our own Q/DQ graph
        assert artefact.file(MODEL_FILE).stat().st_size < 1.3 * 61_706
    else:
        assert record["quantiser"] is None
        assert 4 * 61_706 < artefact.file(MODEL_FILE).stat().st_size < 1.1 * 4 * 61_706


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_multiply_accumulates_are_counted_in_the_file(exports, precision):
    graph = coverage_of(onnx.load(exports["fp32"] / "model.onnx"))
    found = read_model((exports[precision] / MODEL_FILE).read_bytes()).coverage(graph)
    assert [node.macs for node in found.nodes] == LENET_MACS
    other = {"fp32": "int8", "int8": "fp32"}[precision]
    with pytest.raises(GateError, match=rf"{other} was asked for, but 0.0% .*FULLY_CONNECTED, {precision}"):
        check_precision(found, other)


@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(4, 6, 3, stride=2), nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(4, 4, 3, groups=4)]
)
def test_multiply_accumulates_as_in_the_graph(layer):
    graph = coverage_of(graph_from_module(layer, (4, 9, 9)))
    found = read_model(_converted(layer, (4, 9, 9))).coverage(graph)
    assert sum(node.macs for node in found.nodes) == graph.nodes[0].macs
    assert found.macs == {"fp32": 1.0}


def test_arithmetic_that_is_not_found_in_the_file_counts_against_it(exports):
    graph = coverage_of(onnx.load(exports["fp32"] / "model.onnx"))
    more = dataclasses.replace(graph, nodes=(*graph.nodes, *graph.nodes))
    found = read_model((exports["int8"] / MODEL_FILE).read_bytes()).coverage(more)
    assert found.macs == {"int8": 0.5, "other": 0.5}


def test_reduced_precision_is_refused(exports):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf((exports["fp32"] / MODEL_FILE).read_bytes(), 0)
    model.metadata.append(schema.MetadataT())
    model.metadata[-1].name = "reduced_precision_support"
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(GateError, match="reduced_precision_support"):
        read_model(bytes(builder.Output()))


# --- how it is made ---------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """float32 [N, 3, 8, 8] -> [N, 4]: a transposition at the input, and a Flatten."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 4))

    def forward(self, x):
        return self.layers(x)


def test_only_the_batch_of_reshapes_is_changed():
    content = _converted(Small(), (3, 8, 8))
    assert _converted(Small(), (3, 8, 8)) == content  # the same weights give the same bytes
    freed, count = free_batch(content, 7)
    changed = [place for place, pair in enumerate(zip(content, freed, strict=True)) if pair[0] != pair[1]]
    assert count == 1
    assert len(changed) == changed[-1] - changed[0] + 1 == 4  # one int32
    targets = [op.constant(1).view(np.int32) for op in read_model(freed).operators if op.kind == "RESHAPE"]
    assert [list(target) for target in targets] == [[-1, 5 * 36]]
    assert free_batch(content, 6) == (content, 0)


def test_a_batch_that_the_model_does_not_take_is_an_error(copy, edit_manifest, eager):
    """The converter's own file: its Flatten is for 7 samples."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    (copy / MODEL_FILE).write_bytes(_converted(network, (1, 28, 28)))
    edit_manifest(copy)
    with edgeline.load(copy) as session:
        for size in (8, 8):
            with pytest.raises(InputError, match=f"does not run .* with a batch of {size}"):
                session.infer(BATCH[:size])
        np.testing.assert_allclose(session.infer(BATCH[:7]), network(torch.from_numpy(BATCH[:7])).detach(), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_network_of_many_operators(tmp_path, capfd, precision):
    """Three channels, a residual, a concatenation, two pools, normalisation, softmax; nothing of it on stdout."""
    inputs = np.random.default_rng(1).standard_normal((100, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", inputs=inputs)
    subject = subject_from_factory(
        SubjectRequest("tests.export.networks:rich_module", None, None, None, tmp_path / "samples.npz",
                       (3, 16, 16), None, BatchRange(1, 2, 3))
    )  # fmt: skip
    calibration = CalibrationRequest(str(tmp_path / "samples.npz"), 100)  # a last batch that is not full
    request = ExportRequest(precision, tmp_path, BatchRange(1, 2, 3), 0.1, calibration)
    artefact = FORMATS["litert"].export(subject, request)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert not any(words in printed.err for words in ("I0000", "Warning", "it/s"))
    with edgeline.load(artefact) as session:
        found = session.infer(inputs[:5])
    allowed = {"fp32": 1e-5, "int8": 0.05}[precision]  # of probabilities
    np.testing.assert_allclose(found, subject.module(torch.from_numpy(inputs[:5])).detach(), atol=allowed)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_network(tmp_path, name):
    """Weights as they are born, in both precisions; export() judges against eager PyTorch at batches of 1, 2 and 3."""
    subject = subject_of(write_untrained(tmp_path, name), name)
    for precision, allowed in (("fp32", 1e-4), ("int8", 0.15)):  # logits are int8 as well
        artefact = export(subject, tmp_path, "litert", precision)
        assert artefact.manifest.precision_coverage["macs"][precision] >= 0.99
        assert artefact.manifest.verification["max_abs_diff"] <= allowed * largest_logit(artefact)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_onnx_file_is_refused(command, exports, tmp_path):
    code, _, err = command(MAIN, exports["fp32"] / "model.onnx", "--format", "litert", "--out", tmp_path)
    assert code == 2
    assert "litert converts torch networks" in one_line(err)
    assert "--format onnx, openvino or c" in one_line(err)
    assert not list(tmp_path.iterdir())


def test_a_precision_that_it_has_not_is_refused(command, weights_folder, tmp_path):
    argv = ("lenet", "--weights", weights_folder, "--format", "litert", "--precision", "fp16", "--out", tmp_path)
    code, _, err = command(MAIN, *argv)
    assert code == 2
    assert "unknown precision of format litert 'fp16'" in one_line(err)
    assert "fp32, int8" in one_line(err)


def test_a_module_that_cannot_be_converted(monkeypatch):
    class Sorts(nn.Module):
        def forward(self, x):
            return x[x > 0].sum().reshape(1)  # a shape that depends on the numbers

    with pytest.raises(InputError, match="litert-torch cannot convert this network"):
        _converted(Sorts(), (1, 8, 8))


def test_without_the_converter(command, monkeypatch, weights_folder, tmp_path):
    monkeypatch.setattr(
        "edgeline_export.formats.packages.find_spec", lambda name: None if name == "litert_torch" else object()
    )
    argv = ("lenet", "--weights", weights_folder, "--format", "litert", "--out", tmp_path)
    code, _, err = command(MAIN, *argv)
    assert code == 3
    assert "litert_torch not installed: pip install 'edgeline[peers]'" in one_line(err)


def test_without_the_engine(exports, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingCapabilityError, match=r"LiteRT is not installed .*pip install 'edgeline\[peers\]'"):
        edgeline.load(exports["fp32"])


def test_a_gpu_is_not_served(exports):
    with pytest.raises(MissingCapabilityError, match="device='cpu' or 'auto'"):
        edgeline.load(exports["fp32"], device="cuda")


@pytest.mark.parametrize("keep", [0, 100_000])
def test_a_damaged_model_is_refused(copy, edit_manifest, keep):
    (copy / MODEL_FILE).write_bytes((copy / MODEL_FILE).read_bytes()[:keep])
    with pytest.raises(ArtefactError, match="damaged|SHA|hash|bytes"):
        edgeline.load(copy)
    edit_manifest(copy)
    with pytest.raises(ArtefactError, match=r"LiteRT refuses .*model.tflite: .*export it again"):
        edgeline.load(copy)


def test_a_model_of_other_shapes_is_refused(copy, edit_manifest):
    record = json.loads((copy / "manifest.json").read_text())
    record["inputs"][0]["shape"][2] = 32
    edit_manifest(copy, inputs=record["inputs"])
    with pytest.raises(ArtefactError, match=r"has the input .*28.* its manifest says .*32"):
        edgeline.load(copy)
