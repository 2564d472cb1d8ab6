"""`edgeline` on trt and trt-rtx artefacts: build, info, run, selftest, doctor. A GPU is pretended."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import edgeline.cli
import edgeline.doctor
from edgeline import interrupts
from edgeline.artefact import open_artefact
from edgeline.tensorrt import building
from edgeline.tensorrt.products import ProductState
from tests.conftest import one_line
from tests.runtime import tensorrt_fakes as fakes
from tests.runtime.tensorrt_fakes import GPU, FakeSession, make_artefact, plan_bytes

MAIN = edgeline.cli.main


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A machine with a GPU, both products and a builder, all pretended."""
    builds = fakes.Builds(tmp_path / "builds.log")
    fakes.pretend(monkeypatch.setattr, builds)
    return builds


@pytest.fixture
def bare(monkeypatch):
    """A machine without a GPU and without either product."""
    fakes.pretend(monkeypatch.setattr, gpu=None, installed=False)
    monkeypatch.setattr("edgeline.tensorrt.products._is_installed", lambda _module: False)


@pytest.fixture
def flat(tmp_path):
    return make_artefact(tmp_path / "flat.fp32.trt-rtx", "trt-rtx")


# --- build ------------------------------------------------------------------------------------------------------------


def test_build_says_what_it_did(flat, device, command):
    code, out, err = command(MAIN, "build", flat)
    assert code == 0
    assert out.startswith("engine    built, tested and cached\nfile      ")
    assert "selftest  passed: 16 inputs, largest difference" in out
    assert "building flat.fp32.trt-rtx: TensorRT-RTX 1.7.1.116 for Testine 4000" in err
    assert "the builder warns: a word of warning" in err
    code, out, err = command(MAIN, "build", flat)
    assert (code, err) == (0, "")
    assert out.startswith("engine    found in the cache and tested again: nothing to build\nfile      ")
    assert "selftest  passed: 16 inputs, largest difference" in out
    code, out, _ = command(MAIN, "build", flat, "--rebuild", "--json")
    record = json.loads(out)
    assert (record["origin"], record["bytes"], record["selftest"]["samples"]) == ("built", 68, 16)
    assert (record["warnings"], record["strongly_typed"]) == (["a word of warning"], True)
    assert "strong typing" not in err
    assert device.count == 2


def test_build_says_when_types_were_not_demanded(flat, device, command):
    device.strongly_typed = False
    code, out, err = command(MAIN, "build", flat, "--json")
    assert (code, json.loads(out)["strongly_typed"]) == (0, False)
    assert err.endswith("built without strong typing: fp32 is allowed in this engine, not demanded\n")


def test_build_of_an_artefact_with_its_own_engine(tmp_path, device, command):
    own = make_artefact(tmp_path / "own", "trt-rtx", plan=plan_bytes())
    code, out, _ = command(MAIN, "build", own)
    assert code == 0
    lines = ("engine    the artefact's own, tested here: nothing to build", f"file      {own / 'model.rtxplan'}")
    assert out.startswith("\n".join([*lines, "selftest  passed: 16 inputs"]))
    code, out, _ = command(MAIN, "build", own, "--rebuild")
    assert (code, out.splitlines()[0]) == (0, "engine    built, tested and cached")
    assert "loads     yes, from the cache" in command(MAIN, "info", own)[1]


def test_the_command_that_selftest_names_is_the_way_out(tmp_path, device, command):
    own = make_artefact(tmp_path / "own", "trt-rtx", plan=plan_bytes(body=b"refused"))
    code, _, err = command(MAIN, "selftest", own)
    assert code == 2
    assert one_line(err).endswith(f": edgeline build {own}")
    assert command(MAIN, "build", own)[0] == 0
    assert command(MAIN, "selftest", own)[0] == 0


def test_build_of_an_engine_that_fails_is_1(flat, device, command):
    device.body = b"nonsense"
    code, out, err = command(MAIN, "build", flat)
    assert (code, out) == (1, "")
    assert one_line(err).endswith("; the engine was not kept")


def test_build_where_nothing_is_here_is_3(flat, bare, command):
    code, out, err = command(MAIN, "build", flat)
    assert (code, out) == (3, "")
    assert "there is no NVIDIA GPU or driver here" in one_line(err)


