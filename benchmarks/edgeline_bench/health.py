"""What may have spoilt a run, beyond edgeline_bench.validity: each rule is a function that returns words, or None.

Readers of /proc and /sys come first; what a machine does not tell is None, and no rule speaks of it. The rules take
plain numbers and touch nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeline_bench import figures
from edgeline_bench.percentiles import Withheld, percentile

MAX_DRIFT = 0.10
MAX_SPREAD = 0.10
MAX_FREQUENCY_DROP = 0.10
MAX_FOREIGN_LOAD_AVERAGE = 0.5  # runnable processes besides our own
_BUSY_SHARE = 0.25  # of the time: a thread that computes with others on the cores they are pinned to has more of it


@dataclass(frozen=True, slots=True)
class MachineState:
    """The processor now: its fastest core's frequency, and how often it has throttled since the machine started."""

    frequency_hz: float | None
    throttle_count: int | None


def machine_state(root: Path = Path("/")) -> MachineState:
    """Read the state. Call it with the machine at work, just after a turn: an idle core lowers its frequency."""
    folder = root / "sys/devices/system/cpu"
    current = [_number(path) for path in folder.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    hertz = [kilohertz * 1e3 for kilohertz in current if kilohertz is not None] or _cpuinfo_hz(root / "proc/cpuinfo")
    # A package's counter shows at each of its cores; the sum only has to grow when any of them does.
    counts = [_number(path) for path in folder.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    known = [int(count) for count in counts if count is not None]
    return MachineState(max(hertz, default=None), sum(known) if known else None)


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """What a thread has had of the processor, in seconds; `waited_s` was ready to run while others had the cores."""

    ran_s: float
    waited_s: float


def thread_times(pid: int | str = "self") -> dict[int, ThreadTime]:
    """Return the times of each thread of a process, by thread number; empty where the kernel does not tell them."""
    times = {}
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            ran_ns, waited_ns, _ = schedstat.read_text(encoding="ascii").split()
        except OSError:
            continue  # it has ended
        times[int(schedstat.parent.name)] = ThreadTime(int(ran_ns) / 1e9, int(waited_ns) / 1e9)
    return times


def busy_threads(before: Mapping[int, ThreadTime], after: Mapping[int, ThreadTime], elapsed_s: float) -> int:
    """Return how many threads worked at once between two readings of thread_times, `elapsed_s` of running apart.

    Those that ran for a good part of the time; but no more than were running or ready to run on average. A caller
    that hands its workers their work and then sleeps, as IREE's does, is not one more; a third thread that found both
    cores taken is.
    """
    if elapsed_s <= 0:
        return 0
    nothing = ThreadTime(0.0, 0.0)
    ran, ready = [], 0.0
    for thread, now in after.items():
        then = before.get(thread, nothing)
        ran.append((now.ran_s - then.ran_s) / elapsed_s)
        ready += ran[-1] + (now.waited_s - then.waited_s) / elapsed_s
    return min(sum(share > _BUSY_SHARE for share in ran), round(ready))


def query_reason(title: str, samples_s: Sequence[float], percent: float) -> str | None:
    """Too few queries for the percentile that the scenario is judged by."""
    found = percentile(samples_s, percent)
    return f"{title}: {found}: more --seconds" if isinstance(found, Withheld) else None


def drift_reason(title: str, rounds: Sequence[float]) -> str | None:
    """A row whose last third differs from its first; `rounds` are medians divided by the reference kernel's."""
    drift = figures.drift(rounds)
    if abs(drift) <= MAX_DRIFT:
        return None
    return f"{title} drifted by {drift:+.0%} between its first and last third, against the reference kernel: run again"


def spread_reason(title: str, rounds: Sequence[float]) -> str | None:
    """A row that spreads from round to round; `rounds` as for drift_reason."""
    spread = figures.relative_spread(rounds)
    if spread <= MAX_SPREAD:
        return None
    return f"{title} spreads by {spread:.0%} from round to round, against the reference kernel: stop other work"


def throttling_reasons(before: MachineState, after: MachineState) -> list[str]:
    """The processor got hot, or slower, between two readings."""
    reasons = []
    if before.throttle_count is not None and after.throttle_count is not None:
        times = after.throttle_count - before.throttle_count
        if times > 0:
            reasons.append(
                f"the processor throttled {times} time{'s' * (times != 1)} because of heat: cool it, or wait"
            )
    if before.frequency_hz and after.frequency_hz:
        drop = 1 - after.frequency_hz / before.frequency_hz
        if drop > MAX_FREQUENCY_DROP:
            was, now = before.frequency_hz / 1e9, after.frequency_hz / 1e9
            reasons.append(f"the processor's frequency fell from {was:.2f} to {now:.2f} GHz: fix the governor, or wait")
    return reasons


def load_average_reason(load_average: float, own_processes: int) -> str | None:
    """Others were at work; for machines that do not tell the CPU time of others (edgeline_bench.rounds.Run)."""
    foreign = load_average - own_processes
    if foreign <= MAX_FOREIGN_LOAD_AVERAGE:
        return None
    return f"the load average was {load_average:.2f} with {own_processes} of our processes at work: stop other work"


def oversubscription_reason(title: str, asked: int, busy: int) -> str | None:
    """An engine that worked with more threads than it was told to."""
    if busy <= asked:
        return None
    return f"{title} worked with {busy} threads, {asked} {'was' if asked == 1 else 'were'} asked for: --threads {busy}"


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # sysfs answers some of its files with an error, or with <unsupported>
        return None


def _cpuinfo_hz(path: Path) -> list[float]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [float(line.partition(":")[2]) * 1e6 for line in lines if line.startswith("cpu MHz")]
