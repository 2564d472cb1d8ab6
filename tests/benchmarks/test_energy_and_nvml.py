# ruff: noqa: N802 - the names are NVML's
import ctypes

import pytest

from edgeline_bench import energy, nvml


class Nvml:
    """The part of libnvidia-ml that is called: status codes, results through pointers."""

    def __init__(self, processes=(), millijoules=0, status=0):
        self.processes, self.millijoules, self.status = processes, millijoules, status

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        assert index == 0
        handle._obj.value = 7
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device, count, infos):
        assert device.value == 7
        assert count._obj.value >= len(self.processes)
        count._obj.value = len(self.processes)
        for info, (pid, used) in zip(infos, self.processes, strict=False):
            info.pid, info.usedGpuMemory = pid, used
        return self.status

    def nvmlDeviceGetTotalEnergyConsumption(self, device, millijoules):
        millijoules._obj.value = self.millijoules
        return self.status


@pytest.fixture
def library(monkeypatch):
    def install(found):
        nvml._library.cache_clear()
        monkeypatch.setattr(ctypes, "CDLL", lambda name: found)
        return found

    yield install
    nvml._library.cache_clear()


def test_memory_and_energy_of_a_gpu(library):
    fake = library(Nvml([(1, 10), (42, 3 << 30)], 2_500))
    assert nvml.process_memory_bytes(42) == 3 << 30
    assert nvml.process_memory_bytes(43) is None
    assert nvml.energy_j() == 2.5
    meter = energy.meter_for("cuda")
    before = meter.read_j()
    fake.millijoules = 4_000
    assert meter.used_j(before, meter.read_j()) == 1.5
    assert meter.source == "nvml"


def test_jetson_does_not_tell(library):
    library(Nvml([(42, 1)], 1, status=3))  # NVML_ERROR_NOT_SUPPORTED
    assert (nvml.process_memory_bytes(42), nvml.energy_j(), energy.meter_for("cuda")) == (None, None, None)


def test_a_memory_that_is_not_available_is_none(library):
    library(Nvml([(42, 2**64 - 1)]))
    assert nvml.process_memory_bytes(42) is None


def test_without_a_driver(monkeypatch):
    nvml._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("no such library")))
    assert (nvml.process_memory_bytes(1), nvml.energy_j()) == (None, None)
    nvml._library.cache_clear()


def zone(folder, name, microjoules, most=1_000_000):
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_rapl_counts_packages_and_not_their_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    zone(tmp_path / "intel-rapl:0", "package-0", 900_000)
    zone(tmp_path / "intel-rapl:0:0", "core", 500_000)
    meter = energy.meter_for("cpu")
    before = meter.read_j()
    assert (meter.source, before) == ("rapl", pytest.approx(0.9))
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("950000")
    assert meter.used_j(before, meter.read_j()) == pytest.approx(0.05)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100000")  # the counter started again at 1 J
    assert meter.used_j(before, meter.read_j()) == pytest.approx(0.2)


def test_two_packages_are_added_and_a_wrap_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    zone(tmp_path / "intel-rapl:0", "package-0", 300_000)
    zone(tmp_path / "intel-rapl:1", "package-1", 200_000)
    meter = energy.meter_for("cpu")
    assert meter.read_j() == 0.5
    assert meter.used_j(0.5, 0.4) is None


def test_counters_that_only_root_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    assert energy.meter_for("cpu") is None
    zone(tmp_path / "intel-rapl:0", "package-0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()  # reading fails, for root too
    assert energy.meter_for("cpu") is None
