"""What to type on this machine for a missing TensorRT or cuda-bindings. It looks; it imports and installs nothing.

Two things decide besides the product: a driver runs what is made for its own major version of CUDA, or an older one;
and on a Jetson TensorRT comes with JetPack, from apt, never from pip.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from edgeline.cuda import Gpu

if TYPE_CHECKING:
    from edgeline.tensorrt.products import ProductInfo

_TEGRA_RELEASE = Path("/etc/nv_tegra_release")
_JETPACK = (
    "apt-get install python3-libnvinfer (JetPack brings TensorRT), in a virtual environment made with "
    "python3 -m venv --system-site-packages"
)
_OLDEST_CUDA, _NEWEST_CUDA = 12, 13  # major versions that Edgeline runs on; the extras in pyproject.toml say the same


def is_jetson() -> bool:
    """Say whether this is a Jetson, by JetPack's own file or its kernel."""
    return platform.machine() == "aarch64" and (_TEGRA_RELEASE.exists() or "tegra" in platform.release())


def install_line(info: ProductInfo, gpu: Gpu | None) -> str:
    """Return what installs a product here, and with it cuda-bindings that the driver of `gpu` can run."""
    if info.format == "trt" and is_jetson():
        return _JETPACK
    # The extra alone brings the newest cuda-bindings. TensorRT-RTX's packages are made for CUDA 13 and take no others.
    narrow = info.format == "trt" and gpu is not None and _cuda_of(gpu) < _NEWEST_CUDA
    return f"{info.install} '{fitting_bindings(gpu)}'" if narrow else info.install


def fitting_bindings(gpu: Gpu | None) -> str:
    """Return pip's requirement for the cuda-bindings that the driver of `gpu` can run, like cuda-bindings>=12.6,<13."""
    major = _NEWEST_CUDA if gpu is None else min(max(_cuda_of(gpu), _OLDEST_CUDA), _NEWEST_CUDA)
    return f"cuda-bindings>=12.6,<{major + 1}"


def has_cuda_bindings() -> bool:
    """Say whether the package cuda-bindings is installed, without importing its C parts."""
    try:
        return importlib.util.find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # there is no package `cuda` at all
        return False


def bindings_version() -> str | None:
    """Return the version of the installed cuda-bindings; None where nothing tells it."""
    try:
        return importlib.metadata.version("cuda-bindings")
    except importlib.metadata.PackageNotFoundError:
        return None


def bindings_obstacle(gpu: Gpu | None) -> tuple[str, str] | None:
    """Say why cuda-bindings cannot run on the driver of `gpu`, and what to type; None where nothing speaks against."""
    if gpu is not None and _cuda_of(gpu) < _OLDEST_CUDA:
        why = f"the driver serves CUDA {gpu.driver}, cuda-bindings needs CUDA {_OLDEST_CUDA}"
        return why, "install a newer NVIDIA driver"
    line = f"pip install '{fitting_bindings(gpu)}'"
    if not has_cuda_bindings():
        return "cuda-bindings is not installed", line
    version = bindings_version()
    if gpu is None or version is None or int(version.partition(".")[0]) <= _cuda_of(gpu):
        return None
    return f"cuda-bindings {version} is made for a newer CUDA than the driver serves ({gpu.driver})", line


def _cuda_of(gpu: Gpu) -> int:
    return int(gpu.driver.partition(".")[0])
