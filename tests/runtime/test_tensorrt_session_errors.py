"""The TensorRT session on the double: each way in which a machine or a plan can be wrong, and what is said."""

import dataclasses
import sys

import pytest

from edgeline.backends.tensorrt import TensorRtSession
from edgeline.cuda import Gpu
from edgeline.errors import ArtefactError, EdgelineError, InputError, MissingCapabilityError, ResourceError
from edgeline.manifest import BatchRange
from tests.doubles import FLAVOURS, Faults, gpu_double
from tests.doubles.artefacts import images, small_graph, write_artefact
from tests.doubles.install import GPU

FORMATS = {"trt10": "trt", "trt11": "trt", "rtx": "trt-rtx"}
PLANS = {"trt10": "model.plan", "trt11": "model.plan", "rtx": "model.rtxplan"}
on_each = pytest.mark.parametrize("flavour", FORMATS)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def made(tmp_path):
    """An artefact for a flavour, built on a machine where all is well."""

    def make(flavour, version=None, **keywords):
        with gpu_double(flavour, version=version):
            return write_artefact(tmp_path / f"{flavour}-{len(list(tmp_path.iterdir()))}", FORMATS[flavour], **keywords)

    return make


def refused(artefact, error, *words, world=None, **keywords):
    """Open a session that must fail with one line that has all the words, and leave nothing behind."""
    with pytest.raises(error) as caught:
        TensorRtSession(artefact, **keywords)
    message = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in message
    for word in words:
        assert word in message
    if world is not None:
        assert world.held() == []  # although the exception, with its frames, is still here


# --- the machine


@on_each
def test_the_cpu_is_refused(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour) as world:
        refused(
            artefact, InputError, "NVIDIA GPUs only", "--engine onnxruntime --device cpu", device="cpu", world=world
        )


@on_each
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_without_a_gpu_it_never_falls_back(flavour, device, made):
    artefact = made(flavour)
    with gpu_double(flavour, gpu=None) as world:
        words = ("needs an NVIDIA GPU", "--engine onnxruntime --device cpu", str(artefact.folder))
        refused(artefact, MissingCapabilityError, *words, device=device, world=world)
        assert world.calls == []


def test_without_tensorrt(made, monkeypatch):
    artefact = made("trt10")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with gpu_double("rtx"):  # a machine with a GPU and another product
        refused(artefact, MissingCapabilityError, "TensorRT is not installed", "pip install 'edgeline[trt]'")


@pytest.mark.parametrize(("driver", "pin"), [("12.4", "cuda-bindings>=12.6,<13"), ("13.0", "cuda-bindings>=12.6,<14")])
def test_without_cuda_bindings_the_line_fits_the_driver(driver, pin, made, monkeypatch):
    artefact = made("trt10")
    # Undone before the double is: else what it puts back at the end would be the double.
    with gpu_double("trt10", gpu=dataclasses.replace(GPU, driver=driver)) as world, monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cuda.bindings.runtime", None)
        refused(artefact, MissingCapabilityError, "cuda-bindings is not installed", f"pip install '{pin}'", world=world)


@on_each
def test_a_driver_that_is_too_old(flavour, made):
    artefact = made(flavour)
    faults = Faults(cuda={"cudaSetDevice": "cudaErrorInsufficientDriver"})
    with gpu_double(flavour, faults=faults, gpu=dataclasses.replace(GPU, driver="12.4")) as world:
        words = ("driver serves CUDA 12.4", "made for CUDA 13.5", "cudaErrorInsufficientDriver", "newer driver", "<13'")
        refused(artefact, MissingCapabilityError, *words, world=world)


def test_a_gpu_that_cuda_does_not_see(made):
    artefact = made("trt10")
    with gpu_double("trt10", faults=Faults(cuda={"cudaSetDevice": "cudaErrorNoDevice"})) as world:
        refused(artefact, MissingCapabilityError, "CUDA finds no GPU", "CUDA_VISIBLE_DEVICES", world=world)


def test_an_error_of_cuda_that_is_none_of_these(made):
    artefact = made("trt10")
    with gpu_double("trt10", faults=Faults(cuda={"cudaStreamCreateWithFlags": "cudaErrorIllegalAddress"})) as world:
        words = ("CUDA on NVIDIA Double", "cudaStreamCreateWithFlags", "cudaErrorIllegalAddress", "an illegal memory")
        refused(artefact, EdgelineError, *words, world=world)


@on_each
def test_a_product_that_does_not_start(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour, faults=Faults(no_runtime=True)) as world:
        words = ("does not start: CUDA initialization failure with error: 35", "edgeline doctor")
        refused(artefact, MissingCapabilityError, *words, world=world)


# --- the plan


@on_each
def test_without_a_plan_the_error_names_the_build(flavour, made):
    artefact = made(flavour, built=False)
    with gpu_double(flavour) as world:
        refused(artefact, MissingCapabilityError, f"edgeline build {artefact.folder}", world=world)


def refused_plan(flavour, artefact, plan, error, *words, gpu=GPU, tmp_path, faults=None):
    """Open the artefact with other bytes for its plan."""
    path = tmp_path / "other.plan"
    path.write_bytes(plan)
    with gpu_double(flavour, gpu=gpu, faults=faults) as world:
        refused(artefact, error, str(path), *words, plan=path, world=world)


def plan_of(artefact, flavour):
    return artefact.file(PLANS[flavour]).read_bytes()


@pytest.mark.parametrize(("flavour", "other"), [("trt10", "rtx"), ("rtx", "trt10")])
def test_an_engine_of_the_other_product(flavour, other, made, tmp_path):
    artefact = made(flavour)
    words = (f"made by {FLAVOURS[other].title} {FLAVOURS[other].version}", f"edgeline build {artefact.folder}")
    refused_plan(flavour, artefact, plan_of(made(other), other), ArtefactError, *words, tmp_path=tmp_path)


@on_each
def test_an_engine_of_another_version(flavour, made, tmp_path):
    artefact = made(flavour)
    plan = plan_of(made(flavour, version="9.8.7.6"), flavour)
    words = ("9.8.7.6", f"here is {FLAVOURS[flavour].version}", f"edgeline build {artefact.folder}")
    refused_plan(flavour, artefact, plan, ArtefactError, *words, tmp_path=tmp_path)


def test_a_tensorrt_that_leaves_the_build_out_of_its_version(made, monkeypatch):
    artefact = made("trt10")
    with gpu_double("trt10") as world:
        monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.3.0")  # as Debian's packages for Jetson do
        with TensorRtSession(artefact) as session:
            assert session.infer(images(1)).shape == (1, 3)
        monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.3.1")
        words = ("10.3.0.30", "here is 10.3.1")
        refused(artefact, ArtefactError, *words, plan=artefact.file("model.plan"), world=world)


def test_an_engine_for_other_gpus(made, tmp_path):
    artefact = made("rtx")
    orin = Gpu(name="Orin", compute_capability="8.7", driver="13.0", memory_bytes=1 << 30)
    words = ("built for compute capability 8.0, 8.6, 8.9, 12.0, 12.1", "Orin has 8.7", "edgeline build")
    refused_plan("rtx", artefact, plan_of(artefact, "rtx"), ArtefactError, *words, gpu=orin, tmp_path=tmp_path)


def test_an_engine_for_another_gpu_of_tensorrt_is_refused_in_its_words(made, tmp_path):
    artefact = made("trt10")
    orin = Gpu(name="Orin", compute_capability="8.7", driver="12.6", memory_bytes=1 << 30)
    words = ("TensorRT 10.3.0.30 does not load", "expecting compute 8.7 got compute 8.9", "edgeline build")
    refused_plan("trt10", artefact, plan_of(artefact, "trt10"), ArtefactError, *words, gpu=orin, tmp_path=tmp_path)


@on_each
def test_a_truncated_engine(flavour, made, tmp_path):
    artefact = made(flavour)
    plan = plan_of(artefact, flavour)
    # The header of TensorRT-RTX tells the size; what TensorRT's header tells is not known, its deserialiser finds out.
    words = ("does not run here", str(len(plan) - 10), str(len(plan))) if flavour == "rtx" else ("does not load",)
    refused_plan(flavour, artefact, plan[:-10], ArtefactError, *words, "edgeline build", tmp_path=tmp_path)


@on_each
@pytest.mark.parametrize(("content", "words"), [(b"", "0 bytes"), (b"\x08\x0a" + b"x" * 99, "it begins with")])
def test_a_file_that_is_no_engine(flavour, content, words, made, tmp_path):
    refused_plan(flavour, made(flavour), content, ArtefactError, "is no ", words, tmp_path=tmp_path)


@on_each
def test_an_engine_that_does_not_deserialise(flavour, made, tmp_path):
    artefact = made(flavour)
    faults = Faults(deserialise="Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.")
    words = ("does not load", "Serialization assertion", f"edgeline build {artefact.folder}")
    refused_plan(flavour, artefact, plan_of(artefact, flavour), ArtefactError, *words, tmp_path=tmp_path, faults=faults)


@on_each
def test_an_engine_that_does_not_fit_into_memory(flavour, made, tmp_path):
    artefact = made(flavour)
    faults = Faults(deserialise="Error Code 2: OutOfMemory (Requested size was 187061112 bytes.)")
    with gpu_double(flavour, faults=faults) as world:
        refused(artefact, ResourceError, "memory does not suffice", "Requested size was 187061112 bytes", world=world)


@pytest.mark.parametrize(
    ("diagnostics", "error", "words"),
    [
        (("VERSION_MISMATCH", "UNSUPPORTED_CC"), ArtefactError, "another version of TensorRT-RTX; not built for this"),
        (("MALFORMED_ENGINE",), ArtefactError, "not a well-formed engine: edgeline build"),
        (("OLD_CUDA_DRIVER",), MissingCapabilityError, "the NVIDIA driver is too old; edgeline doctor"),
        (("INSUFFICIENT_GPU_MEMORY",), ResourceError, "the GPU's memory does not suffice"),
        ((), MissingCapabilityError, "no reason given"),
    ],
)
def test_an_engine_that_tensorrt_rtx_calls_invalid(diagnostics, error, words, made):
    artefact = made("rtx")
    with gpu_double("rtx", faults=Faults(validity=("INVALID", diagnostics))) as world:
        refused(artefact, error, "cannot run", words, world=world)


def test_an_engine_that_tensorrt_rtx_calls_slow_runs_with_a_note(made, capsys):
    artefact = made("rtx")
    faults = Faults(validity=("SUBOPTIMAL", ("OLD_CUDA_RUNTIME",)))
    with gpu_double("rtx", faults=faults), TensorRtSession(artefact) as session:
        assert session.infer(images(1)).shape == (1, 3)
    assert "not as fast as one built for this machine: the CUDA runtime is too old" in capsys.readouterr().err


@on_each
def test_another_networks_engine(flavour, made, tmp_path):
    artefact = made(flavour)
    renamed = small_graph().replace(b"logits", b"scores")
    plan = plan_of(made(flavour, graph=small_graph()), flavour)
    words = ("has input input float32 [-1, 1, 6, 6]; output scores float32 [-1, 3]", "says input", "edgeline build")
    refused_plan(flavour, artefact, plan.replace(small_graph(), renamed), ArtefactError, *words, tmp_path=tmp_path)


@on_each
def test_an_engine_with_a_narrower_range_of_batches(flavour, made, tmp_path):
    wide, narrow = made(flavour, batch=BatchRange(1, 4, 16)), made(flavour, batch=BatchRange(2, 4, 8))
    words = ("takes batches of 2 to 8, its manifest says 1 to 16", "edgeline build")
    refused_plan(flavour, wide, plan_of(narrow, flavour), ArtefactError, *words, tmp_path=tmp_path)


# --- memory


@on_each
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_out_of_memory_at_each_allocation(flavour, nth, made):
    artefact = made(flavour)
    with gpu_double(flavour, faults=Faults(allocation=nth)) as world:
        words = (
            "NVIDIA Double is out of memory",
            "cudaErrorMemoryAllocation",
            "MB of",
            "MB are free",
            "smaller --batch",
        )
        refused(artefact, ResourceError, *words, world=world)


@on_each
def test_working_memory_that_the_gpu_does_not_have(flavour, tmp_path):
    small = dataclasses.replace(GPU, memory_bytes=1 << 20)
    with gpu_double(flavour, gpu=small, activation_bytes=2 << 20) as world:
        artefact = write_artefact(tmp_path / "big", FORMATS[flavour])
        words = ("(2.1 MB needed, 1.0 MB free)",) if flavour == "rtx" else ("2.1 MB of working memory of the engine",)
        refused(artefact, ResourceError, *words, "smaller --batch", world=world)


def test_a_context_that_tensorrt_rtx_does_not_make(made):
    artefact = made("rtx")
    with gpu_double("rtx", faults=Faults(context="Error Code 9: Internal Error (JIT)")) as world:
        refused(artefact, EdgelineError, "create_execution_context failed", "Internal Error (JIT)", world=world)
