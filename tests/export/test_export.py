import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

import edgeline
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.errors import GateError
from edgeline.manifest import BatchRange
from edgeline_export import verify as gate
from edgeline_export.formats import FORMATS
from edgeline_export.samples import Samples
from edgeline_export.subject import Subject
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS
from edgeline_train.models.weights import load_weights
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


def test_the_selftest_holds_real_inputs_and_their_logits(exported, weights_file):
    """Against the test split's first digits and PyTorch's own answer."""
    with np.load(exported / "selftest.npz") as arrays:
        inputs, logits = arrays["inputs"], arrays["logits"]
    digits = load_split(DATASETS["mnist-10k"], "test", None).images[:16]
    assert np.allclose(inputs[:, 0], (digits / 255 - 0.1313) / 0.3089, atol=1e-6)
    network = MODELS["lenet"].build()
    load_weights(weights_file, network, MODELS["lenet"])
    with torch.inference_mode():
        assert np.allclose(logits, network.eval()(torch.from_numpy(inputs)).numpy(), atol=1e-4)


def test_two_exports_are_byte_identical(exported, weights_folder, tmp_path, command):
    code, out, _ = command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path)
    assert code == 0
    for name in ("model.onnx", "selftest.npz"):
        assert (tmp_path / exported.name / name).read_bytes() == (exported / name).read_bytes()
    assert out.startswith(f"{tmp_path / exported.name}: accuracy 0.")


def test_list_formats(command):
    code, out, _ = command(MAIN, "--list-formats")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[::2]] == list(FORMATS)
    assert "precisions: fp32, fp16, int8, int8+fp16; available" in out
    code, out, _ = command(MAIN, "--list-formats", "--json")
    assert json.loads(out)[0]["available"] is True


@pytest.mark.parametrize(
    ("text", "sizes", "batch"),
    [
        ("1:8:64", (1, 8, 64), (1, 8, 64)),
        ("1,8,64,256", (1, 8, 64, 256), (1, 8, 256)),
        ("4", (4,), (4, 4, 4)),
        ("2:2:2", (2,), (2, 2, 2)),
        ("1,16", (1, 16), (1, 16, 16)),
    ],
)
def test_batch_sizes_are_verified_and_their_second_is_optimised_for(
    monkeypatch, command, weights_folder, text, sizes, batch
):
    seen = []
    monkeypatch.setattr(type(FORMATS["onnx"]), "export", lambda self, subject, request: seen.append(request) or 1 / 0)
    command(MAIN, "lenet", "--weights", weights_folder, "--batch", text)
    (request,) = seen
    assert (request.sizes, request.batch) == (sizes, BatchRange(*batch))


# --- the gate ---------------------------------------------------------------------------------------------------------


