"""What this machine can run, why not the rest, and the line that fixes it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from dataclasses import dataclass

import numpy as np

from edgeline.backends import ENGINES
from edgeline.cuda import has_cuda_driver


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table. `fix` is the command to type, or empty."""

    what: str
    ok: bool
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at Python, numpy, each engine and the GPU driver, without loading any engine."""
    return [
        Finding("python", sys.version_info >= (3, 10), f"{platform.python_version()} on {platform.machine()}"),
        Finding("numpy", True, np.__version__),
        *(_engine(name) for name in ENGINES),
        _gpu_driver(),
        _pillow(),
    ]


def _engine(name: str) -> Finding:
    engine = ENGINES[name]
    runs = f"runs formats: {', '.join(engine.formats)}"
    if importlib.util.find_spec(engine.package) is None:
        return Finding(name, False, f"not installed; {runs}", engine.install)
    return Finding(name, True, f"{_version(engine.package)}; {runs}")


def _version(package: str) -> str:
    for distribution in (package, f"{package}-gpu"):
        try:
            return f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "version unknown"


def _gpu_driver() -> Finding:
    if not has_cuda_driver():
        return Finding("nvidia-gpu", False, "no NVIDIA driver or no device; device='cpu' is used")
    if importlib.util.find_spec("onnxruntime") and _version("onnxruntime").startswith("onnxruntime "):
        fix = "pip uninstall onnxruntime && pip install 'edgeline[gpu]'"
        return Finding("nvidia-gpu", False, "driver found, but onnxruntime is the CPU build", fix)
    return Finding("nvidia-gpu", True, "driver found")


def _pillow() -> Finding:
    if importlib.util.find_spec("PIL") is None:
        return Finding("pillow", False, "not installed; .pgm and .npy inputs work without it", "pip install pillow")
    return Finding("pillow", True, f"{_version('pillow')}; reads .png")
