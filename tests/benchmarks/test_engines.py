"""Which engine is measured: the format's own where it can run here, or the one that --engine names."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

import edgeline_bench.cli
from edgeline.artefact import open_artefact
from edgeline.errors import InputError
from edgeline_bench import tables
from edgeline_bench.engines.eager import EagerEngine
from edgeline_bench.points import PointOptions, points_of_artefact
from edgeline_bench.report import read_report
from edgeline_train.models import MODELS
from edgeline_train.models.weights import load_weights
from tests.conftest import one_line
from tests.export.networks import write_untrained
from tests.runtime import tensorrt_fakes as fakes
from tests.runtime.tensorrt_fakes import make_artefact, plan_bytes

MAIN = edgeline_bench.cli.main
SHORT = ("--baseline", "none", "--batch", 1, "--rounds", 1, "--seconds", 0.02)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_gpu(monkeypatch):
    fakes.pretend(monkeypatch.setattr, gpu=None, installed=False)


@pytest.fixture
def no_workers(monkeypatch):
    def started(_point):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("edgeline_bench.rounds.WorkerHandle", started)


@pytest.mark.parametrize(
    ("format_name", "plan"), [("trt", None), ("trt-rtx", None), ("trt", plan_bytes("trt")), ("trt-rtx", plan_bytes())]
)
def test_an_engine_that_cannot_run_here_is_3_before_any_worker(
    tmp_path, command, no_gpu, no_workers, format_name, plan
):
    folder = make_artefact(tmp_path / "flat", format_name, plan=plan)
    code, out, err = command(MAIN, folder, *SHORT, "--out", tmp_path / "r.json")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "there is no NVIDIA GPU or driver here" in one_line(err)
    assert f"edgeline build {folder} makes its engine on the device, --engine onnxruntime runs its graph" in err
    assert not (tmp_path / "r.json").exists()


def test_an_engine_that_was_not_built_yet_is_3(tmp_path, command, monkeypatch, no_workers):
    fakes.pretend(monkeypatch.setattr)
    folder = make_artefact(tmp_path / "flat", "trt")
    code, _, err = command(MAIN, folder, *SHORT, "--out", tmp_path / "r.json")
    assert code == 3
    assert f"its engine was not built here yet): edgeline build {folder}" in one_line(err)


@pytest.mark.parametrize(
    ("format_name", "precision", "arithmetic"),
    [
        pytest.param("trt", "int8", "fp32", marks=pytest.mark.slow),
        ("trt-rtx", "int8+fp16", "fp32"),
        pytest.param("trt", "fp32", "fp32", marks=pytest.mark.slow),
        ("onnx", "int8", "int8"),
        pytest.param("onnx", "fp16", "fp32", marks=pytest.mark.slow),
    ],
)
def test_the_graph_can_be_timed_on_onnxruntime(tmp_path, command, no_gpu, format_name, precision, arithmetic):
    folder = make_artefact(tmp_path / "flat", format_name, precision)
    code, out, err = command(MAIN, folder, *SHORT, "--engine", "onnxruntime", "--out", tmp_path / "r.json")
    assert code == 0
    report = read_report(tmp_path / "r.json")
    (row,) = report["results"]
    assert (row["engine"], row["precision"], row["device"]) == ("onnxruntime", precision, "cpu")
    assert row["arithmetic"] == arithmetic
    assert report["protocol"]["device"] == "cpu"
    other = arithmetic != precision
    assert (f"flat: ONNX Runtime computes it in float32 here: its time is no {precision} time" in err) is other
    assert (f"flat is {precision} by its graph; here it was computed in fp32." in out) is other
    assert "onnxruntime  flat" in out


@pytest.mark.parametrize(
    ("engine", "words"),
    [("tensorrt", "tensorrt runs trt and trt-rtx artefacts, not onnx"), ("tensort", "invalid choice: 'tensort'")],
)
def test_an_engine_that_does_not_fit_is_2(tmp_path, command, no_workers, engine, words):
    folder = make_artefact(tmp_path / "flat", "onnx")
    code, out, err = command(MAIN, folder, *SHORT, "--engine", engine, "--out", tmp_path / "r.json")
    assert (code, out) == (2, "")
    assert words in one_line(err)


def options(batches, engine=None):
    return PointOptions(batches, 1, (), None, None, engine)


@pytest.mark.parametrize(
    ("engine", "found", "device"),
    [
        (None, "tensorrt", "cuda"),
        ("onnxruntime-tensorrt", "onnxruntime-tensorrt", "cuda"),
        ("onnxruntime", "onnxruntime", "cpu"),
    ],
)
def test_points_say_engine_and_device(tmp_path, engine, found, device):
    artefact = open_artefact(make_artefact(tmp_path / "flat", "trt"))
    (point,) = points_of_artefact(artefact, options((4,), engine))
    assert (point.engine, point.device, point.spec()["format"]) == (found, device, "trt")


def test_an_engine_takes_the_batches_that_it_was_built_for(tmp_path):
    artefact = open_artefact(make_artefact(tmp_path / "flat", "trt"))
    with pytest.raises(InputError, match="takes batches of 1 to 8 on tensorrt, not 64; give --batch 1,4,8"):
        points_of_artefact(artefact, options((1, 8, 64)))
    assert len(points_of_artefact(artefact, options((1, 8, 64), "onnxruntime"))) == 3


def test_no_ratio_across_devices():
    """A GPU against eager PyTorch on the CPU compares two machines, not two engines."""
    row = {"source": "s", "batch": 1, "scenario": "single-stream", "precision": "fp32", "artefact": "a", "threads": 1}
    eager = {**row, "engine": "eager", "device": "cpu", "latency_s": {"p50": 2.0}}
    here = {**row, "engine": "onnxruntime", "device": "cpu", "latency_s": {"p50": 1.0}}
    there = {**row, "engine": "tensorrt", "device": "cuda", "latency_s": {"p50": 0.1}}
    report = {"results": [eager, here, there]}
    assert (tables.speedup(report, here), tables.speedup(report, there)) == (2.0, None)
    assert [line.split()[2] for line in tables.headlines(report)] == ["onnxruntime"]


def test_the_baseline_has_plain_weights(tmp_path):
    """One that scattered its kernels at each call would be slower than anybody's network."""
    path = write_untrained(tmp_path, "lenet5-c3")
    engine = EagerEngine({"source": {"kind": "model", "model": "lenet5-c3", "weights": str(path)}})
    engine.load()
    assert not any(parametrize.is_parametrized(module) for module in engine._network.modules())
    source = MODELS["lenet5-c3"].build().eval()
    load_weights(path, source, MODELS["lenet5-c3"])
    inputs = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        np.testing.assert_array_equal(engine.infer(inputs.numpy()), source(inputs).numpy())
