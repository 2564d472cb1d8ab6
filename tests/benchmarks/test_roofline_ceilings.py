"""Ceilings: look-ups, records, what a second measurement says, and measuring itself with a probe of the test's own."""

import json
import os
from types import SimpleNamespace

import pytest

from edgeline.errors import InputError, ResourceError
from edgeline_bench.roofline import gpu_probe, measure
from edgeline_bench.roofline.ceilings import Ceilings, stability_reasons
from edgeline_bench.roofline.levels import Level
from edgeline_bench.roofline.probe import Measurement, Probe

KIB, MIB = 1 << 10, 1 << 20


def ceilings(**changes):
    record = {
        "method": "c-probe",
        "compiler": "cc 12",
        "instruction_set": "avx512",
        "threads": 1,
        "cores": (3,),
        "flops": {"fp32": {1: 100e9, 4: 400e9}, "bf16": {1: 200e9, 4: 800e9}},
        "levels": {
            1: (Level("L1", 500e9, 48 * KIB, 24 * KIB), Level("L2", 240e9, MIB, 512 * KIB),
                Level("DRAM", 20e9, None, 256 * MIB)),
            4: (Level("L1", 2000e9, 192 * KIB, 96 * KIB), Level("L2", 960e9, 4 * MIB, 2 * MIB),
                Level("DRAM", 60e9, None, 256 * MIB)),
        },
        "sweeps": {1: ((4096, 500e9), (8192, 499e9)), 4: ((16384, 2000e9),)},
        "notes": ("a note",),
    }  # fmt: skip
    return Ceilings(**{**record, **changes})


def test_peaks_are_those_of_the_threads():
    found = ceilings()
    assert (found.peak("fp32", 1), found.peak("fp32", 4), found.peak("bf16", 4)) == (100e9, 400e9, 800e9)
    # A run with 2 threads cannot exceed what 4 do; a run with 8, on 4 cores, does what 4 do.
    assert (found.peak("fp32", 2), found.peak("fp32", 8)) == (400e9, 400e9)


def test_a_precision_without_a_peak_of_its_own_says_why():
    found = ceilings()
    assert found.stand_in("bf16") == ("bf16", None)
    for precision in ("fp16", "tf32"):
        assert found.stand_in(precision) == ("fp32", f"{precision} is computed in fp32 on a CPU")
        assert found.peak(precision, 1) == 100e9
    assert found.stand_in("int8") == ("fp32", "no int8 peak was measured (avx512): its roof is fp32's")


def test_levels():
    found = ceilings()
    assert [found.smallest_level(size, 1) for size in (1, 48 * KIB, 48 * KIB + 1, MIB, MIB + 1)] == [
        "L1", "L1", "L2", "L2", "DRAM"]  # fmt: skip
    assert found.smallest_level(3 * MIB, 4) == "L2"
    assert (found.bandwidth("L2", 1), found.bandwidth("DRAM", 4)) == (240e9, 60e9)
    with pytest.raises(InputError, match="no memory level L3 was measured here; there are L1, L2, DRAM"):
        found.bandwidth("L3", 1)


def test_a_record_comes_back_from_json():
    found = ceilings().after({"fp32": 90e9, "L2": 250e9})
    record = json.loads(json.dumps(found.to_record()))
    assert Ceilings.from_record(record) == found
    assert record["method"] == "c-probe"
    assert record["ceilings"]["flops"]["fp32"] == {"threads_1": 100e9, "threads_4": 400e9}
    assert record["ceilings"]["bandwidth"] == {"L1": 500e9, "L2": 250e9, "DRAM": 20e9}
    assert record["ceilings"]["bandwidth_threads"]["threads_4"] == {"L1": 2000e9, "L2": 960e9, "DRAM": 60e9}
    assert record["levels_bytes"] == {"L1": 49152, "L2": 1048576}
    assert record["sweep"]["threads_1"] == [[4096, 500e9], [8192, 499e9]]
    assert record["stability"] == {"fp32": [100e9, 90e9], "L2": [240e9, 250e9]}


@pytest.mark.parametrize("damage", ["gone", 5])
@pytest.mark.parametrize("key", ["ceilings", "levels_bytes_threads", "levels_seen_at_bytes", "sweep", "stability"])
def test_a_damaged_record_is_refused(key, damage):
    record = {**ceilings().to_record(), key: damage}
    if damage == "gone":
        del record[key]
    with pytest.raises(InputError, match="the report's roofline is damaged"):
        Ceilings.from_record(record)


