"""ONNX Runtime's CUDA and TensorRT providers, with a stand-in for onnxruntime: what is asked, and what is read back."""

import os
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgeline
from edgeline.backends import import_packages
from edgeline.errors import ArtefactError, GateError, InputError, MissingCapabilityError, ResourceError, ShapeError
from edgeline.selftest import run_selftest
from edgeline.tensorrt.products import ProductState
from tests.runtime.tensorrt_fakes import GPU, make_artefact

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class FakeOnnxRuntime(types.ModuleType):
    """Takes the place of onnxruntime. `starts` are the providers that start; the others fall away, as in real life."""

    __version__ = "1.31.1"

    class GraphOptimizationLevel:
        ORT_DISABLE_ALL = "none"

    def __init__(
        self,
        available=(TENSORRT, CUDA, CPU),
        starts=(TENSORRT, CUDA, CPU),
        error=None,
        keeps=None,
        nodes=((TENSORRT, 2),),
        wrong=0.0,
    ):
        super().__init__("onnxruntime")
        self.available, self.starts, self.error, self.keeps = list(available), starts, error, keeps or {}
        self.nodes, self.wrong, self.weights = nodes, wrong, None
        self.sessions = []
        self.InferenceSession = lambda *args, **keywords: self.open(*args, **keywords)

    def get_available_providers(self):
        return self.available

    class SessionOptions:
        def __init__(self):
            self.entries = {}

        def add_session_config_entry(self, key, value):
            self.entries[key] = value

    def open(self, graph, options, providers):
        self.weights = onnx.numpy_helper.to_array(onnx.load(graph).graph.initializer[0])
        kind = FakeInference if self.nodes is None else FakeInference124
        session = kind(self, options, providers)
        self.sessions.append(session)
        if self.error:
            raise RuntimeError(self.error)
        return session


class FakeInference:
    def __init__(self, module, options, providers):
        self.options, self.asked, self.module = options, dict(providers), module
        self.running = [name for name, _ in providers if name in module.starts] or [CPU]

    def get_providers(self):
        return self.running

    def get_provider_options(self):
        return {name: {**self.asked.get(name, {}), **self.module.keeps} for name in self.running}

    def get_inputs(self):
        return [types.SimpleNamespace(name="input", shape=["N", 1, 4, 4])]

    def get_outputs(self):
        return [types.SimpleNamespace(name="logits", shape=["N", 3])]

    def run(self, names, feeds):
        return [feeds["input"].reshape(len(feeds["input"]), -1) @ self.module.weights + np.float32(self.module.wrong)]


