"""NVIDIA's management library (NVML), asked through ctypes: the device memory of a process, the energy of a GPU.

No package is needed; the library comes with the driver. On Jetson it answers NOT_SUPPORTED, which reads as None here.
Functions and structures as in NVML's reference manual. It has not run on a GPU: tests give it a simulated library.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

_SUCCESS = 0
_NOT_AVAILABLE = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE as unsigned long long
_MOST_PROCESSES = 128


class _ProcessInfo(ctypes.Structure):
    """`nvmlProcessInfo_t` of the functions that end in _v3."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("usedGpuMemory", ctypes.c_ulonglong),
        ("gpuInstanceId", ctypes.c_uint),
        ("computeInstanceId", ctypes.c_uint),
    )


def process_memory_bytes(pid: int) -> int | None:
    """Return the device memory of a process on the first GPU; None where NVML does not tell."""
    library = _library()
    device = _device(library)
    if device is None or not hasattr(library, "nvmlDeviceGetComputeRunningProcesses_v3"):
        return None  # no GPU, or a driver from before 510
    count, infos = ctypes.c_uint(_MOST_PROCESSES), (_ProcessInfo * _MOST_PROCESSES)()
    if library.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(count), infos) != _SUCCESS:
        return None
    used = [info.usedGpuMemory for info in infos[: count.value] if info.pid == pid]
    return int(used[0]) if used and used[0] != _NOT_AVAILABLE else None


def energy_j() -> float | None:
    """Return the joules that the first GPU has used since its driver was loaded; None where NVML does not tell."""
    library = _library()
    device = _device(library)
    millijoules = ctypes.c_ulonglong()
    if device is None:
        return None
    if library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)) != _SUCCESS:
        return None
    return millijoules.value / 1000


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == _SUCCESS else None


def _device(library: Any) -> ctypes.c_void_p | None:
    handle = ctypes.c_void_p()
    if library is None or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) != _SUCCESS:
        return None
    return handle