def test_the_ceiling_is_the_higher_of_before_and_after():
    found = ceilings().after({"fp32": 110e9, "bf16": 150e9, "L1": 490e9, "L2": 250e9, "DRAM": 20e9})
    assert found.figures() == {"fp32": 110e9, "bf16": 200e9, "L1": 500e9, "L2": 250e9, "DRAM": 20e9}
    assert found.stability["bf16"] == (200e9, 150e9)
    assert found.peak("fp32", 4) == 400e9


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ({"fp32": 1.2e11}, {"fp32": 1.0e11}, ["fp32 peak changed by 17% (1.2e+11 -> 1e+11 FLOP/s)"]),
        ({"int8": 1.0e12}, {"int8": 1.2e12}, ["int8 peak changed by 20% (1e+12 -> 1.2e+12 op/s)"]),
        ({"DRAM": 40e9}, {"DRAM": 35e9}, ["DRAM bandwidth changed by 12% (4e+10 -> 3.5e+10 B/s)"]),
        ({"L1": 500e9, "L2": 100e9}, {"L1": 451e9, "L2": 109e9}, []),
        ({"L1": 500e9}, {}, []),
    ],
)
def test_more_than_ten_per_cent_apart_is_a_reason(before, after, reasons):
    assert [reason.partition(" during the run")[0] for reason in stability_reasons(before, after)] == reasons


class FakeProbe:
    """Stands in for run_probe: a machine of 1e9 B/s in every cache, whose fp32 rate the test sets for each run."""

    def __init__(self, peaks):
        self.peaks, self.runs = iter(peaks), []

    def __call__(self, probe, cores, sizes, rounds, with_flops=True):
        self.runs.append((probe.method, tuple(cores), len(sizes)))
        peak = next(self.peaks)
        if isinstance(peak, Exception):
            raise peak
        reads = tuple((size * len(cores), 1e9 * len(cores)) for size in sizes)
        return Measurement(len(cores), "fake", {"fp32": peak * len(cores)}, reads)


@pytest.fixture
def probe(monkeypatch):
    """Run with a machine of cores 0 to 3, without a compiler."""

    def use(*peaks):
        fake = FakeProbe(peaks)
        monkeypatch.setattr(measure, "run_probe", fake)
        monkeypatch.setattr(measure, "find_probe", lambda: Probe("c-probe", "cc 12", ("probe",)))
        monkeypatch.setattr(measure, "cache_capacities", lambda _cores: {})
        monkeypatch.setattr(measure, "fingerprint", lambda: {"isa": ["avx2"]})
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
        return fake

    return use


def test_one_thread_the_run_s_and_all_are_measured_then_the_run_s_again(probe):
    fake = probe(10e9, 11e9, 9e9, 12e9)
    found = measure.measure_ceilings(2, (1, 2))
    assert [(cores, count > 10) for _, cores, count in fake.runs] == [
        ((1,), True), ((1, 2), True), ((1, 2, 3, 0), True), ((1, 2), False)]  # fmt: skip
    assert (found.threads, found.cores, found.stability) == (2, (1, 2), {})
    # The second measurement with the run's threads found more: 12e9 from each of the two.
    assert found.flops == {"fp32": {1: 10e9, 2: 24e9, 4: 36e9}}


def test_unpinned_runs_get_the_cores_that_the_benchmark_would_pin(probe):
    fake = probe(*[1e9] * 3)
    assert measure.measure_ceilings(1, ()).cores == (3,)
    assert {cores for _, cores, _ in fake.runs} == {(3,), (3, 2, 1, 0)}


def test_more_threads_than_cores_are_measured_on_the_cores_there_are(probe):
    probe(*[1e9] * 3)
    assert measure.measure_ceilings(9, ()).threads == 4


def test_a_probe_that_fails_is_followed_by_numpy_and_a_note(probe, capsys):
    fake = probe(ResourceError("the probe failed: illegal instruction"), *[1e9] * 3)
    found = measure.measure_ceilings(1, (0,))
    assert (found.method, [method for method, _, _ in fake.runs]) == ("numpy", ["c-probe", "numpy", "numpy", "numpy"])
    assert "illegal instruction" in found.notes[0]
    assert found.notes[0] in capsys.readouterr().err


def test_instructions_that_the_probe_leaves_out_are_noted(probe, monkeypatch, capsys):
    probe(*[1e9] * 3)
    monkeypatch.setattr(measure, "fingerprint", lambda: {"isa": ["avx512f", "amx_tile", "amx_int8"]})
    words = "amx_int8 is not measured: a layer in int8 that uses it may lie above its roof"
    assert measure.measure_ceilings(1, (0,)).notes == (words,)
    assert words in capsys.readouterr().err


def test_memory_too_small_to_leave_the_caches_is_noted(probe, monkeypatch):
    probe(*[1e9] * 3)
    monkeypatch.setattr(measure, "cache_capacities", lambda _cores: {"L3": 32 * MIB})
    monkeypatch.setattr(measure, "_free_memory_bytes", lambda: 100 * MIB)
    assert "beyond the 32 MiB cache" in measure.measure_ceilings(1, (0,)).notes[0]


