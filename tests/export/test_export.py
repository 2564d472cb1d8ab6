import json
import os
import shutil
import textwrap

import edgeline
import edgeline_export.cli
import numpy as np
import onnx
import onnxruntime
import pytest
from edgeline.artefact import open_artefact
from edgeline.errors import GateError
from edgeline.manifest import BatchRange
from edgeline_export import verify as gate
from edgeline_export.samples import Samples
from edgeline_export.subject import Subject
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import one_line

MAIN = edgeline_export.cli.main


def test_the_manifest_says_what_schemas_asks_for(exported, weights_file):
    manifest = open_artefact(exported).manifest
    assert sorted(path.name for path in exported.iterdir()) == ["manifest.json", "model.onnx", "selftest.npz"]
    assert set(manifest.files) == {"model.onnx", "selftest.npz"}
    assert (manifest.name, manifest.dataset, manifest.precision, manifest.format, manifest.build) == (
        "lenet", "mnist-10k", "fp32", "onnx", "built",
    )  # fmt: skip
    assert manifest.preprocessing is not None
    assert manifest.preprocessing.mean == (0.1313,)
    assert manifest.source["kind"] == "model"
    assert manifest.source["weights_sha256"] == edgeline.files.sha256_of_file(weights_file)
    check = manifest.verification
    assert check["samples"] == 2_000
    assert check["top1_agreement"] == 1.0
    assert check["max_abs_diff"] < 1e-4
    assert check["accuracy_exported"] == check["accuracy_reference"] == manifest.source["accuracy"]
    assert check["drop_ci95"][0] <= 0 <= check["drop_ci95"][1]
    assert manifest.precision_coverage == {"source": "graph", "macs": {"fp32": 1.0}, "weights": {"fp32": 1.0}}


def test_two_exports_are_byte_identical(exported, weights_folder, tmp_path, command):
    code, out, _ = command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path)
    assert code == 0
    for name in ("model.onnx", "selftest.npz"):
        assert (tmp_path / exported.name / name).read_bytes() == (exported / name).read_bytes()
    assert out.startswith(f"{tmp_path / exported.name}: accuracy 0.")


def test_list_formats(command):
    code, out, _ = command(MAIN, "--list-formats")
    assert code == 0
    assert out.startswith("onnx      fp32 ")
    code, out, _ = command(MAIN, "--list-formats", "--json")
    assert json.loads(out)[0]["available"] is True


# --- the gate ---------------------------------------------------------------------------------------------------------


