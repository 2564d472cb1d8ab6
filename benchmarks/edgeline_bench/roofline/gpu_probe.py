"""The ceilings of an NVIDIA GPU, measured through PyTorch: matrix products by precision, and copies in its memory.

PyTorch is there wherever benchmarks run, as eager is their baseline. Times are CUDA events', around several launches.
A matrix product reaches less than the data sheet's peak and more than any convolution: it is the honest ceiling. Caches
of a GPU are not measured. This has been run on a double of torch.cuda only, not on a GPU yet.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from edgeline.errors import MissingCapabilityError
from edgeline_bench.roofline.ceilings import Ceilings
from edgeline_bench.roofline.levels import DRAM, Level

_ORDER = 4096  # of the square matrices: 137 GFLOP a product, and 200 MB in fp32, which a Jetson has
_COPY_BYTES = 256 << 20  # beyond the L2 of any GPU so far (H100: 50 MB, RTX 5090: 96 MB)
_LAUNCHES, _REPETITIONS = 5, 8
_PRECISIONS = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
_FIRST_WITH_TF32 = (8, 0)


def measure_cuda_ceilings(torch: Any = None) -> Ceilings:
    """Measure the current CUDA device. A precision that its products do not take is left out, and a note says why.

    `torch` is the module, or one that acts like it. Raises RuntimeError (PyTorch's own) without a CUDA device.
    """
    if torch is None:
        import torch
    flops: dict[str, float] = {}
    notes: list[str] = []
    capability = torch.cuda.get_device_capability()
    for precision in _PRECISIONS:
        if precision == "tf32" and capability < _FIRST_WITH_TF32:
            continue  # its products would be fp32's
        try:
            flops[precision] = 2 * _ORDER**3 / _product_s(torch, precision)
        except RuntimeError as error:
            notes.append(f"{precision} products do not run on this GPU: {str(error).splitlines()[0]}")
    source = torch.ones(_COPY_BYTES // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    copy_s = _best_s(torch, lambda: target.copy_(source))
    return Ceilings(
        method="cuda-probe",
        compiler=None,
        instruction_set=f"compute capability {capability[0]}.{capability[1]}",
        threads=1,
        cores=(),
        flops={precision: {1: rate} for precision, rate in flops.items()},
        levels={1: (Level(DRAM, 2 * _COPY_BYTES / copy_s, None, 2 * _COPY_BYTES),)},  # each byte is read and written
        notes=tuple(notes),
    )


def cuda_ceilings_from_child() -> Ceilings:
    """Measure in a process of its own: a CUDA context and PyTorch's cached memory must not stay beside the engines.

    Raises MissingCapabilityError where PyTorch is missing or has no CUDA device.
    """
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise MissingCapabilityError(f"PyTorch cannot measure the GPU's ceilings ({words}): --no-roofline")
    return Ceilings.from_record(json.loads(done.stdout))


def _product_s(torch: Any, precision: str) -> float:
    """Return the seconds of one matrix product; TF32 is on for `tf32` alone, and as it was before afterwards."""
    left, right = (
        torch.ones((_ORDER, _ORDER), dtype=getattr(torch, _PRECISIONS[precision]), device="cuda") for _ in range(2)
    )
    settings = torch.backends.cuda.matmul
    before, settings.allow_tf32 = settings.allow_tf32, precision == "tf32"
    try:
        if precision == "int8":  # PyTorch's only integer product; it wants the right matrix by columns
            return _best_s(torch, lambda: torch._int_mm(left, right.t()))
        return _best_s(torch, lambda: torch.matmul(left, right))
    finally:
        settings.allow_tf32 = before


def _best_s(torch: Any, launch: Callable[[], object]) -> float:
    """Return the seconds of one launch: the best of some repetitions of several, after one that warms up."""
    best = float("inf")
    for repetition in range(_REPETITIONS + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(_LAUNCHES):
            launch()
        end.record()
        end.synchronize()
        if repetition > 0:
            best = min(best, start.elapsed_time(end) * 1e-3 / _LAUNCHES)  # elapsed_time is in milliseconds
    return best


if __name__ == "__main__":
    json.dump(measure_cuda_ceilings().to_record(), sys.stdout)
