"""Whether NVIDIA's driver is here and counts a device, asked without any package."""

from __future__ import annotations

import ctypes


def has_cuda_driver() -> bool:
    """Say whether NVIDIA's driver library can be loaded and counts at least one device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