def subject(labels=True, count=2_000):
    """A source that answers with its input: ten numbers a sample, the largest is the class."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((count, 10)).astype(np.float32)
    return Subject(
        "toy", None, onnx.ModelProto(), lambda batch: batch, "identity",
        Samples("toy samples", inputs, inputs.argmax(axis=1) if labels else None), None, None, {},
    )  # fmt: skip


def judge(exported, max_drop=0.01, labels=True, sizes=(1, 8, 64), precision="fp32"):
    return gate.verify(subject(labels), exported, "toy", precision, sizes, max_drop)


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


def test_int8_without_labels_is_judged_by_agreement():
    judged = judge(wrong_for(0.005), labels=False, precision="int8")
    assert judged.verification.accuracy_exported is None
    assert 0.99 <= judged.verification.top1_agreement < 1
    with pytest.raises(GateError, match=r"the export agrees with its source on 0\.9[67]\d\d of toy samples"):
        judge(wrong_for(0.03), labels=False, precision="int8")


def judge_single(outputs, exported, precision="int8"):
    """Judge an export of a network with one number a sample."""
    inputs = np.arange(200, dtype=np.float32)[:, np.newaxis]
    one = Subject("one", None, onnx.ModelProto(), outputs, "eager", Samples("toys", inputs, None), None, None, {})
    return gate.verify(one, exported, "toy", precision, (1, 8, 64), 0.01)


@pytest.mark.parametrize(
    ("precision", "passes", "fails", "words"),
    [
        ("int8", 0.04, 0.06, r"0\.06 from the source's where int8 allows 0\.05"),
        ("int8+fp16", 0.04, 0.06, r"0\.06 from the source's where int8\+fp16 allows 0\.05"),
        ("fp16", 0.01, 0.03, r"0\.03 from the source's where fp16 allows 0\.02"),
    ],
)
def test_one_float_a_sample_is_judged_by_its_size(precision, passes, fails, words):
    """There is no class to agree on."""
    judge_single(lambda batch: batch / 200, lambda batch: batch / 200 + np.float32(passes), precision)
    with pytest.raises(GateError, match=f"differs by {words}"):
        judge_single(lambda batch: batch / 200, lambda batch: batch / 200 + np.float32(fails), precision)


def test_one_whole_number_a_sample_is_its_class():
    def classes(batch):
        return batch.astype(np.int64) % 5

    judge_single(classes, classes)
    with pytest.raises(GateError, match=r"agrees with its source on 0\.9000 of toys"):
        judge_single(classes, lambda batch: np.where(batch.astype(int) % 10 == 0, 1, classes(batch)))


def test_the_tolerance_of_int8_is_what_it_did_to_the_logits():
    largest = float(np.abs(subject().samples.array).max())
    assert judge(lambda batch: batch + np.float32(0.3), precision="int8").tolerance == pytest.approx(0.3, rel=1e-5)
    assert judge(lambda batch: batch, precision="int8").tolerance == pytest.approx(0.02 * largest)


def test_a_batch_size_that_fails_is_found():
    def run(batch):
        if len(batch) == 8:
            raise ValueError("shape was frozen\nmore words")
        return batch

    with pytest.raises(GateError, match="fails at batch 8: shape was frozen; nothing was written"):
        judge(run)


@pytest.mark.parametrize("size", [2, 5, 48])
def test_each_of_the_batch_sizes_is_run(size):
    def run(batch):
        if len(batch) == size:
            raise ValueError("shape was frozen")
        return batch

    with pytest.raises(GateError, match=f"fails at batch {size}"):
        judge(run, sizes=(2, 5, 48))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_a_batch_size_that_gives_other_outputs_is_found(precision):
    with pytest.raises(GateError, match="gives other outputs at batch 1 than at 64"):
        judge(lambda batch: batch if len(batch) > 1 else batch + 1, precision=precision)


def test_another_output_shape_fails():
    with pytest.raises(GateError, match=r"the export gives \[2000, 5\], its source \[2000, 10\]"):
        judge(lambda batch: batch[:, :5])


def test_a_failing_gate_leaves_the_old_artefact(artefact, weights_folder, command, monkeypatch):
    before = (artefact / "manifest.json").read_bytes()
    real = edgeline.backends.onnxruntime.OnnxRuntimeSession._infer
    monkeypatch.setattr(edgeline.backends.onnxruntime.OnnxRuntimeSession, "_infer", lambda s, b: -real(s, b))
    code, out, err = command(MAIN, "lenet", "--weights", weights_folder, "--out", artefact.parent)
    assert (code, out) == (1, "")
    assert "accuracy falls from" in one_line(err)
    assert (artefact / "manifest.json").read_bytes() == before
    assert [path.name for path in artefact.parent.iterdir()] == [artefact.name]


def test_an_artefact_is_no_subject(exported, command):
    code, _, err = command(MAIN, exported)
    assert code == 2
    assert one_line(err).endswith(f"is an artefact already; its graph is {exported / 'model.onnx'}")


def test_a_folder_that_is_no_artefact_is_not_replaced(weights_folder, command, tmp_path):
    theirs = tmp_path / "lenet-mnist-10k.fp32.onnx" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.touch()
    code, _, err = command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path)
    assert code == 2
    assert "is there already and is no artefact" in one_line(err)
    assert theirs.exists()


def test_what_a_killed_export_left_is_cleared_away(exported, weights_folder, command, tmp_path):
    left = tmp_path / f".{exported.name}.999999999.tmp"
    left.mkdir()
    assert command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == [exported.name]


def test_without_its_packages_it_says_what_is_missing(command, monkeypatch):
    import edgeline_export.formats.packages as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnx" else True)
    code, out, _ = command(MAIN, "--list-formats")
    assert code == 0
    assert "not available: onnx not installed -> pip install 'edgeline[export]'" in out
    code, _, err = command(MAIN, "lenet")
    assert code == 3
    assert "format onnx cannot be written here: onnx not installed" in one_line(err)


@pytest.mark.parametrize("argv", [["--help"], ["--list-formats"]])
def test_help_and_list_need_none_of_the_packages(argv):
    """In a process of its own that cannot import them."""
    code = (
        "import sys\nfor name in ('onnx', 'onnxruntime', 'torch', 'onnxscript', 'scipy', 'rich', 'plotly'):\n"
        "    sys.modules[name] = None\n"
        f"from edgeline_export.cli import main\nsys.exit(main({argv!r}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "onnx" in result.stdout


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, os.strerror(28)), 4)])
def test_ctrl_c_and_a_full_disk_leave_nothing(weights_folder, command, monkeypatch, tmp_path, error, code):
    def fail(_folder):
        raise error

    monkeypatch.setattr("edgeline_export.writer._entries", fail)
    found, _, err = command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path / "a")
    assert found == code
    one_line(err)
    assert list((tmp_path / "a").iterdir()) == []


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "alexnet, alexnet-28, an .onnx file, or package.module:factory"),
        (["lennet"], "unknown model 'lennet' (did you mean lenet"),
        (["lenet"], "there are no weights of 'lenet' in weights; make them with: train-model lenet"),
        (["lenet", "--dataset", "mnist"], "make them with: train-model lenet --dataset mnist"),
        (["lenet", "--dataset", "mnst"], "unknown data set 'mnst' (did you mean mnist"),
        (["lenet", "--format", "onx"], "unknown format 'onx' (did you mean onnx?)"),
        (["lenet", "--precision", "fp31"], "unknown precision of format onnx 'fp31' (did you mean fp32 or fp16?)"),
        (["lenet", "--batch", "8:4:2"], "expected MIN:OPT:MAX"),
        (["lenet", "--batch", "x"], "a list like 1,8,64, or one size, got 'x'"),
        (["lenet", "--max-drop", "1.5"], "expected a share like 5% or 0.05, got '1.5'"),
        (["lenet", "--name", "../evil"], "--name takes letters, digits, '.', '_' and '-', not '../evil'"),
        (["lenet", "--input-shape", "28x28"], "expected sizes like 1,28,28, got '28x28'"),
        (["lenet", "--input-shape", "1,28,28"], "--input-shape does not apply to a network of ours (lenet)"),
        (["a:b", "--weights", "w"], "--weights does not apply to a factory (a:b)"),
        (["a.onnx", "--dataset", "mnist-10k", "--samples", "s.npz"], "give --dataset or --samples, not both"),
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
