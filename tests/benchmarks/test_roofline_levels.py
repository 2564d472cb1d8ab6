"""Levels from made-up sweeps: what the machine behind a sweep is, is known here."""

import math
import random

import pytest

from edgeline_bench.roofline.levels import cache_capacities, levels_from_sweep

KIB, MIB = 1 << 10, 1 << 20
DESKTOP = {"L1": (48 * KIB, 500e9), "L2": (MIB, 240e9), "L3": (32 * MIB, 110e9), "DRAM": (math.inf, 40e9)}
SMALL_BOARD = {"L1": (32 * KIB, 30e9), "L2": (512 * KIB, 12e9), "DRAM": (math.inf, 4e9)}


def sizes(largest=256 * MIB):
    """Three working sets an octave, from 4 KiB."""
    count = round(3 * math.log2(largest / (4 * KIB)))
    return [round(4 * KIB * 2 ** (step / 3) / 512) * 512 for step in range(count + 1)]


def clean(machine, largest=256 * MIB):
    """A sweep that falls at once where a cache ends."""
    return [(size, next(rate for ends, rate in machine.values() if size <= ends)) for size in sizes(largest)]


def blurred(machine, sharpness):
    """Of a working set beyond a cache a share stays in it, as where lines are replaced at random."""
    sweep = []
    for size in sizes():
        seconds, inside = 0.0, 0.0
        for ends, rate in machine.values():
            share = min(1.0, (ends / size) ** sharpness) if ends < math.inf else 1.0
            seconds += max(0.0, share - inside) / rate
            inside = max(inside, share)
        sweep.append((size, 1 / seconds))
    return sweep


def hints(machine):
    return {name: ends for name, (ends, _) in machine.items() if ends < math.inf}


def rates(levels):
    return {level.name: level.bytes_per_s for level in levels}


def capacities(levels):
    return {level.name: level.capacity_bytes for level in levels}


@pytest.mark.parametrize("machine", [DESKTOP, SMALL_BOARD], ids=["three caches", "no L3"])
@pytest.mark.parametrize("told", [True, False], ids=["sysfs", "no sysfs"])
def test_clean_steps(machine, told):
    levels = levels_from_sweep(clean(machine), hints(machine) if told else {})
    assert rates(levels) == {name: rate for name, (_, rate) in machine.items()}
    for level in levels[:-1]:
        ends = machine[level.name][0]
        # Without sysfs a cache is known as well as the sweep's steps are narrow.
        assert level.capacity_bytes == ends if told else ends / 2 ** (1 / 3) <= level.capacity_bytes <= ends
    assert levels[-1].capacity_bytes is None


@pytest.mark.parametrize("machine", [DESKTOP, SMALL_BOARD], ids=["three caches", "no L3"])
@pytest.mark.parametrize("told", [True, False], ids=["sysfs", "no sysfs"])
@pytest.mark.parametrize(("sharpness", "within"), [(4, 0.01), (2, 0.10), (1, 0.25)])
def test_blurred_steps(machine, told, sharpness, within):
    levels = levels_from_sweep(blurred(machine, sharpness), hints(machine) if told else {})
    assert rates(levels) == {name: pytest.approx(rate, rel=within) for name, (_, rate) in machine.items()}
    for level in levels[:-1]:
        assert machine[level.name][0] / 2 <= level.capacity_bytes <= 3 * machine[level.name][0]


def test_two_levels_without_a_step_between_them_share_a_rate():
    machine = {**DESKTOP, "L3": (32 * MIB, 240e9)}
    levels = levels_from_sweep(clean(machine), hints(machine))
    assert rates(levels) == {"L1": 500e9, "L2": 240e9, "L3": 240e9, "DRAM": 40e9}
    assert capacities(levels) == {"L1": 48 * KIB, "L2": MIB, "L3": 32 * MIB, "DRAM": None}
    # Without sysfs nothing tells the two apart: they are one cache.
    assert rates(levels_from_sweep(clean(machine), {})) == {"L1": 500e9, "L2": 240e9, "DRAM": 40e9}


@pytest.mark.parametrize("real", [4 * MIB, 8 * MIB])
def test_a_cache_that_is_smaller_than_the_machine_says(real):
    """A virtual machine that reports all of the host's last cache, and may use a part."""
    machine = {**DESKTOP, "L3": (real, 110e9)}
    levels = levels_from_sweep(clean(machine), hints(DESKTOP))
    assert rates(levels) == {name: rate for name, (_, rate) in machine.items()}
    assert real / 2 ** (1 / 3) <= capacities(levels)["L3"] <= real


def test_a_cache_that_the_machine_does_not_report():
    told = {name: ends for name, ends in hints(DESKTOP).items() if name != "L3"}
    levels = levels_from_sweep(clean(DESKTOP), told)
    assert rates(levels) == {name: rate for name, (_, rate) in DESKTOP.items()}
    assert 16 * MIB <= capacities(levels)["L3"] <= 32 * MIB


def test_a_machine_without_caches_is_all_dram():
    assert rates(levels_from_sweep([(size, 1e9) for size in sizes()], {})) == {"DRAM": 1e9}


def test_disturbed_points_lower_no_level():
    chance = random.Random(0)
    sweep = [(size, rate * (chance.uniform(0.3, 0.9) if index % 4 == 1 else 1.0))
             for index, (size, rate) in enumerate(clean(DESKTOP))]  # fmt: skip
    levels = levels_from_sweep(sweep, hints(DESKTOP))
    assert rates(levels) == {name: rate for name, (_, rate) in DESKTOP.items()}
    seen = dict(sweep)
    assert all(seen[level.seen_at_bytes] == level.bytes_per_s for level in levels)


def test_levels_never_get_faster_outwards():
    rising = [(size, 1e9 * (1 + index)) for index, (size, _) in enumerate(clean(DESKTOP))]
    found = [level.bytes_per_s for level in levels_from_sweep(rising, hints(DESKTOP))]
    assert found == sorted(found, reverse=True)


def cache(root, core, index, level, kind, size, shared):
    folder = root / f"cpu{core}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
        (folder / name).write_text(f"{text}\n")


def test_private_caches_add_up_and_shared_ones_count_once(tmp_path):
    for core in range(4):
        cache(tmp_path, core, 0, 1, "Data", "48K", core)
        cache(tmp_path, core, 1, 1, "Instruction", "32K", core)
        cache(tmp_path, core, 2, 2, "Unified", "1024K", "0-1" if core < 2 else "2-3")
        cache(tmp_path, core, 3, 3, "Unified", "32M", "0-3")
    assert cache_capacities([0], tmp_path) == {"L1": 48 * KIB, "L2": MIB, "L3": 32 * MIB}
    assert cache_capacities([0, 1], tmp_path) == {"L1": 96 * KIB, "L2": MIB, "L3": 32 * MIB}
    assert cache_capacities([0, 2, 3], tmp_path) == {"L1": 144 * KIB, "L2": 2 * MIB, "L3": 32 * MIB}


def test_caches_that_sysfs_does_not_describe_are_left_out(tmp_path):
    assert cache_capacities([0], tmp_path) == {}
    cache(tmp_path, 0, 0, 1, "Data", "", "0")
    cache(tmp_path, 0, 1, 2, "Unified", "512K", "0")
    assert cache_capacities([0], tmp_path) == {"L2": 512 * KIB}
