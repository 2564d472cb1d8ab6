"""The build on the device and its cache, with stand-ins for what needs a GPU (tests/runtime/tensorrt_fakes.py)."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeline
from edgeline.artefact import open_artefact
from edgeline.backends import choose_engine, engine_of_format, import_packages, session_class
from edgeline.cache import is_whole
from edgeline.errors import ArtefactError, GateError, InputError, MissingCapabilityError, UnknownNameError
from edgeline.tensorrt import building, plans
from tests.runtime import tensorrt_fakes as fakes
from tests.runtime.tensorrt_fakes import GPU, FakeSession, fake_product, make_artefact, plan_bytes

ROOT = Path(__file__).parent.parent.parent


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
    second = building.build_plan(flat)
    assert (second.origin, second.path, builds.count) == ("cached", first.path, 1)
    assert second.selftest is None
    assert files_of(cache) == [first.path.name, f"{first.path.name}.sha256"]
    ((device, tested),) = FakeSession.opened
    assert device == "cuda"
    assert tested != first.path  # under its final name only after the self-test


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


def test_a_plan_that_computes_something_else_is_not_kept(flat, builds, cache):
    builds.body = b"nonsense"
    with pytest.raises(GateError, match=r"self-test of flat.* failed: .*; the engine was not kept"):
        building.build_plan(flat)
    assert files_of(cache) == []


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
    with pytest.raises(InputError, match="brings an engine that fits here; leave --rebuild out"):
        building.build_plan(own, rebuild=True)
    assert files_of(cache) == []


def test_an_artefact_whose_own_plan_is_for_another_gpu_is_built(tmp_path, builds):
    other = open_artefact(make_artefact(tmp_path / "other", "trt-rtx", plan=plan_bytes(targets=("12.0",))))
    built = building.build_plan(other)
    assert (built.origin, builds.count) == ("built", 1)
    assert plans.ready_plan(other, fake_product("trt-rtx"), GPU) == built.path


@pytest.mark.parametrize(
    ("format_name", "gpu", "error", "words"),
    [
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


# --- keys and the choice of a plan ------------------------------------------------------------------------------------


def test_the_key_is_made_of_all_that_decides_the_plan(flat, tmp_path):
    product = fake_product("trt-rtx")

    def digest(artefact=flat, product=product, gpu=GPU):
        return plans.plan_key(artefact, product, gpu).digest

    def changed(**changes):
        return replace(flat, manifest=replace(flat.manifest, **changes))

    first = digest()
    others = [
        digest(open_artefact(make_artefact(tmp_path / "seed", "trt-rtx", seed=1))),
        digest(changed(precision="int8")),
        digest(changed(batch=replace(flat.manifest.batch, max=16))),
        digest(product=fake_product("trt-rtx", "1.7.2.5")),
        digest(product=fake_product("trt", "1.7.1.116")),
        digest(gpu=replace(GPU, name="Testine 5000")),
        digest(gpu=replace(GPU, compute_capability="12.0")),
        digest(gpu=replace(GPU, driver="13.1")),
    ]
    others.append(replace(plans.plan_key(flat, product, GPU), builder_revision=plans.BUILDER_REVISION + 1).digest)
    assert len({first, *others}) == 1 + len(others)
    assert digest(open_artefact(make_artefact(tmp_path / "elsewhere", "trt-rtx"))) == first  # no path, no date
    assert digest(gpu=replace(GPU, memory_bytes=1)) == first


def test_targets_are_this_gpu_where_the_product_takes_any(flat):
    assert plans.settings_of(flat, fake_product("trt-rtx"), GPU).compute_capabilities == ("8.9",)
    assert plans.settings_of(flat, fake_product("trt"), GPU).compute_capabilities == ()


@pytest.mark.parametrize(
    ("format_name", "plan", "target", "reason"),
    [
        ("trt", None, {}, "is built on the device, and none is cached for TensorRT 10.9.0.34 on Testine 4000"),
        ("trt-rtx", plan_bytes(targets=("12.0",)), {}, "built for compute capability 12.0, Testine 4000 has 8.9"),
        ("trt-rtx", plan_bytes(version="1.6.0.1"), {}, "made by TensorRT-RTX 1.6.0.1, here is 1.7.1.116"),
        ("trt-rtx", plan_bytes("trt"), {}, "made by TensorRT 10.9.0.34, TensorRT-RTX is needed"),
        ("trt-rtx", plan_bytes(total=1000), {}, "has 68 bytes where its header tells 1000"),
        ("trt", plan_bytes("trt"), {"compute_capability": "8.7"}, "built for compute capability 8.7"),
        ("trt", plan_bytes("trt"), {"compute_capabilities": ["8.7"]}, "built for compute capability 8.7"),
    ],
)
def test_without_a_plan_that_fits_the_error_names_the_command(tmp_path, format_name, plan, target, reason):
    artefact = open_artefact(make_artefact(tmp_path / "a", format_name, plan=plan, target=target))
    with pytest.raises(MissingCapabilityError) as caught:
        plans.ready_plan(artefact, fake_product(format_name), GPU)
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"edgeline build {artefact.folder}")


@pytest.mark.parametrize(
    ("format_name", "plan", "target", "installed"),
    [
        ("trt-rtx", plan_bytes(targets=("8.0", "8.9")), {}, "1.7.1.116"),
        ("trt", plan_bytes("trt"), {"compute_capability": "8.9"}, "10.9.0.34"),
        ("trt", plan_bytes("trt"), {}, "10.9.0"),  # as TensorRT's Debian package calls itself
        ("trt", plan_bytes("trt", total=1000), {}, "10.9.0"),  # its header is not known to tell the size
    ],
)
def test_the_artefacts_own_plan_where_it_fits(tmp_path, cache, format_name, plan, target, installed):
    artefact = open_artefact(make_artefact(tmp_path / "a", format_name, plan=plan, target=target))
    found = plans.ready_plan(artefact, fake_product(format_name, installed), GPU)
    assert found.parent == artefact.folder
    assert not cache.exists()  # a device whose cache cannot be used runs it all the same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.3.0.30", "10.3.0.30", True),
        ("10.3.0.30", "10.3.0", True),
        ("10.3.0.30", "10.3.0.26", False),
        ("10.3.0.30", "10.3.1", False),
        ("10.3.0.30", "10.3", False),  # too little to tell
        ("1.7.1.116", "11.7.1.116", False),
    ],
)
def test_versions(one, other, same):
    assert plans.is_same_version(one, other) is same
    assert plans.is_same_version(other, one) is same


def test_a_plan_that_is_none_is_an_error(tmp_path):
    artefact = open_artefact(make_artefact(tmp_path / "a", "trt-rtx", plan=b"x" * 100))
    with pytest.raises(ArtefactError, match="is no TensorRT engine"):
        plans.ready_plan(artefact, fake_product("trt-rtx"), GPU)


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
    name = plans.cached_plan(flat, fake_product("trt-rtx"), GPU).name
    for left in (f".{name}.unproven", f".{name}.{process.pid}.tmp", f".{name}.sha256.{process.pid}.tmp"):
        (cache / left).write_bytes(plan_bytes())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    with pytest.raises(MissingCapabilityError, match="none is cached"):
        plans.ready_plan(flat, fake_product("trt-rtx"), GPU)
    assert building.build_plan(flat).origin == "built"  # at once: the lock went with the process
    assert files_of(cache) == [name, f"{name}.sha256"]


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
    with pytest.raises(MissingCapabilityError, match=r"tensorrt needs cuda\.bindings\.runtime .*edgeline\[trt\]"):
        import_packages("tensorrt", "trt")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingCapabilityError, match=r"onnxruntime needs onnxruntime .*edgeline\[onnx\]"):
        import_packages("onnxruntime", "onnx")
