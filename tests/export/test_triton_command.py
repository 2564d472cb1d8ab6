"""export-model --triton-repository: from the command line to what Triton reads."""

import json

import numpy as np
import onnxruntime
import pytest

import edgeline.cli
import edgeline_export.cli
from edgeline_export.formats import trt as trt_formats
from edgeline_export.triton import schema as schema_module
from tests.conftest import one_line
from tests.doubles import gpu_double
from tests.doubles.artefacts import small_graph, write_artefact
from tests.export.triton_repositories import loadable, made_by_hand, parsed

pytest.importorskip("tritonclient", reason="tritonclient: pip install 'edgeline[triton]'")

MAIN = edgeline_export.cli.main


@pytest.fixture
def models(tmp_path):
    return tmp_path / "srv" / "models"


@pytest.fixture
def export(command, weights_folder, tmp_path, models):
    def run(*options, subject="lenet"):
        weights = ["--weights", weights_folder, "--out", tmp_path / "out"] if subject == "lenet" else []
        return command(MAIN, subject, *weights, "--triton-repository", models, *options)

    return run


def test_an_export_and_its_repository(export, models, tmp_path):
    code, out, _ = export("--batch", "1:4:16")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'out' / 'lenet-mnist-10k.fp32.onnx'}: accuracy")
    assert lines[1] == f"{models / 'lenet-mnist-10k-fp32-onnx' / '1'}: version 1 of lenet-mnist-10k-fp32-onnx"
    config = parsed(models / "lenet-mnist-10k-fp32-onnx/config.pbtxt")
    session = onnxruntime.InferenceSession(
        models / "lenet-mnist-10k-fp32-onnx/1/model.onnx", providers=["CPUExecutionProvider"]
    )
    assert config.max_batch_size == 16
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 16]
    for tensor, (told,) in ((session.get_inputs()[0], config.input), (session.get_outputs()[0], config.output)):
        assert (told.name, list(told.dims)) == (tensor.name, tensor.shape[1:])
    assert session.run(None, {config.input[0].name: np.zeros((16, 1, 28, 28), np.float32)})[0].shape == (16, 10)
    assert (models / "lenet-mnist-10k-fp32-onnx/labels.txt").read_text().split() == [str(i) for i in range(10)]
    code, out, _ = export("--batch", "1:4:16")
    assert code == 0
    assert out.splitlines()[1].endswith("/1: version 1 of lenet-mnist-10k-fp32-onnx, as before: the files are the same")
    assert loadable(models) == {"lenet-mnist-10k-fp32-onnx": 1}


def test_an_engine_is_built_and_served(export, models):
    with gpu_double("trt10"):
        code, out, err = export("--format", "trt", "--json")
    assert code == 0
    record = json.loads(out)
    folder = models / "lenet-mnist-10k-fp32-trt"
    assert record["triton"] == {
        "repository": str(models), "model": "lenet-mnist-10k-fp32-trt", "version": 1, "is_new": True,
        "path": str(folder / "1"),
    }  # fmt: skip
    assert (folder / "1/model.plan").stat().st_size == record["manifest"]["compilation"]["plan_bytes"]
    assert "with the TensorRT that built it, on the GPU it was built for" in err


