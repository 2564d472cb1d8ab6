"""Other people's networks: .onnx files and factories."""

import textwrap

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgeline
import edgeline.cli
import edgeline_export.cli
from edgeline.artefact import open_artefact
from tests.conftest import one_line

MAIN = edgeline_export.cli.main


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
    path = own_network(tmp_path, 3, reshape_batch=3)
    code, _, err = command(MAIN, path, "--out", tmp_path, "--batch", 3)
    assert code == 0, err
    with edgeline.load(tmp_path / "net.fp32.onnx") as session:
        batch = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
        assert session.infer(batch).shape == (3, 3)
        with pytest.raises(edgeline.errors.ShapeError, match="expected a batch of 3, got 4"):
            session.infer(np.zeros((4, 1, 8, 8), np.float32))
        np.testing.assert_array_equal(session.infer_all(batch[[0, 1, 2, 0]])[3], session.infer(batch)[0])
    assert command(edgeline.cli.main, "selftest", tmp_path / "net.fp32.onnx")[0] == 0  # 16 inputs: 5 batches and one
    np.save(tmp_path / "one.npy", batch[0])
    assert command(edgeline.cli.main, "run", tmp_path / "net.fp32.onnx", tmp_path / "one.npy")[0] == 0


def test_a_network_of_other_classes_is_not_judged_by_a_data_set(factory_module, command, tmp_path):
    code, _, err = command(MAIN, f"{factory_module}:Five", "--input-shape", "1,28,28", "--dataset", "mnist-10k")
    assert code == 2
    assert "five has 5 outputs, mnist-10k test split has 10 classes" in one_line(err)
    inputs = np.zeros((3, 1, 28, 28), np.float32)
    np.savez(tmp_path / "s.npz", inputs=inputs, labels=np.array([0, 4, 5]))
    code, _, err = command(MAIN, f"{factory_module}:Five", "--samples", tmp_path / "s.npz")
    assert code == 2
    assert "holds labels from 0 to 5, five has classes 0 to 4" in one_line(err)


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

    def leaving():
        raise SystemExit("bye\\nbye")

    class Branching(nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    def Five():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 5))

    class Dictionary(nn.Module):
        def forward(self, x):
            return {"logits": x}

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
    (package / "broken.py").write_text("def :")
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
        ("theirs.nets:Smal", "unknown factory of theirs.nets 'Smal' (did you mean Small?)"),
        ("theirs.net:Small", "No module named 'theirs.net'; it is looked for in the current folder and on PYTHONPATH"),
        ("theirs.broken:Small", "theirs.broken:Small cannot be imported: SyntaxError: "),
        ("theirs.nets:leaving", "theirs.nets:leaving raised SystemExit: bye bye"),
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
        ("Small", "1,4,4", "Small does not run on float32 ['N', 1, 4, 4]: RuntimeError: "),
        ("Pair", "1,28,28", "Pair returns a tuple; edgeline takes networks that return a tensor"),
        ("Dictionary", "1,28,28", "Dictionary returns a dict; edgeline takes networks that return a tensor"),
        ("Branching", "1,28,28", "torch cannot export this network to ONNX: "),
    ],
)
def test_modules_that_cannot_be_exported(factory_module, command, name, shape, words):
    code, _, err = command(MAIN, f"{factory_module}:{name}", "--input-shape", shape)
    assert code == 2
    assert words in one_line(err)
    assert err.count("\n") == 2  # the note and the error: nothing of torch's own log


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
        words = (
            "has no numbers [N, ...] named 'inputs'"
            if damage == "no inputs"
            else "the network takes float32 ['N', 1, 8, 8]"
        )
        if damage == "no archive":
            (tmp_path / "s.npz").write_bytes(b"junk")
            words = "is no .npz archive"
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert not (tmp_path / "out").exists()
