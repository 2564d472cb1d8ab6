"""What Linux says of processes and of the machine, read from /proc. Elsewhere the readers return None."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """A process's memory in bytes: highest resident size ever, and now, split into anonymous and file-backed pages."""

    peak: int
    resident: int
    anonymous: int
    file_backed: int


def memory_of(pid: int | str = "self") -> Memory | None:
    """Read /proc/PID/status. `ru_maxrss` would not do: a child inherits its parent's (getrusage(2))."""
    try:
        return _memory_from_status(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None


def memory_of_interpreter() -> Memory | None:
    """Start Python alone, in a process of its own, and read what that takes before anything is imported."""
    code = "import sys; sys.stdout.write(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return _memory_from_status(done.stdout)


def _memory_from_status(text: str) -> Memory | None:
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        peak, resident, anonymous, file_backed = (
            int(fields[key].split()[0]) * 1024 for key in ("VmHWM", "VmRSS", "RssAnon", "RssFile")
        )
    except KeyError:
        return None
    return Memory(peak, resident, anonymous, file_backed)


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU time that a process has used; 0 when it is gone or there is no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces; utime and stime are fields 14, 15
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def busy_seconds() -> float | None:
    """Return the CPU time that all cores of the machine have spent on work since it started, steal included."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as stream:
            fields = [int(value) for value in stream.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