def test_build_with_a_cache_of_everybody_is_4(flat, device, command, cache):
    cache.mkdir()
    cache.chmod(0o777)
    code, _, err = command(MAIN, "build", flat)
    assert code == 4
    assert f"chmod go-w {cache}" in one_line(err)


@pytest.mark.parametrize(("argv", "words"), [(["nowhere"], "there is no artefact at nowhere"), ([], "required")])
def test_wrong_builds_are_2(command, argv, words):
    code, out, err = command(MAIN, "build", *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)


# --- info -------------------------------------------------------------------------------------------------------------


def test_info_on_an_engine_file_needs_nothing(tmp_path, bare, command):
    path = tmp_path / "a.rtxplan"
    path.write_bytes(plan_bytes(targets=("8.9", "12.0"), total=1000))
    code, out, err = command(MAIN, "info", path)
    assert (code, err) == (2, "")  # an engine that is not whole is a damaged file
    assert out.splitlines() == [
        f"file      {path}",
        "engine    TensorRT-RTX 1.7.1.116",
        "targets   compute capability 8.9, 12.0",
        "size      68 bytes, NOT whole",
        "loads     no: it has 68 bytes where its header tells 1000    -> copy or export it again",
        "loads     no: there is no NVIDIA GPU or driver here    -> run it on the device",
        "loads     no: TensorRT-RTX is not installed    -> pip install 'edgeline[trt-rtx]'",
    ]
    code, out, _ = command(MAIN, "info", path, "--json")
    record = json.loads(out)
    assert code == 2
    assert (record["product"], record["whole"], record["loads_here"]) == ("TensorRT-RTX", False, False)
    assert len(record["obstacles"]) == 3


def test_info_on_an_engine_file_that_fits(tmp_path, device, command):
    path = tmp_path / "a.plan"
    path.write_bytes(plan_bytes("trt"))
    code, out, _ = command(MAIN, "info", path)
    assert code == 0
    assert "targets   the GPU that it was built on (TensorRT's header does not tell which)" in out
    assert "loads     yes, as far as its header tells" in out


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.engine", b"\x02\0\0\0{}" + plan_bytes("trt"), "begins at byte 6: tail -c +7 "),
        ("a.txt", b"nothing at all", "is no engine: 14 bytes"),
        ("deep.engine", (200_000).to_bytes(4, "little") + b"[" * 200_000 + b"x" * 100, "is no TensorRT engine"),
    ],
)
def test_info_on_what_is_no_engine_is_2(tmp_path, command, name, content, words):
    (tmp_path / name).write_bytes(content)
    code, out, err = command(MAIN, "info", tmp_path / name)
    assert (code, out) == (2, "")
    assert words in one_line(err)


def test_info_on_an_artefact_tells_of_its_engine(flat, device, command):
    code, out, _ = command(MAIN, "info", flat)
    assert code == 0
    assert "form      trt-rtx, fp32, on-device" in out
    assert "engine    TensorRT-RTX, built on the device\n" in out
    assert f"loads     no: its engine was not built here yet    -> edgeline build {flat}\n" in out
    assert "cached    no engine built for this machine\n" in out
    command(MAIN, "build", flat)
    code, out, _ = command(MAIN, "info", flat)
    assert "loads     yes, from the cache\ncached    /" in out


def test_info_keeps_the_manifests_keys_and_adds_the_engine(tmp_path, device, command):
    folder = make_artefact(tmp_path / "own", "trt-rtx", plan=plan_bytes())
    code, out, _ = command(MAIN, "info", folder, "--json")
    assert code == 0
    record, manifest = json.loads(out), json.loads(open_artefact(folder).manifest.to_json())
    assert {key: record[key] for key in manifest} == manifest
    assert record["engine"]["uses"] == "artefact"
    assert record["engine"]["plan"]["targets"] == ["8.9"]
    onnx = make_artefact(tmp_path / "onnx", "onnx")
    assert "engine" not in json.loads(command(MAIN, "info", onnx, "--json")[1])
    assert "\nengine" not in command(MAIN, "info", onnx)[1]


def test_info_on_an_artefact_whose_difference_is_not_known(flat, command, edit_manifest):
    check = {**json.loads((flat / "manifest.json").read_text())["verification"], "max_abs_diff": None}
    edit_manifest(flat, verification=check)
    code, out, _ = command(MAIN, "info", flat)
    assert code == 0
    assert "largest difference not known" in out


