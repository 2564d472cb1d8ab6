"""Energy meters: RAPL's counters of the CPU packages, NVML's of the GPU. Where neither can be read, that is said.

A meter counts the whole package or GPU, idle power included, so its figure belongs to a quiet machine. The counters of
RAPL are readable by root only since Linux 5.10 (CVE-2020-8694), and virtual machines seldom have them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeline_bench import nvml

_POWERCAP = Path("/sys/class/powercap")
NOT_READABLE = "not readable here"


@dataclass(frozen=True, slots=True)
class Meter:
    """A counter of joules. `wraps_at_j` is where it starts again from 0, None where it does not."""

    source: str
    read_j: Callable[[], float | None]
    wraps_at_j: float | None = None

    def used_j(self, before: float | None, after: float | None) -> float | None:
        """Return the joules between two readings; None when one of them failed."""
        if before is None or after is None:
            return None
        if after < before:
            return after + self.wraps_at_j - before if self.wraps_at_j is not None else None
        return after - before


def meter_for(device: str) -> Meter | None:
    """Return the meter of "cuda" (the first GPU) or "cpu"; None where there is none that can be read."""
    if device == "cuda":
        return Meter("nvml", nvml.energy_j) if nvml.energy_j() is not None else None
    packages = _packages()
    if not packages or _rapl_j(packages) is None:
        return None
    # With several packages, one wrapping alone would spoil the sum: such a reading is left out.
    limit = _microjoules(packages[0] / "max_energy_range_uj") if len(packages) == 1 else None
    return Meter("rapl", lambda: _rapl_j(packages), limit)


def _packages() -> list[Path]:
    """Return RAPL's package zones; the zones below them (core, dram) are parts of these."""
    zones = sorted(_POWERCAP.glob("intel-rapl:*"))
    return [zone for zone in zones if _text(zone / "name").startswith("package")]


def _rapl_j(packages: list[Path]) -> float | None:
    readings = [_microjoules(zone / "energy_uj") for zone in packages]
    known = [reading for reading in readings if reading is not None]
    return sum(known) if len(known) == len(readings) else None


def _microjoules(path: Path) -> float | None:
    text = _text(path)
    return int(text) * 1e-6 if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
