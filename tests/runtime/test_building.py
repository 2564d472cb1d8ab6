"""The build on the device and its cache, with stand-ins for what needs a GPU (tests/runtime/tensorrt_fakes.py)."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import edgeline
from edgeline.artefact import open_artefact
from edgeline.backends import choose_engine, engine_of_format, import_packages, session_class
from edgeline.cache import is_whole, locked, write_checked
from edgeline.errors import (
    ArtefactError,
    GateError,
    InputError,
    MissingCapabilityError,
    ResourceError,
    UnknownNameError,
)
from edgeline.tensorrt import building, plans
from tests.runtime import tensorrt_fakes as fakes
from tests.runtime.tensorrt_fakes import GPU, FakeSession, fake_product, make_artefact, plan_bytes

ROOT = Path(__file__).parent.parent.parent
ORIN = replace(GPU, name="Orin", compute_capability="8.7", driver="12.6")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    FakeSession.opened.clear()
    return tmp_path / "cache" / "plans"


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """A GPU, a product and a builder that are pretended; counts the builds."""
    found = fakes.Builds(tmp_path / "builds.log")
    fakes.pretend(monkeypatch.setattr, found)
    return found


@pytest.fixture
def flat(tmp_path):
    return open_artefact(make_artefact(tmp_path / "flat.fp32.trt-rtx", "trt-rtx"))


def files_of(cache):
    """What lies in the cache besides locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") if cache.exists() else []


# --- the build --------------------------------------------------------------------------------------------------------


def test_it_builds_tests_and_caches_once(flat, builds, cache, capsys):
    first = building.build_plan(flat)
    assert (first.origin, builds.count) == ("built", 1)
    assert first.warnings == ("a word of warning",)
    assert first.selftest.samples == 16
    assert first.selftest.max_abs_diff < 1e-4
    assert is_whole(first.path)
    assert first.path.read_bytes() == plan_bytes()  # pure: what the builder made, and nothing else
    err = capsys.readouterr().err
    assert "TensorRT-RTX 1.7.1.116 for Testine 4000 (compute capability 8.9), driver for CUDA 13.0, fp32" in err
    ((device, tested),) = FakeSession.opened
    assert device == "cuda"
    assert tested != first.path  # under its final name only after the self-test
    assert files_of(cache) == [first.path.name, f"{first.path.name}.{sha256(plan_bytes()).hexdigest()}"]
    second = building.build_plan(flat)
    assert (second.origin, second.path, builds.count) == ("cached", first.path, 1)
    assert second.selftest == first.selftest
    assert FakeSession.opened[1:] == [("cuda", first.path)]


@pytest.mark.parametrize("typed", [True, False])
def test_it_tells_whether_the_plan_was_built_strongly_typed(flat, builds, typed):
    builds.strongly_typed = typed
    assert building.build_plan(flat).strongly_typed is typed
    assert building.build_plan(flat).strongly_typed is None  # of a cached one nobody knows it


def test_rebuild_builds_again(flat, builds):
    building.build_plan(flat)
    assert building.build_plan(flat, rebuild=True).origin == "built"
    assert builds.count == 2


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"x"), lambda path: path.unlink()])
def test_a_damaged_plan_is_built_again(flat, builds, damage):
    path = building.build_plan(flat).path
    damage(path)
    with pytest.raises(MissingCapabilityError, match=r"damaged|none is cached"):
        plans.ready_plan(flat, fake_product("trt-rtx"), GPU)
    assert building.build_plan(flat).origin == "built"
    assert is_whole(path)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"nonsense", "self-test of flat.* failed: .*; the engine was not kept$"),
        (b"refused", "TensorRT does not load .*: Error Code 6; the engine was not kept$"),
    ],
)
def test_a_plan_that_fails_is_not_kept(flat, builds, cache, body, words):
    builds.body = body
    with pytest.raises(GateError, match=words):
        building.build_plan(flat)
    assert files_of(cache) == []


