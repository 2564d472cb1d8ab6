"""What a training run ran on: kept in its history, since examples per second mean nothing without it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch


def machine_record(device: str, processes: int) -> dict[str, Any]:
    """Return the processor, the threads and processes, torch's version, and the peak of this process's memory."""
    record = {
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "peak_memory_bytes": _peak_memory_bytes(),
    }
    if device.startswith("cuda"):
        record["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return record


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _peak_memory_bytes() -> int | None:
    """Return the most memory that the process ever held; None where there is no /proc.

    Not getrusage's ru_maxrss: a child process inherits its parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
