"""Rules on a run's health, on machines made of files."""

import subprocess
import sys
import threading

import pytest

from edgeline_bench import health
from edgeline_bench.health import MachineState, ThreadTime


def machine(root, hertz=(), throttles=(), cpuinfo_mhz=()):
    for cpu, value in enumerate(hertz):
        file = root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"
        file.parent.mkdir(parents=True)
        file.write_text(f"{value // 1000}\n" if value else "<unknown>\n")
    for cpu, (core, package) in enumerate(throttles):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{core}\n")
        (folder / "package_throttle_count").write_text(f"{package}\n")
        (folder / "core_throttle_total_time_ms").write_text("12345\n")
    (root / "proc").mkdir()
    lines = [f"processor\t: {n}\ncpu MHz\t\t: {mhz}\n" for n, mhz in enumerate(cpuinfo_mhz)]
    (root / "proc/cpuinfo").write_text("\n".join(lines))
    return root


def test_the_fastest_core_counts(tmp_path):
    root = machine(tmp_path, hertz=(800_000_000, 3_500_000_000, 0), throttles=((1, 4), (2, 4)), cpuinfo_mhz=(9_999.0,))
    assert health.machine_state(root) == MachineState(3.5e9, 11)


def test_without_cpufreq_cpuinfo_is_read(tmp_path):
    assert health.machine_state(machine(tmp_path, cpuinfo_mhz=(2596.144, 2100.0))) == MachineState(2596.144e6, None)


def test_what_a_machine_does_not_tell_is_none(tmp_path):
    assert health.machine_state(tmp_path) == MachineState(None, None)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((3.0e9, 5), (2.8e9, 5), []),
        ((3.0e9, 5), (3.0e9, 6), ["the processor throttled 1 time because of heat"]),
        ((3.0e9, 5), (2.6e9, 8), ["throttled 3 times", "frequency fell from 3.00 to 2.60 GHz"]),
        ((2.6e9, 0), (3.0e9, 0), []),
        ((None, None), (1.0e9, 3), []),
    ],
)
def test_throttling(before, after, words):
    reasons = health.throttling_reasons(MachineState(*before), MachineState(*after))
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


def test_too_few_queries():
    assert health.query_reason("lenet", [1.0] * 662, 99) is None
    assert health.query_reason("lenet", [1.0] * 210, 99) == (
        "lenet: p99 needs 662 queries, there were 210: more --seconds"
    )


def test_drift_and_spread():
    steady = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99]
    assert health.drift_reason("row", steady) is None
    assert health.spread_reason("row", steady) is None
    assert health.drift_reason("row", [1, 1, 1, 1.1, 1.1, 1.1, 1.2, 1.2, 1.2]).startswith("row drifted by +20% between")
    # The median of |x - 10| is 2: 1.4826 x 2 / 10
    assert health.spread_reason("row", [6, 8, 10, 12, 14]).startswith("row spreads by 30% from round to round")


def test_load_average():
    assert health.load_average_reason(1.4, own_processes=1) is None
    assert health.load_average_reason(1.6, own_processes=1).startswith("the load average was 1.60 with 1 of our")


def test_oversubscription():
    assert health.oversubscription_reason("eager", 2, 2) is None
    assert health.oversubscription_reason("eager", 1, 3) == (
        "eager worked with 3 threads, 1 was asked for: --threads 3"
    )


def times(of_threads):
    return {thread: ThreadTime(*pair) for thread, pair in of_threads.items()}


def test_busy_threads_are_those_that_used_time():
    before = times({1: (10.0, 1.0), 2: (5.0, 0.0), 3: (0.0, 0.0)})
    # Over 1 s: thread 2 did next to nothing, 4 is new
    after = times({1: (10.9, 1.0), 2: (5.04, 0.0), 3: (0.0, 0.0), 4: (0.7, 0.0)})
    assert health.busy_threads(before, after, 1.0) == 2
    assert health.busy_threads(before, after, 0.0) == 0


@pytest.mark.parametrize(
    ("shares", "busy"),
    [
        (((0.30, 0.04), (0.75, 0.06), (0.75, 0.05)), 2),  # a caller that hands out the work, then sleeps
        (((0.78, 0.22), (0.54, 0.45), (0.60, 0.33)), 3),  # three that compute on two cores
        (((0.5, 0.5), (0.5, 0.5)), 2),  # two on one core
        (((0.4, 0.0), (0.4, 0.0), (0.05, 0.0)), 1),  # taking turns
        (((0.0, 0.0), (0.02, 0.0)), 0),
    ],
)
def test_no_more_threads_are_busy_than_run_or_wait_at_once(shares, busy):
    assert health.busy_threads({}, times(dict(enumerate(shares))), 1.0) == busy


def test_threads_of_this_process_are_seen():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    before = health.thread_times()
    thread.start()
    try:
        assert health.thread_times().keys() - before.keys() == {thread.native_id}
    finally:
        stop.set()
        thread.join()
    assert health.thread_times(2**30) == {}


def test_threads_that_share_a_core_are_counted_though_each_runs_half_the_time():
    # In a process of its own: nothing else of pytest's runs there, and both are held to one core.
    source = (
        "import hashlib, os, threading, time\n"
        "from edgeline_bench import health\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "block, stop = bytes(1 << 22), time.monotonic() + 1.5\n"
        "def work():\n"
        "    while time.monotonic() < stop:\n"
        "        hashlib.sha256(block)\n"  # lets the interpreter's lock go
        "threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "before, start = health.thread_times(), time.monotonic()\n"
        "for thread in threads: thread.start()\n"
        "time.sleep(1.2)\n"
        "print(health.busy_threads(before, health.thread_times(), time.monotonic() - start))\n"
        "for thread in threads: thread.join()\n"
    )
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert result.stdout == "2\n"
