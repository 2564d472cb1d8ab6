import json
from dataclasses import replace

import pytest

from edgeline.artefact import open_artefact
from edgeline.errors import ArtefactError, MissingCapabilityError
from edgeline.manifest import BatchRange
from edgeline.tensorrt import building, install, preflight
from edgeline.tensorrt.builder import BuildSettings, build_engine
from edgeline.tensorrt.products import load_product, product_state
from tests.runtime import tensorrt_fakes as fakes
from tests.runtime.tensorrt_fakes import GPU, make_artefact, plan_bytes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A machine with a GPU and both products, all pretended."""
    fakes.pretend(monkeypatch.setattr, fakes.Builds(tmp_path / "builds.log"))


@pytest.fixture
def bare(monkeypatch):
    """A machine without GPU, products and cuda-bindings."""
    fakes.pretend(monkeypatch.setattr, gpu=None, installed=False)
    monkeypatch.setattr("edgeline.tensorrt.products._is_installed", lambda _module: False)


def write(tmp_path, content, name="net.engine"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def reasons(report):
    return [obstacle.why for obstacle in report.obstacles]


# --- engine files -----------------------------------------------------------------------------------------------------


def test_a_plan_that_fits(tmp_path, device):
    report = preflight.examine_plan(write(tmp_path, plan_bytes(targets=("8.0", "8.9"))))
    assert (report.product, report.version, report.targets) == ("TensorRT-RTX", "1.7.1.116", ("8.0", "8.9"))
    assert (report.bytes, report.whole, report.obstacles) == (68, True, ())
    assert report.to_record()["loads_here"] is True


@pytest.mark.parametrize(
    ("plan", "why", "fix"),
    [
        (plan_bytes(version="1.6.0.9"), "it was made by TensorRT-RTX 1.6.0.9, here is 1.7.1.116", "edgeline build ART"),
        (plan_bytes("trt", "10.3.0.30"), "it was made by TensorRT 10.3.0.30, here is 10.9.0.34", "install TensorRT 10"),
        (
            plan_bytes(targets=("12.0", "12.1")),
            "it was built for compute capability 12.0, 12.1, Testine 4000 has 8.9",
            "edgeline build ARTEFACT",
        ),
        (plan_bytes(total=4096), "it has 68 bytes where its header tells 4096", "copy or export it again"),
        (plan_bytes(total=60), "it has 68 bytes where its header tells 60", "copy or export it again"),
    ],
)
def test_a_plan_that_does_not_fit_says_why_and_what_to_do(tmp_path, device, plan, why, fix):
    report = preflight.examine_plan(write(tmp_path, plan))
    assert reasons(report) == [why]
    assert fix in report.obstacles[0].fix
    assert report.to_record()["loads_here"] is False


def test_a_size_that_tensorrt_is_not_known_to_tell_is_no_reason(tmp_path, device):
    report = preflight.examine_plan(write(tmp_path, plan_bytes("trt", total=4096)))
    assert (report.whole, report.obstacles) == (None, ())


def test_a_machine_that_has_nothing_can_read_it_all_the_same(tmp_path, bare):
    report = preflight.examine_plan(write(tmp_path, plan_bytes()))
    assert report.targets == ("8.9",)
    assert reasons(report) == ["there is no NVIDIA GPU or driver here", "TensorRT-RTX is not installed"]
    assert report.obstacles[1].fix == "pip install 'edgeline[trt-rtx]'"


def test_without_cuda_bindings(tmp_path, device, monkeypatch):
    monkeypatch.setattr(install, "has_cuda_bindings", lambda: False)
    report = preflight.examine_plan(write(tmp_path, plan_bytes("trt")))
    assert reasons(report) == ["cuda-bindings is not installed"]
    assert report.obstacles[0].fix == "pip install 'cuda-bindings>=12.6,<14'"


@pytest.mark.parametrize(
    ("driver", "bindings", "why", "fix"),
    [
        ("13.0", "13.5.0", None, None),
        ("13.0", "12.9.2", None, None),
        ("12.6", "12.9.2", None, None),
        ("12.6", "13.5.0", "cuda-bindings 13.5.0 is made for a newer CUDA than the driver serves (12.6)", "<13'"),
        ("12.6", None, "cuda-bindings is not installed", "pip install 'cuda-bindings>=12.6,<13'"),
        ("14.0", None, "cuda-bindings is not installed", "pip install 'cuda-bindings>=12.6,<14'"),
        ("11.4", "12.9.2", "the driver serves CUDA 11.4, cuda-bindings needs CUDA 12", "install a newer NVIDIA driver"),
    ],
)
def test_cuda_bindings_fit_the_driver(tmp_path, device, monkeypatch, driver, bindings, why, fix):
    monkeypatch.setattr(preflight, "gpu", lambda: replace(GPU, driver=driver))
    monkeypatch.setattr(install, "has_cuda_bindings", lambda: bindings is not None)
    monkeypatch.setattr(install, "bindings_version", lambda: bindings)
    report = preflight.examine_plan(write(tmp_path, plan_bytes("trt")))
    assert reasons(report) == ([why] if why else [])
    assert why is None or report.obstacles[0].fix.endswith(fix)


@pytest.mark.parametrize(
    ("machine", "kernel", "release_file", "jetson"),
    [
        ("aarch64", "5.15.148-tegra", False, True),
        ("aarch64", "6.8.0-1004-generic", True, True),
        ("aarch64", "6.8.0-1004-generic", False, False),
        ("x86_64", "5.15.148-tegra", True, False),
    ],
)
def test_on_a_jetson_tensorrt_comes_from_apt(tmp_path, bare, monkeypatch, machine, kernel, release_file, jetson):
    release = tmp_path / "nv_tegra_release"
    if release_file:
        release.touch()
    monkeypatch.setattr(install, "_TEGRA_RELEASE", release)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    monkeypatch.setattr(install.platform, "release", lambda: kernel)
    monkeypatch.setattr(preflight, "gpu", lambda: replace(GPU, driver="12.6"))
    monkeypatch.setattr(install, "has_cuda_bindings", lambda: False)
    fixes = [obstacle.fix for obstacle in preflight.examine_plan(write(tmp_path, plan_bytes("trt"))).obstacles]
    if not jetson:
        assert fixes == ["pip install 'edgeline[trt]' 'cuda-bindings>=12.6,<13'"]
        return
    assert fixes[0].startswith("apt-get install python3-libnvinfer ")
    assert fixes[0].endswith("python3 -m venv --system-site-packages")
    assert fixes[1] == "pip install 'cuda-bindings>=12.6,<13'"  # apt brings none
    monkeypatch.setattr(building, "gpu", lambda: GPU)
    with pytest.raises(MissingCapabilityError, match="TensorRT is not installed: apt-get install python3-libnvinfer"):
        building.builder_of(open_artefact(make_artefact(tmp_path / "a", "trt")))
    rtx = preflight.examine_plan(write(tmp_path, plan_bytes())).obstacles
    assert rtx[0].fix == "pip install 'edgeline[trt-rtx]'"  # JetPack has none


def test_cuda_bindings_are_looked_for_without_importing_them(monkeypatch):
    def missing(_name):
        raise ModuleNotFoundError("No module named 'cuda'")

    monkeypatch.setattr(install.importlib.util, "find_spec", missing)
    assert install.has_cuda_bindings() is False


def test_metadata_glued_in_front(tmp_path):
    """As ultralytics writes it: 4 bytes of length, little endian, the JSON, then the engine."""
    metadata = json.dumps({"names": {"0": "zero"}, "stride": 32}).encode()
    path = write(tmp_path, len(metadata).to_bytes(4, "little") + metadata + plan_bytes("trt"))
    begins = 4 + len(metadata)
    with pytest.raises(ArtefactError) as caught:
        preflight.examine_plan(path)
    words = str(caught.value)
    assert f"{len(metadata)} bytes of metadata glued in front" in words
    assert f"the engine (10.9.0.34) begins at byte {begins}: tail -c +{begins + 1} {path} > {path}.plan" in words
    assert path.read_bytes()[begins:] == plan_bytes("trt")


def test_metadata_before_something_else(tmp_path):
    path = write(tmp_path, b"\x02\0\0\0{}" + b"x" * 100)
    with pytest.raises(ArtefactError, match=r"begins with 2 bytes of metadata \(JSON\), and what follows is no"):
        preflight.examine_plan(path)


def test_an_onnx_file_is_recognised(tmp_path):
    graph = make_artefact(tmp_path / "a") / "model.onnx"
    with pytest.raises(ArtefactError, match=f"is an ONNX graph, not an engine: export-model {graph} --format trt"):
        preflight.examine_plan(graph)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no engine: 0 bytes, a plan's header alone has 64"),
        (plan_bytes()[:40], "is no engine: 40 bytes"),
        (b"\x7fELF" + b"\0" * 100, "is no TensorRT engine: it begins with b'\\x7fELF'"),
        (b"\x03\0\0\0[1]" + plan_bytes(), "is no TensorRT engine"),  # JSON, but no metadata
        (b"\x05\0\0\0{bad}" + plan_bytes(), "is no TensorRT engine"),
        (b"\xff\xff\0\0" + b"{}" * 50, "is no TensorRT engine"),  # longer than the file
    ],
)
def test_other_files(tmp_path, content, words):
    with pytest.raises(ArtefactError) as caught:
        preflight.examine_plan(write(tmp_path, content))
    assert words in str(caught.value)
    assert str(caught.value).endswith("edgeline info takes artefacts and engines")


def test_a_real_plan_tells_what_it_was_built_for(tmp_path, monkeypatch):
    state = product_state("trt-rtx")
    if state.module is None:
        pytest.skip(f"{state.why}: no real plan can be built")
    graph = (make_artefact(tmp_path / "a", "trt-rtx") / "model.onnx").read_bytes()
    settings = BuildSettings("fp32", BatchRange(1, 4, 8), ("8.9", "12.0"))
    plan = build_engine(load_product("trt-rtx"), graph, settings).plan
    monkeypatch.setattr(preflight, "gpu", lambda: GPU)
    monkeypatch.setattr(preflight, "bindings_obstacle", lambda _gpu: None)
    report = preflight.examine_plan(write(tmp_path, plan))
    assert (report.product, report.targets, report.whole) == ("TensorRT-RTX", ("8.9", "12.0"), True)
    assert report.obstacles == ()
    cut = preflight.examine_plan(write(tmp_path, plan[:-1]))
    assert reasons(cut) == [f"it has {len(plan) - 1} bytes where its header tells {len(plan)}"]


# --- artefacts --------------------------------------------------------------------------------------------------------


def test_an_engine_that_is_built_on_the_device(tmp_path, device):
    artefact = open_artefact(make_artefact(tmp_path / "a", "trt-rtx"))
    before = preflight.examine_engine(artefact)
    assert (before.build, before.plan, before.cached, before.uses) == ("on-device", None, None, None)
    assert reasons(before) == ["its engine was not built here yet"]
    assert before.obstacles[0].fix == f"edgeline build {artefact.folder}"
    with pytest.raises(MissingCapabilityError, match="not built here yet.*edgeline build .*--engine onnxruntime"):
        preflight.need_engine(artefact)
    path = building.build_plan(artefact).path
    after = preflight.examine_engine(artefact)
    assert (after.cached, after.uses, after.obstacles) == (path, "cache", ())
    assert after.to_record()["loads_here"] is True
    preflight.need_engine(artefact)


def test_an_engine_in_the_artefact(tmp_path, device):
    artefact = open_artefact(make_artefact(tmp_path / "a", "trt-rtx", plan=plan_bytes()))
    report = preflight.examine_engine(artefact)
    assert (report.build, report.uses, report.cached) == ("built", "artefact", None)
    assert report.plan.path == artefact.folder / "model.rtxplan"
    preflight.need_engine(artefact)


@pytest.mark.parametrize(
    ("plan", "target", "why"),
    [
        (plan_bytes("trt", "10.3.0.30"), {}, "it was made by TensorRT 10.3.0.30, here is 10.9.0.34"),
        (plan_bytes("trt"), {"gpu": "Orin", "compute_capability": "8.7"}, "it was built for compute capability 8.7, "),
    ],
)
def test_an_engine_in_the_artefact_that_does_not_fit(tmp_path, device, monkeypatch, plan, target, why):
    artefact = open_artefact(make_artefact(tmp_path / "a", "trt", plan=plan, target=target))
    report = preflight.examine_engine(artefact)
    assert report.uses is None
    assert why in reasons(report)[0]
    assert report.obstacles[0].fix.startswith(f"edgeline build {artefact.folder}")
    monkeypatch.setattr(building, "build_engine", fakes.Builds(tmp_path / "log", format_name="trt"))
    building.build_plan(artefact)
    report = preflight.examine_engine(artefact)
    assert (report.uses, report.obstacles) == ("cache", ())
    assert report.plan.obstacles != ()


def test_a_cached_engine_comes_before_the_artefacts_own(tmp_path, device):
    artefact = open_artefact(make_artefact(tmp_path / "a", "trt-rtx", plan=plan_bytes()))
    path = building.build_plan(artefact, rebuild=True).path
    report = preflight.examine_engine(artefact)
    assert (report.uses, report.cached, report.plan.obstacles) == ("cache", path, ())


def test_looking_makes_no_cache(tmp_path, device):
    preflight.examine_engine(open_artefact(make_artefact(tmp_path / "a", "trt-rtx")))
    assert not (tmp_path / "cache").exists()


def test_onnxruntime_tensorrt_needs_a_gpu_and_onnxruntime_nothing(tmp_path, device, monkeypatch):
    artefact = open_artefact(make_artefact(tmp_path / "a", "onnx"))
    preflight.need_engine(artefact, "onnxruntime-tensorrt")
    monkeypatch.setattr(preflight, "gpu", lambda: None)
    preflight.need_engine(artefact, "onnxruntime")
    with pytest.raises(
        MissingCapabilityError, match="a cannot run on onnxruntime-tensorrt here .there is no NVIDIA GPU"
    ):
        preflight.need_engine(artefact, "onnxruntime-tensorrt")


def test_an_artefact_where_nothing_is_installed(tmp_path, bare):
    report = preflight.examine_engine(open_artefact(make_artefact(tmp_path / "a", "trt", plan=plan_bytes("trt"))))
    assert reasons(report) == ["there is no NVIDIA GPU or driver here", "TensorRT is not installed"]
    assert report.to_record()["plan"]["version"] == "10.9.0.34"


def test_a_cache_that_cannot_be_used_is_an_obstacle(tmp_path, device, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "file"))
    report = preflight.examine_engine(open_artefact(make_artefact(tmp_path / "a", "trt")))
    assert "cannot be made" in reasons(report)[0]
