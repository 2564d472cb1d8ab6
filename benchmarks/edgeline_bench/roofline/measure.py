"""Measures the ceilings of a CPU: with one thread, with the run's threads, and with all that this process may use.

A full measurement takes one to three seconds for each number of threads, what is measured again after a run less than
one. Both belong to moments when nothing else of ours runs: the workers must be stopped.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from edgeline.command import note
from edgeline.errors import ResourceError
from edgeline_bench.fingerprint import fingerprint
from edgeline_bench.roofline import gpu_probe
from edgeline_bench.roofline.ceilings import Ceilings, stability_reasons
from edgeline_bench.roofline.levels import cache_capacities, levels_from_sweep
from edgeline_bench.roofline.probe import Probe, find_probe, numpy_probe, run_probe

_SMALLEST_BYTES = 4096
_STEPS_PER_OCTAVE = 3
_LEAST_LARGEST_BYTES = 256 << 20  # beyond any cache that sysfs might hide from a virtual machine
_LARGEST_CACHES = 4  # times the last-level cache
_LARGEST_MEMORY_SHARE = 4  # no more than a quarter of the memory that is free
# So many that the second measurement lasts most of a second: who shares a core of a virtual machine's host was seen to
# take 13 % of L1's bandwidth for 0.1 to 0.5 s at a time.
_SWEEP_ROUNDS, _QUICK_ROUNDS = 8, 30
_QUICK_TRIES = 3
_UNMEASURED = {"amx_int8": "int8", "amx_bf16": "bf16"}


def measure_ceilings(threads: int, cores: tuple[int, ...]) -> Ceilings:
    """Measure this CPU for a run of `threads` threads pinned to `cores`; empty where they are not pinned.

    Threads beyond the cores that this process may use do not add to a ceiling, and are left out. Raises ResourceError
    when the probe fails and numpy's stand-in fails as well.
    """
    usable = sorted(os.sched_getaffinity(0), reverse=True)  # as the benchmark pins: the first ones serve interrupts
    order = (*cores, *(core for core in usable if core not in cores))
    own = min(threads, len(cores) or len(order))
    probe = find_probe()
    try:
        return _measure(probe, own, order)
    except ResourceError as error:
        if probe.method == "numpy":
            raise
        return _measure(numpy_probe(str(error)), own, order)


def remeasure(ceilings: Ceilings) -> dict[str, float]:
    """Measure the figures of `ceilings` again (Ceilings.figures), in short.

    What disturbs only lowers a rate, so figures that fell are tried again, and the best of up to three tries counts.
    Raises ResourceError when the probe that measured before does not run any more.
    """
    if ceilings.on_gpu:
        return gpu_probe.cuda_ceilings_from_child().figures()
    best: dict[str, float] = {}
    probe = numpy_probe("as before the run") if ceilings.method == "numpy" else find_probe()
    if probe.method != ceilings.method:
        raise ResourceError(f"the ceilings were measured by {ceilings.method}, and now only {probe.method} runs here")
    for _ in range(_QUICK_TRIES):
        found = _quick(probe, ceilings)
        best = {name: max(rate, best.get(name, 0.0)) for name, rate in found.items()}
        if not stability_reasons(ceilings.figures(), best):
            break
    return best


def _measure(probe: Probe, own: int, order: Sequence[int]) -> Ceilings:
    measured = {
        number: run_probe(probe, order[:number], _sizes(order[:number]), _SWEEP_ROUNDS)
        for number in sorted({1, own, len(order)})
    }
    ceilings = Ceilings(
        method=probe.method,
        compiler=probe.compiler,
        instruction_set=measured[own].instruction_set,
        threads=own,
        cores=tuple(order[:own]),
        flops={
            precision: {number: found.flops[precision] for number, found in measured.items()}
            for precision in measured[own].flops
        },
        levels={
            number: levels_from_sweep(found.reads, cache_capacities(order[:number]))
            for number, found in measured.items()
        },
        sweeps={number: found.reads for number, found in measured.items()},
        notes=_notes(probe, order[:own], measured[own].reads[-1][0]),
    )
    # Once more, a few seconds after the first: a disturbance of that length would else lower a ceiling.
    second = _quick(probe, ceilings)
    return dataclasses.replace(ceilings.after(second), stability={})


def _quick(probe: Probe, ceilings: Ceilings) -> dict[str, float]:
    """Measure the peaks, and each level at the one working set that showed it best."""
    levels = ceilings.levels[ceilings.threads]
    sizes = [level.seen_at_bytes // ceilings.threads for level in levels]
    found = run_probe(probe, ceilings.cores, sizes, _QUICK_ROUNDS)
    rates = (rate for _, rate in found.reads)
    return dict(found.flops) | dict(zip((level.name for level in levels), rates, strict=True))


def _sizes(cores: Sequence[int]) -> list[int]:
    """Return the working sets of each thread in bytes, in geometric steps up to beyond the last cache of all."""
    caches = cache_capacities(cores)
    wanted = max(_LEAST_LARGEST_BYTES, _LARGEST_CACHES * max(caches.values(), default=0))
    free = _free_memory_bytes()
    largest = min(wanted, free // _LARGEST_MEMORY_SHARE) if free else wanted
    sizes = [_SMALLEST_BYTES]
    while sizes[-1] * len(cores) < largest:
        step = 2 ** (len(sizes) / _STEPS_PER_OCTAVE)
        sizes.append(round(_SMALLEST_BYTES * step / 512) * 512)
    return sizes


def _free_memory_bytes() -> int | None:
    """Return what /proc/meminfo calls available; None where it does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _notes(probe: Probe, cores: Sequence[int], largest_bytes: int) -> tuple[str, ...]:
    """Return what a reader of the ceilings must know, and say it: what the probe is not, and what it leaves out."""
    notes = [probe.note] if probe.note else []
    last_cache = max(cache_capacities(cores).values(), default=0)
    if largest_bytes < 2 * last_cache:
        notes.append(f"too little memory is free to read beyond the {last_cache >> 20} MiB cache: DRAM is not measured")
    available = fingerprint()["isa"]
    notes += [
        f"{instructions} is not measured: a layer in {precision} that uses it may lie above its roof"
        for instructions, precision in _UNMEASURED.items()
        if instructions in available
    ]
    for words in notes:
        note(words)
    return tuple(notes)