def test_info_on_a_damaged_artefact_is_still_2(flat, command):
    (flat / "model.onnx").write_bytes(b"x")
    code, _, err = command(MAIN, "info", flat)
    assert code == 2
    assert "its manifest says" in one_line(err)


# --- run and selftest -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["run", "selftest"])
def test_run_and_selftest_build_only_when_asked(flat, device, command, tmp_path, what):
    inputs = [] if what == "selftest" else [tmp_path / "a.npy"]
    np.save(tmp_path / "a.npy", np.zeros((1, 1, 4, 4), np.float32))
    code, _, err = command(MAIN, what, flat, *inputs)
    assert code == 3
    assert f"edgeline build {flat}" in one_line(err)
    assert device.count == 0
    code, out, _ = command(MAIN, what, flat, *inputs, "--build", "missing")
    assert code == 0
    assert "on tensorrt" in out or str(tmp_path / "a.npy") in out
    assert command(MAIN, what, flat, *inputs)[0] == 0
    assert device.count == 1


def test_the_graph_runs_without_an_engine(flat, bare, command):
    code, out, _ = command(MAIN, "selftest", flat, "--engine", "onnxruntime", "--build", "missing")
    assert code == 0
    assert out.startswith("passed: 16 inputs on onnxruntime (cpu)")


def test_building_is_not_tried_for_the_cpu(flat, device, command, monkeypatch):
    def refuses(self, artefact, device="auto", threads=1, plan=None):
        raise edgeline.cli.InputError(f"not on {device}")

    monkeypatch.setattr(FakeSession, "__init__", refuses)
    code, _, err = command(MAIN, "selftest", flat, "--device", "cpu", "--build", "missing")
    assert (code, one_line(err)) == (2, "edgeline: not on cpu")
    assert device.count == 0


@pytest.mark.parametrize("build", ["never", "missing"])
def test_nothing_is_built_or_opened_while_interrupts_are_held(flat, device, command, monkeypatch, build):
    """Only imports are: a session of onnxruntime-tensorrt may build for minutes, too."""
    held = []
    opened, builds = FakeSession.__init__, device

    def looks(real):
        def call(*arguments, **keywords):
            held.append(interrupts._state.held)
            return real(*arguments, **keywords)

        return call

    if build == "never":
        command(MAIN, "build", flat)
    monkeypatch.setattr(FakeSession, "__init__", looks(opened))
    monkeypatch.setattr(building, "build_engine", looks(builds))
    assert command(MAIN, "selftest", flat, "--build", build)[0] == 0
    assert held == [False] * (1 if build == "never" else 3)


def test_ctrl_c_ends_a_build_and_leaves_nothing(flat, device, command, monkeypatch, cache):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "build_engine", interrupted)
    code, _, err = command(MAIN, "build", flat)
    assert (code, one_line(err)) == (130, "edgeline: interrupted")
    assert [path.suffix for path in (cache / "plans").iterdir()] == [".lock"]


# --- doctor -----------------------------------------------------------------------------------------------------------


def rows(command):
    code, out, _ = command(MAIN, "doctor", "--json")
    return code, {row["what"]: row for row in json.loads(out)}


def test_doctor_where_there_is_no_gpu(bare, command, cache):
    code, found = rows(command)
    assert code == 0  # ONNX Runtime works
    assert {name for name, row in found.items() if row["ok"]} >= {"python", "onnxruntime", "cache"}
    assert found["tensorrt"]["detail"].startswith("TensorRT is not installed, and no NVIDIA GPU to run on")
    assert found["tensorrt"]["fix"] == "pip install 'edgeline[trt]'"
    assert found["tensorrt-rtx"]["fix"] == "pip install 'edgeline[trt-rtx]'"
    assert found["nvidia-gpu"]["ok"] is False
    assert found["cache"]["detail"] == f"{cache}, not made yet"
    assert not cache.exists()  # a doctor changes nothing


