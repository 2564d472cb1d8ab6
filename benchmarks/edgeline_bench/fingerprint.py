"""The machine that a report was made on: what a reader needs to judge it, and what compare-reports holds together."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = ("edgeline", "numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu",
             "tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu13-bindings", "cuda-bindings", "openvino", "ai-edge-litert",
             "litert-torch", "ncnn", "pnnx", "torchao", "iree-base-compiler", "iree-base-runtime")  # fmt: skip
# The instruction sets that decide how fast a convolution can be; /proc/cpuinfo lists hundreds of flags.
_ISA = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def fingerprint() -> dict[str, Any]:
    """Return the report's `fingerprint` (SCHEMAS). Figures that cannot be read here are None."""
    cpuinfo = _text(Path("/proc/cpuinfo"))
    flags = set(_field(cpuinfo, "flags", "Features").split())
    return {
        "cpu": _field(cpuinfo, "model name", "Model") or platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": [name for name in _ISA if name in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": _gpu(),
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).strip() or None,
        "frequency_hz": _frequency_hz(cpuinfo),
        "temperature_c": _temperature_c(),
        "load_average": os.getloadavg()[0],
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, *names: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return ""


def _gpu() -> str | None:
    """Return the models that NVIDIA's Linux driver lists; None without the driver (Jetson's does not list itself)."""
    texts = [_text(path) for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    return ", ".join(_field(text, "Model") for text in texts) or None


def _frequency_hz(cpuinfo: str) -> float | None:
    text = _field(cpuinfo, "cpu MHz")
    return float(text) * 1e6 if text else None


def _temperature_c() -> float | None:
    for path in sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp")):
        text = _text(path).strip()
        if text.lstrip("-").isdigit():
            return int(text) / 1000
    return None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
