"""Small artefacts for tests: a graph of a few nodes, its plan where one is wanted, a manifest. Nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeline.artefact import GRAPH_FILE, SELFTEST_FILE, Artefact, open_artefact
from edgeline.files import sha256_of_file
from edgeline.manifest import SOURCE_KEYS, VERIFICATION_KEYS, BatchRange, FileEntry, Manifest, TensorSpec
from edgeline.tensorrt.builder import BuildSettings, build_engine
from edgeline.tensorrt.products import PRODUCTS, load_product

CLASSES = 3
IMAGE = (1, 6, 6)
_TOLERANCE = 1e-5


def small_graph(batch: int | None = None, seed: int = 0) -> bytes:
    """Return a graph float32 [N, 1, 6, 6] -> float32 [N, 3]: Conv, Relu, Flatten, Gemm. `batch` fixes N."""
    values = np.random.default_rng(seed)

    def constant(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(values.standard_normal(shape).astype(np.float32), name)

    size = "N" if batch is None else batch
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "kernel"], ["convolved"], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["convolved"], ["rectified"]),
            helper.make_node("Flatten", ["rectified"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        ],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [size, *IMAGE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [size, CLASSES])],
        [constant("kernel", 2, 1, 3, 3), constant("weight", 32, CLASSES), constant("bias", CLASSES)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def expected(graph: bytes, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what ONNX Runtime makes of a batch."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": batch})[0], np.float32)


def images(count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """Return `count` inputs."""
    return np.random.default_rng(seed).standard_normal((count, *IMAGE)).astype(np.float32)


def write_artefact(
    folder: Path,
    format_name: str,
    *,
    graph: bytes | None = None,
    batch: BatchRange | None = None,
    fixed: int | None = None,
    plan: bytes | None = None,
    built: bool = True,
) -> Artefact:
    """Write and open an artefact of format "trt", "trt-rtx" or "onnx".

    Its plan is `plan`, or where `built` the one that the product installed here makes of the graph.
    """
    graph = graph or small_graph(fixed)
    batch = batch or (BatchRange(fixed, fixed, fixed) if fixed else BatchRange(1, 2, 4))
    folder.mkdir(parents=True)
    (folder / GRAPH_FILE).write_bytes(graph)
    samples = images(16, seed=2)
    step = fixed or len(samples)
    logits = np.concatenate([expected(graph, samples[i : i + step]) for i in range(0, len(samples), step)])
    np.savez(folder / SELFTEST_FILE, inputs=samples, logits=logits, tolerance=_TOLERANCE)
    if plan is None and built and format_name in PRODUCTS:
        plan = build_engine(load_product(format_name), graph, BuildSettings("fp32", batch)).plan
    if plan is not None:
        (folder / PRODUCTS[format_name].plan_file).write_bytes(plan)
    manifest = Manifest(
        name="small", dataset=None, precision="fp32", format=format_name, build="built" if plan else "on-device",
        created="2026-11-23T00:00:00Z", versions={}, files={}, batch=batch, preprocessing=None, labels=None,
        inputs=(TensorSpec("input", (fixed or -1, *IMAGE), "float32"),),
        outputs=(TensorSpec("logits", (fixed or -1, CLASSES), "float32"),),
        source=dict.fromkeys(SOURCE_KEYS, ""), verification=dict.fromkeys(VERIFICATION_KEYS),
        precision_coverage={"source": "graph", "macs": {}, "weights": {}},
    )  # fmt: skip
    files = {p.name: FileEntry(sha256_of_file(p), p.stat().st_size) for p in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(replace(manifest, files=files).to_json())
    return open_artefact(folder)
