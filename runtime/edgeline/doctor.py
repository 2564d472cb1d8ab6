"""What this machine can run, why not the rest, and the line that fixes it. It looks; it loads no engine.

It cannot see what only loading shows: libraries that lack another library, a cached engine that no longer loads.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeline.architecture import architecture_here
from edgeline.backends import ENGINES
from edgeline.cache import cache_root, why_unsafe
from edgeline.cuda import Gpu, gpu, has_cuda_driver
from edgeline.tensorrt.install import bindings_obstacle, install_line
from edgeline.tensorrt.products import PRODUCTS, product_state

_CUDA_ORT = "pip uninstall onnxruntime && pip install 'edgeline[gpu]'"
_OTHER_CACHE = "export EDGELINE_CACHE=/a/folder/of/yours"
_ROW_OF_FORMAT = {"trt": "tensorrt", "trt-rtx": "tensorrt-rtx"}
_PEERS = ("openvino", "litert", "ncnn", "aot-inductor", "iree")
_ENGINE_ROWS = ("onnxruntime", "onnxruntime-tensorrt", "native", *_ROW_OF_FORMAT.values(), *_PEERS)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table. `fix` is the command to type, or empty."""

    what: str
    ok: bool
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at Python, numpy, each engine, the GPU and the cache, without loading any engine."""
    found = gpu()
    return [
        Finding("python", sys.version_info >= (3, 10), f"{platform.python_version()} on {platform.machine()}"),
        Finding("numpy", True, np.__version__),
        _onnxruntime(found),
        _onnxruntime_tensorrt(found),
        _native(),
        *(_product(format_name, found) for format_name in PRODUCTS),
        *(_peer(name) for name in _PEERS),
        _cuda_bindings(found),
        _gpu(found),
        _cache(),
        _pillow(),
    ]


def can_run(findings: Sequence[Finding]) -> bool:
    """Say whether any engine can run here."""
    return any(finding.ok for finding in findings if finding.what in _ENGINE_ROWS)


def _onnxruntime(found: Gpu | None) -> Finding:
    runs = "runs formats: onnx, and the graphs of the others"
    if not _has("onnxruntime"):
        return Finding("onnxruntime", False, f"not installed; {runs}", ENGINES["onnxruntime"].install)
    version = _version("onnxruntime")
    if found and version.startswith("onnxruntime "):
        return Finding("onnxruntime", True, f"{version}; {runs}; the CPU build, leaves the GPU alone", _CUDA_ORT)
    return Finding("onnxruntime", True, f"{version}; {runs}")


def _onnxruntime_tensorrt(found: Gpu | None) -> Finding:
    what = "onnxruntime-tensorrt"
    if found is None:
        return Finding(what, False, "no NVIDIA GPU to run on")
    if not _has("onnxruntime") or _version("onnxruntime").startswith("onnxruntime "):
        fix = _CUDA_ORT if _has("onnxruntime") else ENGINES[what].install
        return Finding(what, False, "onnxruntime-gpu is not installed", fix)
    state = product_state("trt")
    if state.module is None:
        return Finding(what, False, state.why, install_line(PRODUCTS["trt"], found))
    return Finding(what, True, f"{_version('onnxruntime')} with TensorRT {state.version or 'of unknown version'}")


def _native() -> Finding:
    runs = f"runs formats: {', '.join(ENGINES['native'].formats)}"
    if not sys.platform.startswith(("linux", "freebsd")):
        return Finding("native", False, f"C libraries are built for Linux, not for {sys.platform}; {runs}")
    return Finding("native", True, f"libraries for {architecture_here()}; {runs}")


def _product(format_name: str, found: Gpu | None) -> Finding:
    info, state, what = PRODUCTS[format_name], product_state(format_name), _ROW_OF_FORMAT[format_name]
    runs = f"runs formats: {format_name}"
    if state.module is None:
        without = "" if found else ", and no NVIDIA GPU to run on"
        return Finding(what, False, f"{state.why}{without}; {runs}", install_line(info, found))
    detail = f"{state.module} {state.version or 'of unknown version'}"
    if found is None:
        builds = "; export-model builds engines with it" if format_name == "trt-rtx" else ""
        return Finding(what, False, f"{detail}, no NVIDIA GPU to run on{builds}")
    obstacle = bindings_obstacle(found)
    if obstacle is not None:
        return Finding(what, False, f"{detail}, but {obstacle[0]}", obstacle[1])
    return Finding(what, True, f"{detail}; {runs}")


def _peer(name: str) -> Finding:
    """Another project's engine: there or not."""
    engine = ENGINES[name]
    runs = f"runs formats: {', '.join(engine.formats)}"
    if not _has(engine.packages[0].partition(".")[0]):
        return Finding(name, False, f"{engine.distribution} is not installed; {runs}", engine.install)
    return Finding(name, True, f"{_version(engine.distribution)}; {runs}")


def _cuda_bindings(found: Gpu | None) -> Finding:
    obstacle = bindings_obstacle(found)
    if obstacle is not None:
        return Finding("cuda-bindings", False, f"{obstacle[0]}; TensorRT's engines need it", obstacle[1])
    return Finding("cuda-bindings", True, _version("cuda-bindings"))


def _gpu(found: Gpu | None) -> Finding:
    if found is not None:
        detail = f"{found.name}, compute capability {found.compute_capability}, driver for CUDA {found.driver}"
        return Finding("nvidia-gpu", True, f"{detail}, {found.memory_bytes / 2**30:.1f} GiB")
    if has_cuda_driver():
        return Finding("nvidia-gpu", False, "there is a driver, but it does not describe its first GPU", "nvidia-smi")
    return Finding("nvidia-gpu", False, "no NVIDIA driver or no device; device='cpu' is used")


def _cache() -> Finding:
    root = cache_root()
    try:
        return _cache_at(root)
    except OSError as error:
        return Finding("cache", False, f"{root} cannot be used: {error.strerror}", _OTHER_CACHE)


def _cache_at(root: Path) -> Finding:
    if not root.exists():
        parent = next(folder for folder in root.parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            return Finding("cache", False, f"{root} cannot be made below {parent}", _OTHER_CACHE)
        return Finding("cache", True, f"{root}, not made yet")
    unsafe, folders = why_unsafe(root), []
    if unsafe is None:
        folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()]
        unsafe = next((reason for reason in map(why_unsafe, folders) if reason is not None), None)
    if unsafe is not None:
        return Finding("cache", False, *unsafe)
    sizes = [f"{folder.name} {_size_bytes(folder) / 1e6:.1f} MB" for folder in folders]
    return Finding("cache", True, f"{root}, {', '.join(sizes) or 'empty'}")


def _size_bytes(folder: Path) -> int:
    """Add up the files, links not followed; one that goes meanwhile (a build that ends) counts as nothing."""
    total = 0
    for entry in folder.rglob("*"):
        try:
            found = entry.lstat()
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
        except FileNotFoundError:
            continue
    return total


def _pillow() -> Finding:
    if not _has("PIL"):
        return Finding("pillow", False, "not installed; .pgm and .npy inputs work without it", "pip install pillow")
    return Finding("pillow", True, f"{_version('pillow')}; reads .png")


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(package: str) -> str:
    for distribution in (package, f"{package}-gpu"):
        try:
            return f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "version unknown"
