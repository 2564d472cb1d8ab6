"""The probe's stand-in where there is no C compiler: numpy's float32 products, in probe.c's words and shape.

    python -m edgeline_bench.roofline.numpy_probe CORES ROUNDS FLOPS BYTES[,BYTES...]

The peak rate is that of a square matrix product, the bandwidth that of a matrix which products with vectors read again
and again. Both are what the installed BLAS reaches, so below the machine's own: layers may lie above such ceilings.
Each thread is one of Python's, with its own memory; BLAS must keep to it (the caller sets OPENBLAS_NUM_THREADS and the
like to 1). No integer and no bfloat16 arithmetic: BLAS has none. No checksums either: nothing here can be left out by a
compiler.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_ORDER = 512  # of the square matrices: 1 MiB each, large enough for BLAS's blocking, a few ms a product
_COLUMNS = 128  # 512 bytes a row: all sizes are multiples of it, and the vector stays in the first cache
_TARGET_S = 0.002
_REPETITIONS = 2
_LIMIT_S = 3.0  # no round begins after this
# Called with a count, a kernel does its work that many times. Both leave the interpreter's lock while they do.
Kernel = Callable[[int], object]


@dataclass(slots=True)
class _Best:
    """The best repetition of a kernel: how often its work was done in it, and the seconds; 0 before the first."""

    count: int = 0
    seconds: float = 0.0


def main(arguments: Sequence[str]) -> int:
    """Measure as probe.c does and print the same JSON."""
    cores, sizes = ([int(part) for part in arguments[index].split(",")] for index in (0, 3))
    rounds, with_flops = int(arguments[1]), arguments[2] == "1"
    team = _Team(cores, max(sizes))
    peak, reads = _Best(), [_Best() for _ in sizes]
    begun = time.perf_counter()
    for index in range(rounds):
        if index > 0 and time.perf_counter() - begun > _LIMIT_S:
            break
        if with_flops:
            team.measure(_product, _ORDER, peak)
        for size, best in zip(sizes, reads, strict=True):
            team.measure(_read, size, best)
    kernel = {
        "precision": "fp32", "instruction": "sgemm", "accumulators": _ORDER * _ORDER, "lanes": _ORDER,
        "macs_per_lane": 1, "iterations": peak.count, "seconds": peak.seconds, "checksum": None,
    }  # fmt: skip
    record = {
        "instruction_set": "numpy",
        "threads": len(cores),
        "flops": [kernel] if with_flops else [],
        "reads": [
            {"bytes": size, "passes": best.count, "seconds": best.seconds, "checksum": None}
            for size, best in zip(sizes, reads, strict=True)
        ],
    }
    print(json.dumps(record))
    return 0


class _Team:
    """Threads that work together, one on each core, each on memory that it touched first."""

    def __init__(self, cores: Sequence[int], memory_bytes: int) -> None:
        self._cores = cores
        self._memories = [np.empty(0, np.float32)] * len(cores)
        self._together(lambda index: self._touch(index, memory_bytes))

    def measure(self, make: Callable[[np.ndarray, int], Kernel], size: int, best: _Best) -> None:
        """Keep the best of some repetitions; at the first call find how much work lasts _TARGET_S."""
        kernels = [make(memory, size) for memory in self._memories]
        while not best.seconds:
            count = max(best.count, 1)
            seconds = self._repeat(kernels, count)
            best.count = count * (1 if seconds >= _TARGET_S else min(int(1.1 * _TARGET_S / seconds) + 1, 1000))
            if best.count == count:
                best.seconds = seconds
        best.seconds = min(best.seconds, *(self._repeat(kernels, best.count) for _ in range(_REPETITIONS)))

    def _repeat(self, kernels: Sequence[Kernel], count: int) -> float:
        """Return the seconds from the first thread's start to the last one's end."""
        starts, ends = [0.0] * len(self._cores), [0.0] * len(self._cores)
        barrier = threading.Barrier(len(self._cores))

        def work(index: int) -> None:
            barrier.wait()
            starts[index] = time.perf_counter()
            kernels[index](count)
            ends[index] = time.perf_counter()

        self._together(work)
        return max(ends) - min(starts)

    def _touch(self, index: int, memory_bytes: int) -> None:
        self._memories[index] = np.ones(max(memory_bytes // 4, 2 * _ORDER * _ORDER), np.float32)

    def _together(self, work: Callable[[int], None]) -> None:
        def pinned(index: int) -> None:
            os.sched_setaffinity(0, {self._cores[index]})  # of this thread alone: sched_setaffinity(2)
            work(index)

        others = [threading.Thread(target=pinned, args=(index,)) for index in range(1, len(self._cores))]
        for thread in others:
            thread.start()
        pinned(0)
        for thread in others:
            thread.join()


def _product(memory: np.ndarray, order: int) -> Kernel:
    left, right = (memory[start : start + order * order].reshape(order, order) for start in (0, order * order))
    result = np.empty((order, order), np.float32)

    def product(count: int) -> None:
        for _ in range(count):
            np.matmul(left, right, out=result)

    return product


def _read(memory: np.ndarray, size_bytes: int) -> Kernel:
    """Read the first `size_bytes` of `memory`, count times in one call of numpy's: a call takes a microsecond."""
    matrix = memory[: size_bytes // 4].reshape(-1, _COLUMNS)
    vector = np.ones(_COLUMNS, np.float32)

    def read(count: int) -> None:
        np.matmul(np.broadcast_to(matrix, (count, *matrix.shape)), vector)

    return read


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