class FakeInference124(FakeInference):
    """From 1.24 on it tells which provider has which nodes."""

    def get_provider_graph_assignment_info(self):
        if self.options.entries.get("session.record_ep_graph_assignment_info") != "1":
            raise RuntimeError("Session configuration entry must be set")
        return [types.SimpleNamespace(ep_name=name, get_nodes=lambda n=count: [None] * n) for name, count in self.nodes]

    @property
    def nodes(self):
        return self.module.nodes


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A GPU, a cache, and no TensorRT of Python's: the library is the system's."""
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # so that what the session sets is undone afterwards
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    for module in ("onnxruntime", "onnxruntime_tensorrt"):
        monkeypatch.setattr(f"edgeline.backends.{module}.has_cuda_driver", lambda: True)
    monkeypatch.setattr("edgeline.backends.onnxruntime_tensorrt.gpu", lambda: GPU)
    monkeypatch.setattr("edgeline.tensorrt.products._is_installed", lambda _module: False)


@pytest.fixture
def open_with(monkeypatch, tmp_path):
    """Open a session on a stand-in; return both."""

    def load(fake, engine="onnxruntime-tensorrt", device="auto", precision="fp32", name="a", seed=0):
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        folder = tmp_path / name
        if not folder.exists():
            make_artefact(folder, precision=precision, seed=seed)
        return edgeline.load(folder, device, engine=engine), fake.sessions[-1]

    return load


# --- TensorRT's provider ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16", "tf32"])
def test_the_graph_decides_the_precision(open_with, tmp_path, precision):
    session, inference = open_with(FakeOnnxRuntime(), precision=precision)
    assert (session.engine, session.device) == ("onnxruntime-tensorrt", "cuda")
    assert list(inference.asked) == [TENSORRT, CUDA]  # in this order, and no CPU to fall back to
    asked = inference.asked[TENSORRT]
    assert asked["trt_fp16_enable"] is asked["trt_int8_enable"] is False
    # ONNX Runtime's Python layer takes the words True and False for these, and not 1 and 0.
    assert asked["trt_engine_cache_enable"] is asked["trt_timing_cache_enable"] is True
    assert [asked[f"trt_profile_{name}_shapes"] for name in ("min", "opt", "max")] == [
        "input:1x1x4x4", "input:4x1x4x4", "input:8x1x4x4",
    ]  # fmt: skip
    assert inference.asked[CUDA] == {"use_tf32": "1" if precision == "tf32" else "0"}
    assert os.environ.get("NVIDIA_TF32_OVERRIDE") == (None if precision == "tf32" else "0")
    assert inference.options.entries["session.disable_cpu_ep_fallback"] == "1"
    assert inference.options.graph_optimization_level == "none"


def test_each_graph_has_an_engine_folder_of_its_own(open_with, tmp_path):
    """ONNX Runtime names engines by graph, not by weights: two trainings of one network would share an engine."""
    places = {
        open_with(FakeOnnxRuntime(), name=f"a{seed}", seed=seed)[1].asked[TENSORRT]["trt_engine_cache_path"]
        for seed in range(3)
    }
    again = open_with(FakeOnnxRuntime(), name="again", seed=0)[1].asked[TENSORRT]["trt_engine_cache_path"]
    assert len(places) == 3
    assert again in places
    for place in places:
        assert place.startswith(str(tmp_path / "cache" / "ort-tensorrt"))
        assert os.stat(place).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("starts", [(CUDA, CPU), (CPU,), ()])
def test_a_provider_that_does_not_start_is_never_passed_over(open_with, starts):
    with pytest.raises(MissingCapabilityError, match=r"TensorRT provider did not start \(it fell back to C"):
        open_with(FakeOnnxRuntime(starts=starts))


@pytest.mark.parametrize("nodes", [(), ((CUDA, 2),), ((TENSORRT, 0), (CUDA, 2))])
def test_a_graph_of_which_tensorrt_takes_nothing_is_refused(open_with, nodes):
    found = "2 on CUDAExecutionProvider" if nodes else "none anywhere"
    with pytest.raises(MissingCapabilityError, match=f"TensorRT takes no node of a from ONNX Runtime .*{found}"):
        open_with(FakeOnnxRuntime(nodes=nodes))


@pytest.mark.parametrize("nodes", [((CUDA, 1), (TENSORRT, 1)), None])  # None: before 1.24 nobody can be asked
def test_a_graph_that_tensorrt_takes_in_parts_is_run(open_with, nodes):
    assert open_with(FakeOnnxRuntime(nodes=nodes))[0].device == "cuda"


# --- the engine that ONNX Runtime builds and keeps --------------------------------------------------------------------


def folder_of(inference):
    return Path(inference.asked[TENSORRT]["trt_engine_cache_path"])


@pytest.fixture
def tests_run(monkeypatch):
    """The sessions that ran the self-test."""
    ran = []

    def counted(session):
        ran.append(session)
        return run_selftest(session)

    monkeypatch.setattr("edgeline.backends.onnxruntime_tensorrt.run_selftest", counted)
    return ran


def test_a_new_engine_is_tested_once(open_with, tests_run, capsys):
    session, inference = open_with(FakeOnnxRuntime())
    assert tests_run == [session]
    assert "a: ONNX Runtime builds TensorRT's engine for it now" in capsys.readouterr().err
    (folder_of(inference) / "x.engine").touch()
    open_with(FakeOnnxRuntime())
    assert (len(tests_run), capsys.readouterr().err) == (1, "")
    assert (folder_of(inference) / "x.engine").exists()  # one that passed is used again
    open_with(FakeOnnxRuntime(), name="other", seed=1)
    assert len(tests_run) == 2


def test_an_engine_that_computes_something_else_is_not_used_again(open_with, tests_run):
    with pytest.raises(GateError, match="self-test of a on onnxruntime-tensorrt failed.*; the engine was not kept$"):
        open_with(fake := FakeOnnxRuntime(wrong=1.0))
    left = folder_of(fake.sessions[0]) / "x.engine"
    left.touch()
    open_with(FakeOnnxRuntime())
    assert len(tests_run) == 2
    assert not left.exists()


@pytest.mark.parametrize("error", [RuntimeError("cut off"), KeyboardInterrupt()])
def test_an_engine_whose_build_was_cut_off_is_not_used(open_with, tests_run, error):
    fake, real = FakeOnnxRuntime(), FakeOnnxRuntime.open

    def cut_off(self, graph, options, providers):
        (Path(dict(providers)[TENSORRT]["trt_engine_cache_path"]) / "half.engine").touch()
        raise error

    fake.open = types.MethodType(cut_off, fake)
    with pytest.raises((MissingCapabilityError, KeyboardInterrupt)):
        open_with(fake)
    fake.open = types.MethodType(real, fake)
    _, inference = open_with(fake)
    assert [path.name for path in folder_of(inference).iterdir()] == ["self-test-passed"]
    assert len(tests_run) == 1


def test_sessions_that_open_at_once_build_once(tmp_path, monkeypatch, tests_run):
    """ONNX Runtime writes its engines in place: a second session would read a half-written one."""
    fake, building, most = FakeOnnxRuntime(), [0], [0]
    real, folder = fake.open, make_artefact(tmp_path / "a")

    def slow(graph, options, providers):
        marked = (Path(dict(providers)[TENSORRT]["trt_engine_cache_path"]) / "self-test-passed").exists()
        building[0] += not marked
        most[0] = max(most[0], building[0])
        time.sleep(0.1)
        building[0] -= not marked
        return real(graph, options, providers)

    fake.open = slow
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    threads = [threading.Thread(target=edgeline.load, args=(folder, "auto", 1, "onnxruntime-tensorrt")) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(fake.sessions), len(tests_run)) == ([1], 2, 1)


def test_tensorrts_libraries_are_loaded_with_the_packages(monkeypatch):
    """Where the command holds interrupts back, and not while the session opens."""
    loaded = []
    monkeypatch.setattr("edgeline.tensorrt.products.load_product", loaded.append)
    import_packages("onnxruntime-tensorrt", "onnx")
    monkeypatch.setattr("edgeline.tensorrt.products.product_state", lambda _name: ProductState("tensorrt", "10.9.0.34"))
    import_packages("onnxruntime-tensorrt", "onnx")
    import_packages("onnxruntime", "onnx")
    assert loaded == ["trt"]


def test_an_error_while_opening_says_what_may_be_missing(open_with):
    error = "This session contains graph nodes that are assigned to the default CPU EP\nand more"
    with pytest.raises(MissingCapabilityError, match=r"cannot run .*default CPU EP; it needs the TensorRT"):
        open_with(FakeOnnxRuntime(error=error))


@pytest.mark.parametrize(
    ("fake", "device", "driver", "error", "words"),
    [
        (FakeOnnxRuntime(), "cpu", True, InputError, "runs on the GPU only; --engine onnxruntime --device cpu"),
        (FakeOnnxRuntime(), "auto", False, MissingCapabilityError, "needs an NVIDIA GPU and its driver"),
        (FakeOnnxRuntime((CUDA, CPU)), "auto", True, MissingCapabilityError, r"pip install 'edgeline\[gpu\]'"),
        (
            FakeOnnxRuntime(keeps={"use_tf32": "1"}),
            "cuda",
            True,
            MissingCapabilityError,
            "keeps use_tf32=1, fp32",
        ),
    ],
)
def test_what_cannot_be_opened(open_with, monkeypatch, fake, device, driver, error, words):
    monkeypatch.setattr("edgeline.backends.onnxruntime_tensorrt.has_cuda_driver", lambda: driver)
    with pytest.raises(error, match=words):
        open_with(fake, device=device)


@pytest.mark.parametrize(
    ("precision", "value", "words"),
    [("fp32", "1", "NVIDIA_TF32_OVERRIDE=1 is set, and fp32 runs without"), ("tf32", "0", "tf32 needs a new one")],
)
def test_an_environment_that_says_otherwise_is_refused(open_with, monkeypatch, precision, value, words):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    with pytest.raises(InputError, match=words):
        open_with(FakeOnnxRuntime(), precision=precision)


def test_a_cache_that_cannot_be_used_is_refused(open_with, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(ResourceError, match="may be written by others"):
        open_with(FakeOnnxRuntime())


def test_batches_are_those_of_the_profile(open_with):
    session, _ = open_with(FakeOnnxRuntime())
    assert session.infer(np.zeros((8, 1, 4, 4), np.float32)).shape == (8, 3)
    assert session.infer_all(np.zeros((20, 1, 4, 4), np.float32)).shape == (20, 3)
    with pytest.raises(ShapeError, match="takes batches of 1 to 8 on TensorRT, got 9: infer_all"):
        session.infer(np.zeros((9, 1, 4, 4), np.float32))


# --- the CUDA provider ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("int8", "0"), ("tf32", "1")])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_tf32_is_off_on_cuda_unless_it_is_the_precision(open_with, device, precision, tf32):
    session, inference = open_with(FakeOnnxRuntime(), "onnxruntime", device, precision)
    assert session.device == "cuda"
    assert inference.asked == {CUDA: {"use_tf32": tf32}, CPU: {}}


def test_auto_may_end_on_the_cpu_and_says_so(open_with):
    session, _ = open_with(FakeOnnxRuntime(starts=(CPU,)), "onnxruntime", "auto")
    assert session.device == "cpu"


@pytest.mark.parametrize(
    ("fake", "error", "words"),
    [
        (FakeOnnxRuntime(starts=(CPU,)), MissingCapabilityError, "CUDA provider did not start"),
        (FakeOnnxRuntime((CPU,)), MissingCapabilityError, "device='cuda' needs ONNX Runtime with CUDA"),
        (FakeOnnxRuntime(keeps={"use_tf32": "1"}), MissingCapabilityError, "keeps use_tf32=1"),
        (FakeOnnxRuntime(error="no such operator"), ArtefactError, "ONNX Runtime refuses .*: no such operator"),
    ],
)
def test_cuda_runs_on_the_gpu_or_raises(open_with, fake, error, words):
    with pytest.raises(error, match=words):
        open_with(fake, "onnxruntime", "cuda")