def test_a_second_measurement_that_agrees_is_made_once(probe):
    fake = probe(95e9)
    first = ceilings(flops={"fp32": {1: 100e9}}, levels={1: (Level("DRAM", 1e9, None, 256 * MIB),)}, cores=(2,))
    assert measure.remeasure(first) == {"fp32": 95e9, "DRAM": 1e9}
    assert fake.runs == [("c-probe", (2,), 1)]


def test_one_that_does_not_is_tried_again_and_the_best_counts(probe):
    first = ceilings(flops={"fp32": {1: 100e9}}, levels={1: (Level("DRAM", 1e9, None, 256 * MIB),)})
    fake = probe(50e9, 99e9)
    assert measure.remeasure(first)["fp32"] == 99e9
    assert len(fake.runs) == 2
    fake = probe(50e9, 60e9, 55e9)
    assert measure.remeasure(first)["fp32"] == 60e9
    assert len(fake.runs) == 3


def test_ceilings_of_numpy_are_measured_again_by_numpy(probe):
    fake = probe(100e9)
    first = ceilings(method="numpy", flops={"fp32": {1: 100e9}}, levels={1: (Level("DRAM", 1e9, None, 256 * MIB),)})
    measure.remeasure(first)
    assert fake.runs[0][0] == "numpy"


def test_a_probe_that_went_away_is_an_error(probe, monkeypatch):
    probe()
    monkeypatch.setattr(measure, "find_probe", lambda: Probe("numpy", None, ("python",), "no compiler"))
    with pytest.raises(ResourceError, match="measured by c-probe, and now only numpy runs here"):
        measure.remeasure(ceilings())


def test_working_sets_go_beyond_every_cache_in_steps_of_a_third_octave(probe):
    probe()
    sizes = measure._sizes((0,))
    assert (sizes[0], sizes[3]) == (4 * KIB, 8 * KIB)
    assert sizes[-2] < 256 * MIB <= sizes[-1]
    assert all(size % 512 == 0 for size in sizes)
    assert measure._sizes((0, 1, 2, 3))[-1] <= 1.3 * 64 * MIB


class FakeTorch(SimpleNamespace):
    """torch.cuda with a clock of its own: a GPU of 100 TFLOP/s in fp32, 8 times that with TF32, and 2 TB/s."""

    def __init__(self, capability=(9, 0), refuses=()):
        super().__init__(float32="float32", float16="float16", bfloat16="bfloat16", int8="int8")
        self.now_ms, self.refuses = 0.0, refuses
        self.matmul_settings = SimpleNamespace(allow_tf32=False)
        self.backends = SimpleNamespace(cuda=SimpleNamespace(matmul=self.matmul_settings))
        self.cuda = SimpleNamespace(Event=self.event, get_device_capability=lambda: capability)

    def ones(self, shape, dtype, device):
        assert device == "cuda"
        return SimpleNamespace(dtype=dtype, shape=shape, t=lambda: SimpleNamespace(dtype=dtype, shape=shape))

    def empty_like(self, like):
        return SimpleNamespace(copy_=lambda source: self._spend(2 * 4 * source.shape / 2e12))

    def matmul(self, left, right):
        (rows, inner), (_, columns) = left.shape, right.shape
        if left.dtype in self.refuses:
            raise RuntimeError(f"no kernel for {left.dtype}\nand more lines")
        rate = {"float32": 100e12, "float16": 400e12, "bfloat16": 400e12, "int8": 1000e12}[left.dtype]
        self._spend(2 * rows * inner * columns / (rate * (8 if self.matmul_settings.allow_tf32 else 1)))

    _int_mm = matmul

    def event(self, enable_timing):
        assert enable_timing
        made = SimpleNamespace(synchronize=lambda: None)
        made.record = lambda: setattr(made, "at", self.now_ms)
        made.elapsed_time = lambda end: end.at - made.at
        return made

    def _spend(self, seconds):
        self.now_ms += seconds * 1e3


def test_a_gpu_s_peaks_and_copies():
    torch = FakeTorch()
    found = gpu_probe.measure_cuda_ceilings(torch)
    rates = {"fp32": 100e12, "tf32": 800e12, "fp16": 400e12, "bf16": 400e12, "int8": 1000e12, "DRAM": 2e12}
    assert found.figures() == {name: pytest.approx(rate) for name, rate in rates.items()}
    assert (found.method, found.instruction_set, found.on_gpu) == ("cuda-probe", "compute capability 9.0", True)
    assert torch.matmul_settings.allow_tf32 is False
    assert found.smallest_level(1, 1) == "DRAM"
    assert Ceilings.from_record(json.loads(json.dumps(found.to_record()))) == found


def test_what_a_gpu_does_not_take_is_noted():
    found = gpu_probe.measure_cuda_ceilings(FakeTorch(capability=(7, 5), refuses=("int8",)))
    assert set(found.flops) == {"fp32", "fp16", "bf16"}
    assert found.notes == ("int8 products do not run on this GPU: no kernel for int8",)
    assert found.stand_in("int8")[0] == "fp32"