@pytest.mark.parametrize("body", [b"nonsense", b"refused"])
def test_a_cached_plan_that_fails_now_is_built_again(flat, builds, body, capsys):
    """A driver or a library that was updated under the same key: the file is whole, and no longer runs."""
    path = building.build_plan(flat).path
    write_checked(path, plan_bytes(body=body))
    capsys.readouterr()
    built = building.build_plan(flat)
    assert (built.origin, built.path, builds.count) == ("built", path, 2)
    assert path.read_bytes() == plan_bytes()
    notes = capsys.readouterr().err.splitlines()
    assert notes[0].startswith("the engine of flat.fp32.trt-rtx that is ready here is not used: ")
    assert "edgeline build" not in notes[0]
    assert building.build_plan(flat).origin == "cached"


def test_a_rebuild_that_fails_keeps_the_plan_that_passed(flat, builds):
    path = building.build_plan(flat).path
    builds.body = b"nonsense"
    with pytest.raises(GateError):
        building.build_plan(flat, rebuild=True)
    assert is_whole(path)
    assert path.read_bytes() == plan_bytes()


@pytest.mark.parametrize("error", [InputError("refused"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing(flat, builds, cache, monkeypatch, error):
    def fails(*_args):
        raise error

    monkeypatch.setattr(building, "build_engine", fails)
    with pytest.raises(type(error)):
        building.build_plan(flat)
    assert files_of(cache) == []


def test_an_artefact_that_brings_its_own_plan(tmp_path, builds, cache):
    own = open_artefact(make_artefact(tmp_path / "own", "trt-rtx", plan=plan_bytes()))
    built = building.build_plan(own)
    assert (built.origin, built.path, builds.count) == ("artefact", own.folder / "model.rtxplan", 0)
    assert built.selftest.samples == 16
    assert files_of(cache) == []
    rebuilt = building.build_plan(own, rebuild=True)
    assert (rebuilt.origin, builds.count) == ("built", 1)
    assert plans.ready_plan(own, fake_product("trt-rtx"), GPU) == rebuilt.path  # from now on the one built here


@pytest.mark.parametrize("body", [b"nonsense", b"refused"])
def test_an_artefact_whose_own_plan_fails_here_is_built(tmp_path, builds, body, capsys):
    """Its header fits, and it does not run: TensorRT's header does not tell which GPU it was built on."""
    own = open_artefact(make_artefact(tmp_path / "own", "trt-rtx", plan=plan_bytes(body=body)))
    built = building.build_plan(own)
    assert (built.origin, builds.count) == ("built", 1)
    assert capsys.readouterr().err.startswith("the engine of own that is ready here is not used: ")
    assert building.build_plan(own).origin == "cached"
    with edgeline.load(own.folder) as session:
        assert session.engine == "tensorrt"
    assert FakeSession.opened[-1] == ("auto", built.path)


def test_an_artefact_whose_own_plan_is_none_is_built(tmp_path, builds):
    own = open_artefact(make_artefact(tmp_path / "own", "trt-rtx", plan=b"x" * 100))
    with pytest.raises(ArtefactError, match=f"is no TensorRT engine.*: edgeline build {own.folder}$"):
        building.build_missing(own)
    assert building.build_plan(own).origin == "built"
    building.build_missing(own)
    assert builds.count == 1


def test_an_own_plan_does_without_a_cache(tmp_path, builds, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "file"))
    own = open_artefact(make_artefact(tmp_path / "own", "trt-rtx", plan=plan_bytes()))
    assert plans.ready_plan(own, fake_product("trt-rtx"), GPU) == own.folder / "model.rtxplan"
    assert building.build_plan(own).origin == "artefact"
    for folder, rebuild in ((own.folder, True), (make_artefact(tmp_path / "none", "trt-rtx"), False)):
        with pytest.raises(ResourceError, match="cannot be made"):
            building.build_plan(open_artefact(folder), rebuild=rebuild)
    assert builds.count == 0


def test_what_it_cannot_run_without_is_missed_before_the_build(flat, builds, monkeypatch):
    def refuses(_gpu):
        raise MissingCapabilityError("the driver is too old")

    monkeypatch.setattr(building, "open_cuda", refuses)
    with pytest.raises(MissingCapabilityError, match="too old"):
        building.build_plan(flat)
    assert builds.count == 0


def test_an_artefact_whose_own_plan_is_for_another_gpu_is_built(tmp_path, builds):
    other = open_artefact(make_artefact(tmp_path / "other", "trt-rtx", plan=plan_bytes(targets=("12.0",))))
    built = building.build_plan(other)
    assert (built.origin, builds.count) == ("built", 1)
    assert plans.ready_plan(other, fake_product("trt-rtx"), GPU) == built.path


@pytest.mark.parametrize(
    ("format_name", "gpu", "error", "words"),
    [
        ("trt", ORIN, MissingCapabilityError, r"edgeline\[trt\]' 'cuda-bindings>=12.6,<13'"),
        ("trt", None, MissingCapabilityError, "no NVIDIA GPU .* TensorRT builds on the GPU.*--engine onnxruntime runs"),
        ("trt-rtx", None, MissingCapabilityError, "TensorRT-RTX could build here, but checks the engine by running it"),
        ("trt", GPU, MissingCapabilityError, r"TensorRT is not installed: pip install 'edgeline\[trt\]'"),
        ("onnx", GPU, InputError, "has no engine to build: its format is onnx, trt and trt-rtx have one"),
    ],
)
def test_what_cannot_be_built(tmp_path, monkeypatch, format_name, gpu, error, words):
    fakes.pretend(monkeypatch.setattr, gpu=gpu, installed=False)
    monkeypatch.setattr("edgeline.tensorrt.products._is_installed", lambda _module: False)
    with pytest.raises(error, match=words):
        building.build_plan(open_artefact(make_artefact(tmp_path / "a", format_name)))


# --- several processes ------------------------------------------------------------------------------------------------

BUILD = """
import os, signal, sys
from tests.runtime import tensorrt_fakes as fakes
fakes.pretend(fakes.patch_for_good, fakes.Builds(sys.argv[2], seconds=float(sys.argv[3])))
from edgeline.artefact import open_artefact
from edgeline.tensorrt.building import build_plan
print("ready", flush=True)
built = build_plan(open_artefact(sys.argv[1]))
print(built.origin, built.path, flush=True)
"""


def start_build(artefact, log, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(artefact.folder), str(log), str(seconds)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_of_two_processes_one_builds_and_the_other_finds_it(flat, tmp_path, cache):
    log = tmp_path / "builds.log"
    processes = [start_build(flat, log, 1.0) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    answers = sorted(out.split()[1:] for out, _ in results)
    assert [origin for origin, _ in answers] == ["built", "cached"]
    assert answers[0][1] == answers[1][1]
    assert len(log.read_text().split()) == 1
    assert any("waiting for another process that is making" in err for _, err in results)
    assert len(files_of(cache)) == 2


def test_a_build_that_is_killed_leaves_nothing_that_loads(flat, tmp_path, cache, builds):
    log = tmp_path / "killed.log"
    process = start_build(flat, log, 60)
    wait_for(log.exists)
    # Also what a process leaves that is killed while it tests the plan, or while it writes it.
    name, digest = plans.cached_plan(flat, fake_product("trt-rtx"), GPU).name, sha256(plan_bytes()).hexdigest()
    for left in (f".{name}.unproven", f".{name}.{digest}.{process.pid}-0.tmp", f"{name}.{'0' * 64}"):
        (cache / left).write_bytes(plan_bytes())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    with pytest.raises(MissingCapabilityError, match="none is cached"):
        plans.ready_plan(flat, fake_product("trt-rtx"), GPU)
    assert building.build_plan(flat).origin == "built"  # at once: the lock went with the process
    assert files_of(cache) == [name, f"{name}.{digest}"]


def test_the_next_build_of_anything_removes_what_killed_builds_left(flat, tmp_path, cache, builds):
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o700)
    dead, alive = cache / f".{'1' * 64}.plan.unproven", cache / f".{'2' * 64}.plan.unproven"
    for left in (dead, alive):
        left.write_bytes(plan_bytes())
    with locked(cache / f"{'2' * 64}.plan"):  # as a build that is under way does
        building.build_plan(flat)
    assert [dead.exists(), alive.exists()] == [False, True]
    building.build_plan(flat, rebuild=True)
    assert not alive.exists()


# --- edgeline.load and the table of engines ---------------------------------------------------------------------------


def test_load_never_builds_by_itself(flat, builds):
    with pytest.raises(MissingCapabilityError, match=f"edgeline build {flat.folder}"):
        edgeline.load(flat.folder)
    assert builds.count == 0


def test_load_builds_what_is_missing_once(flat, builds):
    for _ in range(2):
        with edgeline.load(flat.folder, build="missing") as session:
            inputs = np.load(flat.folder / "selftest.npz")
            np.testing.assert_allclose(session.infer_all(inputs["inputs"]), inputs["logits"], atol=1e-4)
    assert builds.count == 1


@pytest.mark.parametrize("origin", ["cached", "artefact"])
def test_load_does_not_test_what_is_ready(tmp_path, builds, origin):
    plan = plan_bytes() if origin == "artefact" else None
    folder = make_artefact(tmp_path / "a", "trt-rtx", plan=plan)
    building.build_plan(open_artefact(folder))
    FakeSession.opened.clear()
    edgeline.load(folder, build="missing").close()
    assert len(FakeSession.opened) == 1  # the session itself, and none for a self-test


def test_load_takes_an_artefact_that_is_open(flat, builds, monkeypatch):
    monkeypatch.setattr("edgeline.loading.open_artefact", None)  # its files are not hashed again
    with edgeline.load(flat, build="missing") as session:
        assert session.artefact is flat


@pytest.mark.parametrize("build", ["always", "", None, True])
def test_load_takes_two_values_of_build(flat, build):
    with pytest.raises(InputError, match="build must be 'never' or 'missing'"):
        edgeline.load(flat.folder, build=build)


def test_load_does_not_build_for_the_cpu(flat, builds, monkeypatch):
    monkeypatch.setattr(FakeSession, "__init__", lambda *_args: None)
    edgeline.load(flat.folder, device="cpu", build="missing")
    assert builds.count == 0


@pytest.mark.parametrize("format_name", ["trt", "trt-rtx"])
def test_onnxruntime_runs_the_graph_of_any_artefact(tmp_path, format_name):
    folder = make_artefact(tmp_path / "a", format_name)
    with edgeline.load(folder, engine="onnxruntime", build="missing") as session:
        assert (session.engine, session.device) == ("onnxruntime", "cpu")
        inputs = np.load(folder / "selftest.npz")
        np.testing.assert_allclose(session.infer_all(inputs["inputs"]), inputs["logits"], atol=1e-4)


def test_cuda_of_a_graph_never_falls_back(tmp_path):
    if "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers():
        pytest.skip("onnxruntime here has the CUDA provider: its absence cannot be tested")
    with pytest.raises(MissingCapabilityError, match=r"edgeline\[gpu\]"):
        edgeline.load(make_artefact(tmp_path / "a"), "cuda", engine="onnxruntime")


def test_each_format_has_its_engine():
    assert [engine_of_format(name) for name in ("onnx", "trt", "trt-rtx")] == ["onnxruntime", "tensorrt", "tensorrt"]
    assert choose_engine("trt", None) == "tensorrt"
    assert choose_engine("trt", "onnxruntime-tensorrt") == "onnxruntime-tensorrt"
    assert session_class("tensorrt").engine == "tensorrt"
    assert session_class("onnxruntime-tensorrt").engine == "onnxruntime-tensorrt"


def test_engines_that_do_not_fit_a_format(tmp_path):
    with pytest.raises(InputError, match="tensorrt runs trt and trt-rtx artefacts, not onnx: leave --engine out"):
        edgeline.load(make_artefact(tmp_path / "a", "onnx"), engine="tensorrt")
    with pytest.raises(UnknownNameError, match="unknown engine 'tensort' \\(did you mean"):
        choose_engine("trt", "tensort")
    with pytest.raises(UnknownNameError, match="unknown artefact format 'tr'"):
        choose_engine("tr", "onnxruntime")


def test_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr("edgeline.tensorrt.products.load_product", fake_product)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    for gpu, line in ((GPU, "<14"), (ORIN, "<13"), (None, "<14")):
        monkeypatch.setattr("edgeline.cuda.gpu", lambda gpu=gpu: gpu)
        with pytest.raises(MissingCapabilityError, match=rf"cuda\.bindings\.runtime .*'cuda-bindings>=12\.6,{line}'$"):
            import_packages("tensorrt", "trt")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingCapabilityError, match=r"onnxruntime needs onnxruntime .*edgeline\[onnx\]"):
        import_packages("onnxruntime", "onnx")