def test_an_engine_that_the_device_built_is_served(command, tmp_path, models, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    artefact = write_artefact(tmp_path / "small.fp32.trt", "trt", built=False)
    serve = (MAIN, artefact.folder, "--triton-repository", models)
    code, out, err = command(*serve)
    assert (code, out) == (3, "")
    assert f"no NVIDIA GPU is here to have built one: on the device with the GPU, edgeline build {artefact.folder}" in (
        one_line(err)
    )
    with gpu_double("trt10"):
        code, _, err = command(*serve)
        assert code == 3
        assert f"edgeline build {artefact.folder}" in one_line(err)
        assert not models.exists()
        code, out, _ = command(edgeline.cli.main, "build", artefact.folder)
        assert code == 0
        code, out, _ = command(*serve)
    assert code == 0
    assert out == f"{models / 'small-fp32-trt' / '1'}: version 1 of small-fp32-trt\n"
    cached = next(path for path in (tmp_path / "cache/plans").iterdir() if path.name.endswith(".plan"))
    assert (models / "small-fp32-trt/1/model.plan").read_bytes() == cached.read_bytes()


def test_an_artefact_that_is_there_is_served_under_another_name(command, tmp_path, models):
    artefact = made_by_hand(tmp_path / "small.int8.openvino", "openvino", precision="int8")
    code, out, err = command(MAIN, artefact.folder, "--triton-repository", models, "--name", "digits", "--json")
    assert code == 0
    assert json.loads(out)["triton"]["path"] == str(models / "digits-int8-openvino" / "1")
    assert "computes the float32 of this int8 model in bfloat16" in err
    assert loadable(models) == {"digits-int8-openvino": 1}


# --- refused, before any work -----------------------------------------------------------------------------------------


def refused(found, code, words):
    assert found[:2] == (code, "")
    assert words in one_line(found[2])
    assert "converting" not in found[2]


def test_trt_without_a_gpu_says_how_to_go_on(export, models, monkeypatch):
    monkeypatch.setattr(trt_formats, "gpu", lambda: None)
    found = export("--format", "trt")
    refused(found, 3, "written without an engine here: no NVIDIA GPU or no driver; run this on the device with the GPU")
    assert "edgeline build ARTEFACT, then export-model ARTEFACT --triton-repository DIR" in one_line(found[2])
    assert not models.exists()


def test_formats_that_triton_does_not_serve(export, command, tmp_path, models):
    words = "--triton-repository is for --format onnx, trt and openvino, not for c; leave it out"
    refused(export("--format", "c"), 2, words)
    artefact = made_by_hand(tmp_path / "small.fp32.c", "onnx", format="c")
    refused(command(MAIN, artefact.folder, "--triton-repository", models), 2, words)


def test_without_the_package(export, monkeypatch):
    monkeypatch.setattr(schema_module, "find_spec", lambda name: None)
    refused(export(), 3, "(tritonclient and grpc not installed): pip install 'edgeline[triton]'")


def test_an_engine_that_refuses_small_batches(export, command, tmp_path, models):
    words = (
        "Triton sends batches from 1, and an engine for 4 to 16 refuses those below 4; export it with --batch 1:8:16"
    )
    with gpu_double("trt10"):
        found = export("--format", "trt", "--batch", "4:8:16")
    assert found[0] == 2
    assert words in one_line(found[2])
    artefact = made_by_hand(tmp_path / "small.fp32.trt", "trt", batch={"min": 4, "opt": 8, "max": 16})
    refused(command(MAIN, artefact.folder, "--triton-repository", models), 2, words)
    assert not models.exists()


def test_places_that_cannot_be(export, models):
    models.parent.mkdir()
    models.touch()
    refused(export(), 2, f"{models} is in the way")
    refused(export("--triton-repository", ""), 2, "expected a folder, got an empty text")


@pytest.mark.parametrize("option", [("--precision", "int8"), ("--batch", "4"), ("--format", "trt"), ("--out", "x")])
def test_options_that_an_artefact_would_ignore(command, tmp_path, models, option):
    artefact = made_by_hand(tmp_path / "a")
    found = command(MAIN, artefact.folder, "--triton-repository", models, *option)
    refused(found, 2, f"{option[0]} does not apply to an artefact ({artefact.folder}); leave it out")
    assert not models.exists()


def test_an_artefact_that_was_changed_is_not_served(command, tmp_path, models):
    artefact = made_by_hand(tmp_path / "a")
    (artefact.folder / "model.onnx").write_bytes(small_graph(seed=5))
    refused(command(MAIN, artefact.folder, "--triton-repository", models), 2, "is not the file that was exported")
    assert not models.exists()


def test_a_gate_that_fails_serves_nothing(export, models, monkeypatch):
    code, _, err = export("--precision", "int8", "--max-drop", "0", "--calibration-samples", "1")
    assert code == 1
    assert "nothing was written" in one_line(err)
    assert not models.exists()