def test_doctor_on_a_device(flat, device, command, cache, monkeypatch):
    command(MAIN, "build", flat)
    code, found = rows(command)
    assert code == 0
    assert found["tensorrt"] == {
        "what": "tensorrt", "ok": True, "detail": "tensorrt 10.9.0.34; runs formats: trt", "fix": ""
    }  # fmt: skip
    assert found["tensorrt-rtx"]["ok"] is True
    assert found["nvidia-gpu"]["detail"] == "Testine 4000, compute capability 8.9, driver for CUDA 13.0, 8.0 GiB"
    assert found["cache"]["detail"] == f"{cache}, plans 0.0 MB"
    device.body = bytes(1_500_000)
    command(MAIN, "build", flat, "--rebuild")
    (cache / "calibration").mkdir()
    assert (
        rows(command)[1]["cache"]["detail"] == f"{cache}, calibration 0.0 MB, plans 1.5 MB"
    )  # its link counts nothing
    monkeypatch.setattr("edgeline.tensorrt.install.has_cuda_bindings", lambda: False)
    _, found = rows(command)
    for row in ("tensorrt", "cuda-bindings"):
        assert (found[row]["ok"], found[row]["fix"]) == (False, "pip install 'cuda-bindings>=12.6,<14'")


def test_doctor_compares_cuda_bindings_with_the_driver(device, command, monkeypatch):
    """JetPack 6's driver serves CUDA 12; pip brings cuda-bindings for CUDA 13."""
    monkeypatch.setattr("edgeline.doctor.gpu", lambda: replace(GPU, driver="12.6"))
    _, found = rows(command)
    for row in ("tensorrt", "tensorrt-rtx", "cuda-bindings"):
        assert found[row]["ok"] is False
        assert "cuda-bindings 13.0.0 is made for a newer CUDA than the driver serves (12.6)" in found[row]["detail"]
        assert found[row]["fix"] == "pip install 'cuda-bindings>=12.6,<13'"


def test_doctor_with_tensorrt_rtx_and_no_gpu(monkeypatch, command):
    monkeypatch.setattr("edgeline.doctor.gpu", lambda: None)
    monkeypatch.setattr("edgeline.doctor.product_state", lambda _name: ProductState("tensorrt_rtx", "1.7.1.116"))
    _, found = rows(command)
    assert found["tensorrt-rtx"]["ok"] is False
    assert found["tensorrt-rtx"]["detail"].endswith("no NVIDIA GPU to run on; export-model builds engines with it")


@pytest.mark.parametrize(
    ("version", "row", "fix"),
    [
        ("onnxruntime 1.31.1", "onnxruntime", "pip uninstall onnxruntime && pip install 'edgeline[gpu]'"),
        ("onnxruntime 1.31.1", "onnxruntime-tensorrt", "pip uninstall onnxruntime && pip install 'edgeline[gpu]'"),
        ("onnxruntime-gpu 1.31.1", "onnxruntime", ""),
        ("onnxruntime-gpu 1.31.1", "onnxruntime-tensorrt", "pip install 'edgeline[trt]'"),
    ],
)
def test_doctor_on_a_gpu_tells_the_two_builds_of_onnxruntime_apart(monkeypatch, command, version, row, fix):
    monkeypatch.setattr("edgeline.doctor.gpu", lambda: GPU)
    monkeypatch.setattr("edgeline.doctor._version", lambda _package: version)
    monkeypatch.setattr("edgeline.tensorrt.products._is_installed", lambda _module: False)
    assert rows(command)[1][row]["fix"] == fix


def test_doctor_on_a_cache_that_cannot_be_used(command, cache):
    cache.mkdir()
    cache.chmod(0o700)
    (cache / "plans").mkdir()
    (cache / "plans").chmod(0o777)
    code, found = rows(command)
    assert code == 0
    assert found["cache"]["ok"] is False
    assert f"{cache / 'plans'} may be written by others" in found["cache"]["detail"]
    assert found["cache"]["fix"].startswith(f"chmod go-w {cache / 'plans'}")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_doctor_on_a_cache_that_is_no_folder(command, tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / place))
    code, found = rows(command)
    assert code == 0
    assert (found["cache"]["ok"], found["cache"]["fix"]) == (False, "export EDGELINE_CACHE=/a/folder/of/yours")


def test_doctor_imports_no_engine():
    engines = {"onnxruntime", "tensorrt", "tensorrt_rtx_bindings", "cuda.bindings.runtime"}
    code = f"import sys, edgeline.doctor; edgeline.doctor.examine(); print(sorted({engines} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr
