"""What only a GPU can prove. `make gpu-check` runs these and writes a report; each skip names what is missing.

The first test is the one that may take the process with it: the report then names it, and `pytest -m gpu tests/gpu
--deselect` with its name runs the others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeline
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.backends.tensorrt import TensorRtSession
from edgeline.cuda import gpu
from edgeline.manifest import BatchRange
from edgeline.selftest import run_selftest
from edgeline.tensorrt.device import DeviceBuffer, PinnedBuffer, Stream, open_cuda
from edgeline.tensorrt.inspector import inspect_plan
from edgeline.tensorrt.plan_header import HEADER_BYTES, read_plan_header
from edgeline.tensorrt.products import load_product, product_state
from tests.doubles.artefacts import expected, images, small_graph, write_artefact

HERE = gpu()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(HERE is None, reason="no NVIDIA GPU, or no driver"),
]

PRECISIONS = ("fp32", "tf32", "fp16", "int8", "int8+fp16")


def export(weights_folder: Path, out: Path, format_name: str, precision: str) -> Path:
    argv = ["lenet", "--weights", str(weights_folder), "--out", str(out), "--format", format_name]
    assert edgeline_export.cli.main([*argv, "--precision", precision]) == 0
    return out / f"lenet-mnist-10k.{precision}.{format_name}"


# --- First, what might crash ------------------------------------------------------------------------------------------


def test_two_contexts_of_tensorrt_in_memory_of_ours(tmp_path):
    """A user's C++ program crashed in setDeviceMemoryV2 on TensorRT 10.7 (NVIDIA/TensorRT#4302)."""
    if product_state("trt").module is None:
        pytest.skip(f"TensorRT: {product_state('trt').why}")
    artefact = write_artefact(tmp_path / "small", "trt", batch=BatchRange(1, 2, 4))
    with TensorRtSession(artefact) as session:
        for size in (1, 2, 1, 2):  # a context for each, the second time by its graph
            right = expected(small_graph(), images(size))
            assert np.allclose(session.infer(images(size)), right, atol=1e-3 * np.abs(right).max())
        assert session.graphs_captured == (1, 2), session.graphs_refused


# --- PyTorch and ONNX Runtime -----------------------------------------------------------------------------------------


def test_torch_computes_on_the_gpu():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA, or for another driver")
    a = torch.arange(12, dtype=torch.float32, device="cuda").reshape(3, 4)
    assert (a @ a.T).cpu().tolist() == (a.cpu() @ a.cpu().T).tolist()


@pytest.fixture
def cuda_provider():
    """ONNX Runtime's CUDA provider, which only onnxruntime-gpu has."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has no CUDA provider here: pip uninstall onnxruntime && pip install 'edgeline[gpu]'")


def test_onnx_runtime_on_the_gpu(cuda_provider, exported):
    with edgeline.load(exported, device="cuda") as session:
        assert session.device == "cuda"
        assert run_selftest(session).top1_agreement == 1.0


def test_fp16_on_onnx_runtimes_cuda_provider(cuda_provider, weights_folder, tmp_path):
    """Here float16 is computed as float16, unlike on the CPU provider."""
    with edgeline.load(export(weights_folder, tmp_path, "onnx", "fp16"), device="cuda") as session:
        assert run_selftest(session).top1_agreement == 1.0


def test_onnx_runtimes_tensorrt_provider(weights_folder, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has no TensorRT provider here")
    if product_state("trt").module is None:
        pytest.skip(f"TensorRT: {product_state('trt').why}")
    artefact = export(weights_folder, tmp_path, "trt", "int8")
    with edgeline.load(artefact, device="cuda", engine="onnxruntime-tensorrt") as session:
        assert run_selftest(session).top1_agreement == 1.0


# --- CUDA through cuda-bindings ---------------------------------------------------------------------------------------


@pytest.fixture
def device():
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    assert HERE is not None
    return open_cuda(HERE)


def test_buffers_and_copies(device):
    stream = Stream(device)
    source, target = (PinnedBuffer(device, 4096, "test data") for _ in range(2))
    memory = DeviceBuffer(device, 4096, "test data")
    values = np.random.default_rng(0).standard_normal(1024).astype(np.float32)
    source.array(np.float32, (1024,))[:] = values
    target.array(np.float32, (1024,))[:] = 0
    stream.copy_to_device(memory, source, 4096)
    stream.copy_to_host(target, memory, 4096)
    stream.synchronise()
    assert np.array_equal(target.array(np.float32, (1024,)), values)
    for held in (source, target, memory, stream):
        held.free()
        held.free()  # the second time does nothing


def test_a_captured_graph_does_its_work_at_every_launch(device):
    stream = Stream(device)
    source, target = (PinnedBuffer(device, 64, "test data") for _ in range(2))
    memory = DeviceBuffer(device, 64, "test data")
    given, found = source.array(np.float32, (16,)), target.array(np.float32, (16,))

    def enqueue() -> None:
        stream.copy_to_device(memory, source, 64)
        stream.copy_to_host(target, memory, 64)

    graph = stream.capture(enqueue)
    for value in (1.0, 2.0, 3.0):
        given[:], found[:] = value, -1
        graph.launch(stream)
        stream.synchronise()
        assert (found == value).all()
    for held in (graph, source, target, memory, stream):
        held.free()


def test_more_memory_than_there_is_is_a_clear_error(device):
    with pytest.raises(edgeline.errors.ResourceError, match="is out of memory: cudaMalloc failed"):
        DeviceBuffer(device, 1 << 50, "test data")


# --- TensorRT and TensorRT-RTX ----------------------------------------------------------------------------------------


@pytest.fixture(params=["trt", "trt-rtx"])
def format_name(request):
    state = product_state(request.param)
    if state.module is None:
        pytest.skip(f"{request.param}: {state.why}")
    return request.param


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_computes_what_was_verified(format_name, precision, weights_folder, tmp_path):
    folder = export(weights_folder, tmp_path, format_name, precision)
    artefact = open_artefact(folder)
    if format_name == "trt-rtx":
        head = artefact.file("model.rtxplan").read_bytes()[:HEADER_BYTES]
        assert HERE is not None
        if HERE.compute_capability not in read_plan_header(head, "plan").targets:
            pytest.skip(f"TensorRT-RTX has no compute capability {HERE.compute_capability}")
    assert artefact.manifest.build == "built"
    assert artefact.manifest.verification["engine"] == "tensorrt"
    with edgeline.load(folder, device="cuda") as session:
        assert run_selftest(session).top1_agreement == 1.0
        batch = np.load(folder / "selftest.npz")["inputs"]
        whole = session.infer(batch)
        again = session.infer(batch)  # by a CUDA graph now
        # Not bit for bit: no vendor promises that two runs sum in the same order.
        assert np.allclose(again, whole, rtol=0, atol=1e-3 * np.abs(whole).max())
        assert np.allclose(session.infer(batch[:1]), whole[:1], rtol=0, atol=1e-2 * np.abs(whole).max())


def test_the_engine_says_in_which_precision_it_runs(weights_folder, tmp_path):
    if product_state("trt").module is None:
        pytest.skip(f"TensorRT: {product_state('trt').why}")
    artefact = open_artefact(export(weights_folder, tmp_path, "trt", "fp16"))
    coverage = artefact.manifest.precision_coverage
    if coverage["source"] == "graph":
        product = load_product("trt")
        description = inspect_plan(product, artefact.file("model.plan").read_bytes())
        pytest.fail(f"{product.title} tells no precision of LeNet's layers, only this: {description[:2000]}")
    assert coverage["macs"].get("fp16", 0) > 0.99
