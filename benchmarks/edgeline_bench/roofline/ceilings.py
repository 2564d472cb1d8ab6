"""The ceilings of a machine: peak rates and bandwidths that a roofline's points lie below, and whether they held.

Plain data and look-ups. Measuring is measure.py's, and what a layer does below a ceiling is not known here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeline.errors import InputError
from edgeline_bench.roofline.levels import Level

MAX_CHANGE = 0.10  # of a ceiling between before and after a run; more, and the machine was not the same machine
# Precisions that engines on a CPU compute in float32: there is no other arithmetic for them in what Edgeline times.
_FLOAT32_ON_CPU = ("fp16", "tf32")
_CUDA = "cuda-probe"


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a machine does at most.

    `flops` is operations/s (two a multiply-accumulate) by precision and number of threads; `levels` and `sweeps` (a
    working set in bytes, and bytes/s) are by number of threads. All are of the threads together. `threads` is the
    run's own number among them, and `cores` where those ran. A GPU has one "thread", and DRAM alone.
    """

    method: str  # "c-probe", "numpy" or "cuda-probe"
    compiler: str | None
    instruction_set: str
    threads: int
    cores: tuple[int, ...]
    flops: Mapping[str, Mapping[int, float]]
    levels: Mapping[int, tuple[Level, ...]]
    sweeps: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    stability: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        """Whether these are a GPU's."""
        return self.method == _CUDA

    def peak(self, precision: str, threads: int) -> float:
        """Return the peak operations/s in a precision, or in the one that stands in for it (`stand_in`)."""
        by_threads = self.flops[self.stand_in(precision)[0]]
        return by_threads[_nearest(by_threads, threads)]

    def stand_in(self, precision: str) -> tuple[str, str | None]:
        """Return the precision whose peak is the roof of `precision`, and why it is another one; None if it is not.

        Where the instruction set has no dot product for int8 or bf16, the roof is fp32's, and a point may lie above it.
        """
        if precision in self.flops:
            return precision, None
        if precision in _FLOAT32_ON_CPU and self.method != _CUDA:
            return "fp32", f"{precision} is computed in fp32 on a CPU"
        return "fp32", f"no {precision} peak was measured ({self.instruction_set}): its roof is fp32's"

    def bandwidth(self, level: str, threads: int) -> float:
        """Return a level's read bandwidth in bytes/s. Raises InputError for a level that this machine does not show."""
        levels = self._levels(threads)
        for candidate in levels:
            if candidate.name == level:
                return candidate.bytes_per_s
        raise InputError(
            f"no memory level {level} was measured here; there are {', '.join(known.name for known in levels)}"
        )

    def bandwidth_at(self, size_bytes: int, threads: int) -> float:
        """Return the bytes/s at which a working set of that size is read over and over.

        Its level's rate, or, in the last one, the best that the sweep saw of this size and larger ones: just beyond the
        last cache a part of the working set is still found there.
        """
        level = self.smallest_level(size_bytes, threads)
        rate = self.bandwidth(level, threads)
        if level != self._levels(threads)[-1].name:
            return rate
        sweep = self.sweeps[_nearest(self.sweeps, threads)] if self.sweeps else ()
        return max([rate, *(seen for size, seen in sweep if size >= size_bytes)])

    def why_exceeded(self, precision: str) -> str | None:
        """Say why a point may lie above these ceilings without anything being wrong; None where it may not."""
        if self.method == "numpy":
            return "numpy's ceilings"
        if self.on_gpu:
            return "caches not measured"
        unmeasured = next((text for text in self.notes if f"a layer in {precision} that uses it" in text), None)
        return self.stand_in(precision)[1] or unmeasured

    def smallest_level(self, size_bytes: int, threads: int) -> str:
        """Return the name of the first level that holds so many bytes of all threads together."""
        levels = self._levels(threads)
        for level in levels:
            if level.capacity_bytes is None or size_bytes <= level.capacity_bytes:
                return level.name
        return levels[-1].name

    def figures(self) -> dict[str, float]:
        """Return what is measured again after a run: peaks by precision, bandwidths by level, for the run's threads."""
        levels = {level.name: level.bytes_per_s for level in self._levels(self.threads)}
        return {precision: self.peak(precision, self.threads) for precision in self.flops} | levels

    def after(self, second: Mapping[str, float]) -> Ceilings:
        """Return these ceilings with what was measured after a run; of each two figures the higher is the ceiling."""
        first, threads = self.figures(), self.threads
        stability = {name: (rate, second[name]) for name, rate in first.items() if name in second}
        higher = {name: max(pair) for name, pair in stability.items()}
        flops = {
            precision: {**rates, threads: higher.get(precision, rates[threads])}
            for precision, rates in self.flops.items()
        }
        levels = tuple(
            dataclasses.replace(level, bytes_per_s=higher.get(level.name, level.bytes_per_s))
            for level in self._levels(threads)
        )
        return dataclasses.replace(self, flops=flops, levels={**self.levels, threads: levels}, stability=stability)

    def to_record(self) -> dict[str, Any]:
        """Return the report's `roofline` as plain JSON."""
        own = self._levels(self.threads)
        return {
            "method": self.method,
            "compiler": self.compiler,
            "instruction_set": self.instruction_set,
            "threads": self.threads,
            "cores": list(self.cores),
            "ceilings": {
                "flops": {precision: _by_threads(rates) for precision, rates in self.flops.items()},
                "bandwidth": {level.name: level.bytes_per_s for level in own},
                "bandwidth_threads": _by_threads(
                    {n: {level.name: level.bytes_per_s for level in levels} for n, levels in self.levels.items()}
                ),
            },
            "levels_bytes": _capacities(own),
            "levels_bytes_threads": _by_threads({n: _capacities(levels) for n, levels in self.levels.items()}),
            "levels_seen_at_bytes": _by_threads(
                {n: {level.name: level.seen_at_bytes for level in levels} for n, levels in self.levels.items()}
            ),
            "sweep": _by_threads({n: [list(point) for point in sweep] for n, sweep in self.sweeps.items()}),
            "stability": {name: list(pair) for name, pair in self.stability.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Ceilings:
        """Read what to_record wrote. Raises InputError when something is missing or is not what it should be."""
        try:
            return cls(
                method=record["method"],
                compiler=record["compiler"],
                instruction_set=record["instruction_set"],
                threads=record["threads"],
                cores=tuple(record["cores"]),
                flops={name: _by_number(rates) for name, rates in record["ceilings"]["flops"].items()},
                levels=_levels_from_record(record),
                sweeps={n: tuple((s, r) for s, r in sweep) for n, sweep in _by_number(record["sweep"]).items()},
                stability={name: (before, after) for name, (before, after) in record["stability"].items()},
                notes=tuple(record["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"the report's roofline is damaged ({type(error).__name__}: {error}): run benchmark-model again"
            ) from None

    def _levels(self, threads: int) -> tuple[Level, ...]:
        return self.levels[_nearest(self.levels, threads)]


def stability_reasons(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Return for each figure that changed by more than 10 % during the run what makes the report INVALID."""
    return [
        f"{_title(name)} changed by {abs(after[name] / rate - 1):.0%} "
        f"({rate:.2g} -> {after[name]:.2g} {_unit(name)}) during the run: stop other work and run again"
        for name, rate in before.items()
        if name in after and abs(after[name] / rate - 1) > MAX_CHANGE
    ]


def _is_level(figure: str) -> bool:
    return figure == "DRAM" or figure.startswith("L")


def _title(figure: str) -> str:
    return f"{figure} bandwidth" if _is_level(figure) else f"{figure} peak"


def _unit(figure: str) -> str:
    return "B/s" if _is_level(figure) else "op/s" if figure.startswith("int") else "FLOP/s"


def _nearest(measured: Mapping[int, Any], threads: int) -> int:
    """Return the number measured that a run with `threads` cannot exceed: its own, else the next one up, else all."""
    return min((number for number in measured if number >= threads), default=max(measured))


def _capacities(levels: tuple[Level, ...]) -> dict[str, int]:
    return {level.name: level.capacity_bytes for level in levels if level.capacity_bytes is not None}


def _by_threads(values: Mapping[int, Any]) -> dict[str, Any]:
    return {f"threads_{number}": value for number, value in values.items()}


def _by_number(values: Mapping[str, Any]) -> dict[int, Any]:
    return {int(name.removeprefix("threads_")): value for name, value in values.items()}


def _levels_from_record(record: Mapping[str, Any]) -> dict[int, tuple[Level, ...]]:
    capacities = _by_number(record["levels_bytes_threads"])
    seen_at = _by_number(record["levels_seen_at_bytes"])
    return {
        number: tuple(
            Level(name, rate, capacities[number].get(name), seen_at[number][name]) for name, rate in rates.items()
        )
        for number, rates in _by_number(record["ceilings"]["bandwidth_threads"]).items()
    }
