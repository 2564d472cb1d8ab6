"""Runs the probe: compiled from probe.c at first use, or, where no C compiler does it, its stand-in on numpy.

What comes back is rates, checked against the probe's own sums. What they mean (levels, ceilings) is not here, and
neither is a choice of when to measure.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeline.errors import EdgelineError, ResourceError
from edgeline_bench.c_compiler import compile_c
from edgeline_export.c.compiler import find_compiler

SOURCE = Path(__file__).with_name("probe.c")
# fp-contract: the C standard's own mode would forbid to fuse a product and a sum where the source has two operators.
_FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-pthread")
# All that this CPU has. GCC and Clang know the first on x86 and the second on Arm; elsewhere the default has to do.
_NATIVE_FLAGS = {"x86_64": ("-march=native", "-mprefer-vector-width=512"), "aarch64": ("-mcpu=native",)}
_LIMIT_S = 120.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of a probe: operations/s by precision (two a multiply-accumulate), and bytes/s by working set in bytes.

    Both are of all threads together.
    """

    threads: int
    instruction_set: str
    flops: Mapping[str, float]
    reads: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe that runs here: `command` is its first words. `note` says why it is not the one that was wanted."""

    method: str
    compiler: str | None
    command: tuple[str, ...]
    note: str | None = None


def find_probe() -> Probe:
    """Return the C probe, compiled now or found in the cache; without a compiler that does it, the one on numpy.

    The reason for the latter is the probe's `note`, with what to install; the caller must show it.
    """
    try:
        compiler = find_compiler()
        program = compile_c(SOURCE, (*_NATIVE_FLAGS.get(platform.machine(), ()), *_FLAGS))
        return Probe("c-probe", compiler.version, (str(program),))
    except (EdgelineError, OSError) as error:
        return numpy_probe(str(error))


def numpy_probe(reason: str) -> Probe:
    """Return the stand-in on numpy; `reason` says why it has to be that."""
    words = f"the ceilings are numpy's, lower than the machine's own, and float32 alone: {reason}"
    return Probe("numpy", None, (sys.executable, "-m", "edgeline_bench.roofline.numpy_probe"), words)


def run_probe(
    probe: Probe, cores: Sequence[int], sizes: Sequence[int], rounds: int, with_flops: bool = True
) -> Measurement:
    """Measure with one thread on each of `cores`, all together.

    `sizes` are working sets in bytes for each thread, multiples of 512. Nothing is left behind, however it ends.
    Raises ResourceError with the probe's words when it fails, or when its sums are not those of the work it counted.
    """
    arguments = (",".join(map(str, cores)), str(rounds), str(int(with_flops)), ",".join(map(str, sizes)))
    return parse(_run((*probe.command, *arguments)), len(cores))


def parse(text: str, threads: int) -> Measurement:
    """Turn what a probe printed (see probe.c) into rates.

    Raises ResourceError when a sum is not the one that the counted work gives: the work was not done.
    """
    record = json.loads(text)
    flops = {}
    for kernel in record["flops"]:
        macs = macs_of(kernel, threads)
        if kernel["checksum"] not in (None, macs):
            raise ResourceError(
                f"the probe's {kernel['precision']} kernel counted {macs} multiply-accumulates and did "
                f"{kernel['checksum']}: this compiler does not keep them (export CC=gcc, or CC=clang)"
            )
        flops[kernel["precision"]] = 2 * macs / kernel["seconds"]
    reads = []
    for read in record["reads"]:
        if read["checksum"] not in (None, checksum_of(read, threads)):
            raise ResourceError(
                f"the probe's reads of {read['bytes']} bytes sum up to {read['checksum']}, not to "
                f"{checksum_of(read, threads)}: this compiler does not keep them (export CC=gcc, or CC=clang)"
            )
        reads.append((threads * read["bytes"], threads * read["bytes"] * read["passes"] / read["seconds"]))
    return Measurement(threads, record["instruction_set"], flops, tuple(reads))


def macs_of(kernel: Mapping[str, Any], threads: int) -> int:
    """Return the multiply-accumulates that all threads made in a kernel's repetition."""
    return threads * math.prod(int(kernel[name]) for name in ("accumulators", "lanes", "macs_per_lane", "iterations"))


def checksum_of(read: Mapping[str, Any], threads: int) -> int:
    """Return the sum of all words read: each 32-bit word is its own index, sums are modulo 2^32 in each thread."""
    count = read["bytes"] // 4
    return threads * int(count * (count - 1) // 2 * read["passes"] % 2**32)


def _run(command: Sequence[str]) -> str:
    """Run a probe in a session of its own, and end all of it, also on Ctrl-C."""
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1"), "PYTHONSAFEPATH": "1"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the probe itself
        )
    except OSError as error:
        raise ResourceError(f"the probe {command[0]} cannot be started: {error.strerror}") from None
    try:
        output, words = process.communicate(timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise ResourceError(f"the probe took longer than {_LIMIT_S:.0f} s: stop other work and run again") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != 0:
        last = (words.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise ResourceError(f"the probe failed: {last}")
    return output
