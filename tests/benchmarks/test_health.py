"""Rules on a run's health, on machines made of files."""

import threading

import pytest

from edgeline_bench import health
from edgeline_bench.health import MachineState


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


def test_busy_threads_are_those_that_used_time():
    before = {1: 10.0, 2: 5.0, 3: 0.0}
    after = {1: 10.9, 2: 5.04, 3: 0.0, 4: 0.5}  # over 1 s: thread 2 did next to nothing, 4 is new
    assert health.busy_threads(before, after, 1.0) == 2


@pytest.mark.parametrize(
    ("shares", "busy"),
    [
        ((0.3, 0.45, 0.45), 2),  # a caller that hands out the work and waits for it
        ((0.67, 0.67, 0.67), 3),  # three that compute on two cores
        ((0.5, 0.5), 2),  # two on one core
        ((0.4, 0.4, 0.05), 1),  # taking turns
        ((0.0, 0.02), 0),
    ],
)
def test_no_more_threads_are_busy_than_cores_and_one_that_waited(shares, busy):
    assert health.busy_threads({}, dict(enumerate(shares)), 1.0) == busy


def test_threads_of_this_process_are_seen():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    before = health.thread_seconds()
    thread.start()
    try:
        assert health.thread_seconds().keys() - before.keys() == {thread.native_id}
    finally:
        stop.set()
        thread.join()
    assert health.thread_seconds(2**30) == {}