def subject(labels=True, count=2_000):
    """A source that answers with its input: ten numbers a sample, the largest is the class."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((count, 10)).astype(np.float32)
    return Subject(
        "toy", None, onnx.ModelProto(), lambda batch: batch, "identity",
        Samples("toy samples", inputs, inputs.argmax(axis=1) if labels else None), None, None, {},
    )  # fmt: skip


def judge(exported, max_drop=0.01, labels=True, batch=BatchRange(1, 8, 64)):  # noqa: B008 - frozen
    return gate.verify(subject(labels), exported, "toy", "fp32", batch, max_drop)


def wrong_for(share):
    """An export that is wrong for the samples whose first number is in the lowest `share`."""
    limit = np.quantile(subject().samples.array[:, 0], share)

    def run(batch):
        spoilt = batch[:, 0] < limit
        return np.where(spoilt[:, None], -batch, batch)

    return run


def test_an_equal_export_passes():
    judged = judge(lambda batch: batch.copy())
    assert judged.verification.accuracy_exported == judged.verification.accuracy_reference == 1.0
    assert judged.verification.drop == 0
    assert judged.outputs.shape == (2_000, 10)


def test_a_drop_above_the_limit_fails():
    with pytest.raises(GateError, match=r"accuracy falls from 1\.0000 to 0\.9[67]\d\d on toy samples"):
        judge(wrong_for(0.03))


def test_a_logit_that_is_off_fails_even_when_no_label_changes():
    with pytest.raises(GateError, match="a logit differs by 0.1"):
        judge(lambda batch: batch + np.float32(0.1), max_drop=1.0)


def test_the_limit_itself_is_allowed():
    assert not gate.max_drop_slack(0.01) < 20 / 2_000
    assert gate.max_drop_slack(0.01) < 21 / 2_000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_output_that_is_not_finite_fails(bad):
    def run(batch):
        out = batch.copy()
        out[batch[:, 0] > 2] = bad
        return out

    with pytest.raises(GateError, match=r"gives NaN or infinity for \d+ of 2000 samples"):
        judge(run, max_drop=1.0)


def test_other_outputs_without_labels_fail():
    with pytest.raises(GateError, match="nothing was written"):
        judge(lambda batch: -batch, labels=False)


def test_a_batch_size_that_fails_is_found():
    def run(batch):
        if len(batch) == 8:
            raise ValueError("shape was frozen\nmore words")
        return batch

    with pytest.raises(GateError, match="fails at batch 8: shape was frozen; nothing was written"):
        judge(run)


def test_a_batch_size_that_gives_other_outputs_is_found():
    with pytest.raises(GateError, match="gives other outputs at batch 1 than at 64"):
        judge(lambda batch: batch if len(batch) > 1 else batch + 1)


def test_another_output_shape_fails():
    with pytest.raises(GateError, match=r"the export gives \[2000, 5\], its source \[2000, 10\]"):
        judge(lambda batch: batch[:, :5])


def test_a_fixed_batch_is_filled_up():
    sizes = set()

    def run(batch):
        sizes.add(len(batch))
        return batch.copy()

    toy = subject()
    judged = gate.verify(toy, run, "toy", "fp32", BatchRange(48, 48, 48), 0.01)
    assert sizes == {48}
    assert judged.verification.samples == 2_000


def test_a_failing_gate_leaves_the_old_artefact(artefact, weights_folder, command, monkeypatch):
    before = (artefact / "manifest.json").read_bytes()
    real = edgeline.backends.onnxruntime.OnnxRuntimeSession._infer
    monkeypatch.setattr(edgeline.backends.onnxruntime.OnnxRuntimeSession, "_infer", lambda s, b: -real(s, b))
    code, out, err = command(MAIN, "lenet", "--weights", weights_folder, "--out", artefact.parent)
    assert (code, out) == (1, "")
    assert "accuracy falls from" in one_line(err)
    assert (artefact / "manifest.json").read_bytes() == before
    assert [path.name for path in artefact.parent.iterdir()] == [artefact.name]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, os.strerror(28)), 4)])
def test_ctrl_c_and_a_full_disk_leave_nothing(weights_folder, command, monkeypatch, tmp_path, error, code):
    def fail(_folder):
        raise error

    monkeypatch.setattr("edgeline_export.writer._entries", fail)
    found, _, err = command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path / "a")
    assert found == code
    one_line(err)
    assert list((tmp_path / "a").iterdir()) == []


# --- other people's networks ------------------------------------------------------------------------------------------


def own_network(tmp_path, batch="n", opset=13, reshape_batch=0, name="net.onnx", outputs=1):
    """Conv 1->4 3x3, Relu, global pooling, Gemm 4->3: a small classifier of someone else's."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), n)
        for n, shape in (("w", (4, 1, 3, 3)), ("v", (3, 4)))
    ] + [numpy_helper.from_array(np.array([reshape_batch, 4]), "target")]
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Reshape", ["g", "target"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["scores"], transB=1),
    ]
    ends = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 1, 8, 8])]
    outs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])]
    if outputs == 2:
        outs.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [batch, 4, 8, 8]))
    graph = helper.make_graph(nodes, "g", ends, outs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(("batch", "reshape_batch"), [("n", 0), (1, 1), (4, 4)])
def test_an_onnx_file(tmp_path, command, batch, reshape_batch):
    path = own_network(tmp_path, batch, reshape_batch=reshape_batch)
    code, _, err = command(MAIN, path, "--out", tmp_path / "out")
    assert code == 0, err
    assert "no labelled data: accuracy is not known" in err
    folder = tmp_path / "out" / "net.fp32.onnx"
    manifest = open_artefact(folder).manifest
    assert manifest.inputs[0].shape == (-1, 1, 8, 8)
    assert manifest.inputs[0].name == "pixels"
    assert "generated" in manifest.verification["data"]
    assert manifest.verification["accuracy_exported"] is None
    assert onnx.load(folder / "model.onnx").opset_import[0].version == 20
    original = onnxruntime.InferenceSession(path)
    batch_of_4 = np.random.default_rng(1).standard_normal((4, 1, 8, 8)).astype(np.float32)
    size = batch if isinstance(batch, int) else 4
    expected = np.concatenate([original.run(None, {"pixels": batch_of_4[i : i + size]})[0] for i in range(0, 4, size)])
    with edgeline.load(folder) as session:
        np.testing.assert_allclose(session.infer(batch_of_4), expected, atol=1e-5)


def test_a_fixed_batch_may_stay(tmp_path, command):
    path = own_network(tmp_path, 4, reshape_batch=4)
    code, _, err = command(MAIN, path, "--out", tmp_path, "--batch", 4)
    assert code == 0, err
    with edgeline.load(tmp_path / "net.fp32.onnx") as session:
        assert session.infer(np.zeros((4, 1, 8, 8), np.float32)).shape == (4, 3)
        with pytest.raises(edgeline.errors.ShapeError, match="expected a batch of 4, got 3"):
            session.infer(np.zeros((3, 1, 8, 8), np.float32))


@pytest.mark.parametrize("labels", [True, False])
def test_own_samples_judge_an_onnx_file(tmp_path, command, labels):
    path = own_network(tmp_path)
    inputs = np.random.default_rng(2).standard_normal((30, 1, 8, 8)).astype(np.float32)
    arrays = {"inputs": inputs}
    if labels:
        arrays["labels"] = np.arange(30) % 3
    np.savez(tmp_path / "s.npz", **arrays)
    code, _, err = command(MAIN, path, "--samples", tmp_path / "s.npz", "--out", tmp_path, "--name", "mine")
    assert code == 0, err
    check = open_artefact(tmp_path / "mine.fp32.onnx").manifest.verification
    assert check["samples"] == 30
    assert check["data"] == "inputs of s.npz"
    assert (check["accuracy_exported"] is not None) == labels


FACTORY = """
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(1, 3, 5, stride=3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(),
                                      nn.Linear(192, 10))
        def forward(self, x):
            return self.body(x)

    def number():
        return 3

    def failing():
        return 1 / 0

    class Pair(nn.Module):
        def forward(self, x):
            return x, x
"""


@pytest.fixture
def factory_module(tmp_path, monkeypatch):
    """A package of the user's own in the current folder."""
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(textwrap.dedent(FACTORY))
    monkeypatch.chdir(tmp_path)
    yield "theirs.nets"
    for name in ("theirs", "theirs.nets"):
        __import__("sys").modules.pop(name, None)


def test_a_factory(factory_module, command, tmp_path):
    code, _, err = command(MAIN, f"{factory_module}:Small", "--input-shape", "1,28,28")
    assert code == 0, err
    manifest = open_artefact(tmp_path / "artifacts" / "small.fp32.onnx").manifest
    assert manifest.source["kind"] == "factory"
    assert "generated" in manifest.verification["data"]
    code, _, err = command(MAIN, f"{factory_module}:Small", "--input-shape", "1,28,28", "--dataset", "mnist-10k")
    assert code == 0, err
    manifest = open_artefact(tmp_path / "artifacts" / "small-mnist-10k.fp32.onnx").manifest
    assert manifest.verification["samples"] == 2_000
    assert manifest.labels == tuple("0123456789")


@pytest.mark.parametrize(
    ("subject_name", "words"),
    [
        ("theirs.nets:Small", "give --input-shape 1,28,28 or --samples FILE.npz"),
        ("theirs.nets:Smal", "theirs.nets:Smal cannot be imported"),
        ("theirs.net:Small", "cannot be imported: No module named 'theirs.net'"),
        ("theirs.nets:number", "returned int, not a torch.nn.Module"),
        ("theirs.nets:failing", "theirs.nets:failing raised ZeroDivisionError: division by zero"),
    ],
)
def test_factories_that_do_not_do(factory_module, command, subject_name, words):
    code, _, err = command(MAIN, subject_name)
    assert code == 2
    assert words in one_line(err)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("Small", "1,4,4", "torch cannot export this network to ONNX: "),
        ("Pair", "1,28,28", "Pair has 1 input and 2 outputs; edgeline takes networks with one of each"),
    ],
)
def test_modules_that_cannot_be_exported(factory_module, command, name, shape, words):
    code, _, err = command(MAIN, f"{factory_module}:{name}", "--input-shape", shape)
    assert code == 2
    assert words in one_line(err)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "name what to export: lenet, alexnet, an .onnx file, or package.module:factory"),
        (["lennet"], "unknown model 'lennet' (did you mean lenet"),
        (["lenet"], "there are no weights of 'lenet' in weights; make them with: train-model lenet"),
        (["lenet", "--dataset", "mnist"], "make them with: train-model lenet --dataset mnist"),
        (["lenet", "--dataset", "mnst"], "unknown data set 'mnst' (did you mean mnist"),
        (["lenet", "--format", "onx"], "unknown format 'onx' (did you mean onnx?)"),
        (["lenet", "--precision", "fp31"], "unknown precision of format onnx 'fp31' (did you mean fp32?)"),
        (["lenet", "--batch", "8:4:2"], "expected MIN:OPT:MAX"),
        (["lenet", "--batch", "x"], "invalid"),
        (["lenet", "--max-drop", "1.5"], "--max-drop is a share between 0 and 1"),
        (["lenet", "--weights", "none.safetensors"], "there are no weights at none.safetensors"),
        (["none.onnx"], "there is no file none.onnx"),
    ],
)
def test_wrong_calls_are_one_line_and_leave_nothing(command, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["junk", "truncated", "two outputs", "other samples", "no inputs", "no archive"])
def test_damaged_files_are_one_line_and_leave_nothing(command, tmp_path, damage):
    path = own_network(tmp_path, outputs=2 if damage == "two outputs" else 1)
    argv = [path, "--out", tmp_path / "out"]
    words = "is damaged or no ONNX model"
    if damage == "junk":
        path.write_bytes(b"junk")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "two outputs":
        words = "has 1 input and 2 outputs"
    else:
        argv += ["--samples", tmp_path / "s.npz"]
        np.savez(
            tmp_path / "s.npz", **{"other" if damage == "no inputs" else "inputs": np.zeros((2, 1, 9, 8), np.float32)}
        )
        words = "has no array named 'inputs'" if damage == "no inputs" else "the network takes float32 ['N', 1, 8, 8]"
        if damage == "no archive":
            (tmp_path / "s.npz").write_bytes(b"junk")
            words = "is no .npz file"
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert not (tmp_path / "out").exists()


def test_weights_are_judged_on_their_own_data_set_only(command, tmp_path, weights_file):
    """The digits of mnist-10k lie in MNIST's training set, so the two must not be mixed."""
    code, _, err = command(MAIN, "lenet", "--weights", weights_file, "--dataset", "mnist", "--out", tmp_path / "out")
    assert code == 2
    assert "was trained on mnist-10k, not on mnist" in one_line(err)
    assert not (tmp_path / "out").exists()


def test_corrupt_and_foreign_weights(command, tmp_path, weights_file):
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights_file.read_bytes()[:5_000])
    code, _, err = command(MAIN, "lenet", "--weights", path, "--out", tmp_path / "out")
    assert code == 2
    assert "w.safetensors is damaged" in one_line(err)
    shutil.copy(weights_file, path)
    code, _, err = command(MAIN, "alexnet", "--weights", path, "--out", tmp_path / "out")
    assert code == 2
    assert "holds weights of 'lenet', not of 'alexnet'" in one_line(err)
    assert not (tmp_path / "out").exists()
