"""Small artefacts of format trt and trt-rtx, plans with true headers, and stand-ins for what needs a GPU.

A stand-in session runs the artefact's graph on ONNX Runtime; a plan whose body says so makes it compute nonsense, or is
refused.
Imported by subprocesses too, so nothing heavy at the top.
"""

import hashlib
import json
import os
import struct
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeline.backends.onnxruntime import OnnxRuntimeSession
from edgeline.cuda import Gpu
from edgeline.errors import ArtefactError
from edgeline.tensorrt.builder import BuiltEngine
from edgeline.tensorrt.plans import ready_plan
from edgeline.tensorrt.products import PRODUCTS, Product, ProductState

GPU = Gpu("Testine 4000", "8.9", "13.0", 8 << 30)
TAGS = {"TensorRT": 0x74727466, "TensorRT-RTX": 0x74727476}
TARGET_BITS = {"7.5": 0, "8.0": 1, "8.6": 2, "8.9": 3, "12.0": 4, "12.1": 5}
VERSIONS = {"trt": "10.9.0.34", "trt-rtx": "1.7.1.116"}


def plan_bytes(format_name="trt-rtx", version=None, targets=("8.9",), body=b"plan", total=None):
    """A plan as its product would begin it: tag, size, version, and for TensorRT-RTX one bit per target."""
    product = PRODUCTS[format_name].name
    numbers = [int(part) for part in (version or VERSIONS[format_name]).split(".")]
    mask = sum(1 << TARGET_BITS[target] for target in targets) if format_name == "trt-rtx" else 0xAB
    size = 64 + len(body) if total is None else total
    head = struct.pack("<II8xQ4B4xI", TAGS[product], 0, size, *numbers, mask)
    return head.ljust(64, b"\0") + body


def make_artefact(folder, format_name="trt", precision="fp32", plan=None, target=None, batch=(1, 4, 8), seed=0):
    """An artefact of a flat network, float32 [N, 1, 4, 4] -> [N, 3], with or without a plan; the folder's path."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((16, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        "flat",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    inputs = rng.standard_normal((16, 1, 4, 4)).astype(np.float32)
    np.savez(folder / "selftest.npz", inputs=inputs, logits=inputs.reshape(16, 16) @ weights, tolerance=1e-4)
    if plan is not None:
        (folder / PRODUCTS[format_name].plan_file).write_bytes(plan)
    write_manifest(folder, format_name, precision, "on-device" if plan is None else "built", target or {}, batch)
    return folder


def write_manifest(folder, format_name, precision, build, target, batch):
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }
    check = {"engine": "onnxruntime", "data": "generated inputs", "samples": 16, "max_abs_diff": 0.0,
             "top1_agreement": 1.0, "accuracy_reference": None, "accuracy_exported": None}  # fmt: skip
    record = {
        "schema_version": 1, "name": "flat", "dataset": None, "precision": precision, "format": format_name,
        "target": target, "build": build, "created": "2026-11-22T12:00:00Z", "versions": {}, "files": files,
        "inputs": [{"name": "input", "shape": [-1, 1, 4, 4], "dtype": "float32", "layout": "NCHW"}],
        "outputs": [{"name": "logits", "shape": [-1, 3], "dtype": "float32"}],
        "batch": dict(zip(("min", "opt", "max"), batch, strict=True)), "preprocessing": None, "labels": None,
        "source": {"kind": "onnx", "weights_sha256": None}, "calibration": None,
        "precision_coverage": {"source": "graph", "macs": {}, "weights": {}}, "verification": check,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(record))


class FakeSession(OnnxRuntimeSession):
    """Takes the place of TensorRtSession; remembers what it was opened with."""

    engine = "tensorrt"
    opened: ClassVar = []

    def __init__(self, artefact, device="auto", threads=1, plan=None):
        plan = plan or ready_plan(artefact, fake_product(artefact.manifest.format), GPU)
        FakeSession.opened.append((device, plan))
        if plan.read_bytes().endswith(b"refused"):
            raise ArtefactError(f"TensorRT does not load {plan}: Error Code 6: edgeline build {artefact.folder}")
        self._nonsense = plan.read_bytes().endswith(b"nonsense")
        super().__init__(artefact, "cpu", threads)

    def _infer(self, batch):
        return super()._infer(batch) + self._nonsense


def fake_product(format_name, version=None):
    return Product(PRODUCTS[format_name], None, version or VERSIONS[format_name], None)


class Builds:
    """Takes the place of build_engine: counts, in a file that processes share, and takes its time."""

    def __init__(self, log, seconds=0.0, body=b"plan", format_name="trt-rtx", strongly_typed=True):
        self.log, self.seconds, self.body, self.format_name = Path(log), seconds, body, format_name
        self.strongly_typed = strongly_typed

    @property
    def count(self):
        return len(self.log.read_text().split()) if self.log.exists() else 0

    def __call__(self, product, graph, settings):
        with self.log.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        time.sleep(self.seconds)
        plan = plan_bytes(self.format_name, body=self.body)
        return BuiltEngine(plan, self.strongly_typed, ("a word of warning",))


def pretend(patch, builds=None, gpu=GPU, installed=True):
    """Put the stand-ins in place. `patch` is monkeypatch.setattr, or setattr-like for a subprocess."""
    for module in ("building", "preflight"):
        patch(f"edgeline.tensorrt.{module}.gpu", lambda: gpu)
    patch("edgeline.doctor.gpu", lambda: gpu)
    patch("edgeline.backends.tensorrt.TensorRtSession", FakeSession)
    patch("edgeline.tensorrt.building.open_cuda", lambda gpu: None)
    if builds is not None:
        patch("edgeline.tensorrt.building.build_engine", builds)
    if installed:
        state = {name: ProductState("tensorrt", version) for name, version in VERSIONS.items()}
        for module in ("tensorrt.building", "tensorrt.preflight"):
            patch(f"edgeline.{module}.load_product", fake_product)
        patch("edgeline.tensorrt.products.load_product", fake_product)
        for module in ("tensorrt.building", "tensorrt.preflight", "doctor"):
            patch(f"edgeline.{module}.product_state", state.__getitem__)
        patch("edgeline.tensorrt.install.has_cuda_bindings", lambda: True)
        patch("edgeline.tensorrt.install.bindings_version", lambda: "13.0.0")


def patch_for_good(target, value):
    """Set `target`, a dotted name, in a process of its own."""
    import importlib

    module, _, name = target.rpartition(".")
    setattr(importlib.import_module(module), name, value)
