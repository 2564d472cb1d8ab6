"""NVIDIA's driver and its GPUs, asked through the driver library itself: no package is needed to look."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_COMPUTE_CAPABILITY_MAJOR = 75  # CUdevice_attribute
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `compute_capability` is like "8.9"; `driver` is the newest CUDA the driver serves, like "13.0"."""

    name: str
    compute_capability: str
    driver: str
    memory_bytes: int


def has_cuda_driver() -> bool:
    """Say whether NVIDIA's driver library can be loaded and counts at least one device."""
    return _driver() is not None


def gpu() -> Gpu | None:
    """Describe the first GPU; None where there is no driver or no device."""
    driver = _driver()
    if driver is None:
        return None
    device, major, minor, version = (ctypes.c_int() for _ in range(4))
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    failed = [
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device),
        driver.cuDriverGetVersion(ctypes.byref(version)),
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
    ]
    if any(failed):
        return None
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        driver=f"{version.value // 1000}.{version.value % 1000 // 10}",
        memory_bytes=memory.value,
    )


def _driver() -> ctypes.CDLL | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count = ctypes.c_int()
    usable = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    return driver if usable else None
