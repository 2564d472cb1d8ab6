"""The probe counts what it does, is compiled once, and is replaced aloud where no compiler makes it."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeline.errors import ResourceError
from edgeline_bench.roofline import probe as probes

SIZES = [512, 4096, 65536]
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=fast", "-pthread", "-Wall", "-Wextra", "-Werror"]
# -march, what /proc/cpuinfo must list for it, and the widest vector's lanes of 32 bits.
X86 = [
    ("x86-64", "sse2", 4, {"fp32": 1}),
    ("ivybridge", "avx", 8, {"fp32": 1}),
    ("haswell", "avx2", 8, {"fp32": 1, "int8": 4}),
    ("alderlake", "avx_vnni", 8, {"fp32": 1, "int8": 4}),
    ("skylake-avx512", "avx512bw", 16, {"fp32": 1, "int8": 4}),
    ("cascadelake", "avx512_vnni", 16, {"fp32": 1, "int8": 4}),
    ("sapphirerapids", "avx512_bf16", 16, {"fp32": 1, "bf16": 2, "int8": 4}),
]
ARM = [
    ("armv8-a", {"fp32": 1}),
    ("armv8.2-a+dotprod", {"fp32": 1, "int8": 4}),
    ("armv8.6-a", {"fp32": 1, "bf16": 4, "int8": 8}),
]
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt-get install gcc libc6-dev")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)


def cores(count):
    usable = sorted(os.sched_getaffinity(0))
    return (usable * count)[:count]


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def counting_compiler(folder):
    """A compiler that writes a line for each file that it compiles."""
    log, real = folder / "compiled", shutil.which("cc")
    script(folder / "cc", f'case "$1" in --version) ;; *) echo x >> {log} ;; esac\nexec {real} "$@"')
    return folder / "cc", log


def run_record(command, arguments):
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def check_counts(record, threads, lanes, macs_per_lane):
    """Recount the work from outside: ones summed up in the accumulators, and the indices of all words read."""
    assert {kernel["precision"]: kernel["macs_per_lane"] for kernel in record["flops"]} == macs_per_lane
    for kernel in record["flops"]:
        assert kernel["lanes"] == lanes
        by_hand = threads * kernel["accumulators"] * lanes * macs_per_lane[kernel["precision"]] * kernel["iterations"]
        assert kernel["checksum"] == by_hand > 0
    for read in record["reads"]:
        one_pass = int(np.arange(read["bytes"] // 4, dtype=np.uint64).sum())
        assert read["checksum"] == threads * (one_pass * read["passes"] % 2**32)
        assert read["passes"] > 0


@needs_compiler
@pytest.mark.parametrize(("march", "needs", "lanes", "macs_per_lane"), X86, ids=[row[0] for row in X86])
def test_every_x86_kernel_does_the_work_it_counts(tmp_path, march, needs, lanes, macs_per_lane):
    cpuinfo = Path("/proc/cpuinfo").read_text()
    if needs not in cpuinfo.split():
        pytest.skip(f"this CPU has no {needs}")
    made = tmp_path / "probe"
    built = subprocess.run(
        ["cc", *FLAGS, f"-march={march}", str(probes.SOURCE), "-o", str(made)], capture_output=True, text=True
    )
    if "-march=" in built.stderr:
        pytest.skip(f"this compiler does not know -march={march}")
    assert built.returncode == 0, built.stderr
    record = run_record([made], [str(cores(1)[0]), "1", "1", "512,8192"])
    check_counts(record, 1, lanes, macs_per_lane)


# What each instruction set's kernels are made of, once for each accumulator. Merged accumulators would keep their sum.
INSTRUCTIONS = [
    ("x86-64", 12, ("mulps", "addps")),
    ("ivybridge", 12, ("vmulps", "vaddps")),
    ("haswell", 12, ("vfmadd", "vpmaddubsw")),
    ("alderlake", 12, ("vfmadd", "vpdpbusd")),
    ("skylake-avx512", 24, ("vfmadd", "vpmaddubsw")),
    ("sapphirerapids", 24, ("vfmadd", "vdpbf16ps", "vpdpbusd")),
]


@needs_compiler
@pytest.mark.parametrize(("march", "accumulators", "instructions"), INSTRUCTIONS, ids=[row[0] for row in INSTRUCTIONS])
def test_the_compiler_keeps_every_accumulator(march, accumulators, instructions):
    command = ["cc", *FLAGS, f"-march={march}", "-S", str(probes.SOURCE), "-o", "-"]
    made = subprocess.run(command, capture_output=True, text=True)
    if "-march=" in made.stderr:
        pytest.skip(f"this compiler does not know -march={march}")
    assert made.returncode == 0, made.stderr
    found = [words[0] for line in made.stdout.splitlines() if (words := line.replace("{vex}", "").split())]
    for name in instructions:
        assert sum(word.startswith(name) for word in found) >= accumulators, name


@pytest.mark.cross
@pytest.mark.parametrize(("march", "macs_per_lane"), ARM, ids=[row[0] for row in ARM])
def test_every_arm_kernel_does_the_work_it_counts(tmp_path, march, macs_per_lane):
    for tool, package in (("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"), ("qemu-aarch64", "qemu-user")):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: apt-get install {package}")
    made = tmp_path / "probe"
    command = ["aarch64-linux-gnu-gcc", *FLAGS, "-static", f"-march={march}", str(probes.SOURCE), "-o", str(made)]
    subprocess.run(command, check=True)
    record = run_record(["qemu-aarch64", "-cpu", "max", made], [str(cores(1)[0]), "1", "1", "512,8192"])
    check_counts(record, 1, 4, macs_per_lane)


@needs_compiler
def test_all_threads_do_their_part():
    probe = probes.find_probe()
    team = sorted(os.sched_getaffinity(0))[:2]
    if len(team) < 2:
        pytest.skip("this process may use one core only")
    record = run_record(probe.command, [",".join(map(str, team)), "1", "1", "4096"])
    lanes = record["flops"][0]["lanes"]
    check_counts(record, 2, lanes, {kernel["precision"]: kernel["macs_per_lane"] for kernel in record["flops"]})
    assert probes.parse(json.dumps(record), 2).reads[0][0] == 8192  # of both together


@needs_compiler
def test_reads_alone_leave_the_arithmetic_out():
    measured = probes.run_probe(probes.find_probe(), cores(1), SIZES, 1, with_flops=False)
    assert measured.flops == {}
    assert [size for size, _ in measured.reads] == SIZES


RECORD = {
    "instruction_set": "avx2",
    "threads": 2,
    "flops": [
        {"precision": "fp32", "instruction": "avx2", "accumulators": 12, "lanes": 8, "macs_per_lane": 1,
         "iterations": 1000, "seconds": 0.001, "checksum": 192_000}
    ],
    # 1,024 words: their indices sum up to 1,023 * 1,024 / 2 = 523,776; 10 passes in each of two threads.
    "reads": [{"bytes": 4096, "passes": 10, "seconds": 0.0005, "checksum": 10_475_520}],
}  # fmt: skip


def test_rates_by_hand():
    measured = probes.parse(json.dumps(RECORD), 2)
    assert measured.instruction_set == "avx2"
    assert measured.flops == {"fp32": pytest.approx(384e6)}  # 192,000 multiply-accumulates of two operations in 1 ms
    assert measured.reads == ((8192, pytest.approx(163.84e6)),)  # 81,920 bytes in 0.5 ms


@pytest.mark.parametrize(
    ("section", "words"), [("flops", "fp32 kernel counted 192000"), ("reads", "reads of 4096 bytes")]
)
def test_a_sum_that_is_not_that_of_the_work_is_refused(section, words):
    record = json.loads(json.dumps(RECORD))
    record[section][0]["checksum"] -= 1
    with pytest.raises(ResourceError, match=words):
        probes.parse(json.dumps(record), 2)


@needs_compiler
def test_it_is_compiled_once(tmp_path, monkeypatch):
    compiler, log = counting_compiler(tmp_path)
    monkeypatch.setenv("CC", str(compiler))
    first = probes.find_probe()
    assert (first.method, first.note, log.read_text()) == ("c-probe", None, "x\n")
    assert first.compiler
    assert probes.find_probe() == first
    assert log.read_text() == "x\n"
    Path(first.command[0]).write_bytes(b"damaged")
    probes.run_probe(probes.find_probe(), cores(1), [512], 1)
    assert log.read_text() == "x\nx\n"


def test_without_a_compiler_numpy_measures_and_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    probe = probes.find_probe()
    assert (probe.method, probe.compiler) == ("numpy", None)
    assert "numpy" in probe.note
    assert "apt-get install gcc" in probe.note
    measured = probes.run_probe(probe, cores(2), SIZES, 1)
    assert set(measured.flops) == {"fp32"}
    assert [size for size, _ in measured.reads] == [2 * size for size in SIZES]


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    words = 'echo "warning: x" >&2; echo "probe.c:9: error: no vectors" >&2; exit 1'
    text = f'case "$1" in --version) echo "mycc 1.0" ;; *) {words} ;; esac'
    monkeypatch.setenv("CC", str(script(tmp_path / "mycc", text)))
    probe = probes.find_probe()
    assert probe.method == "numpy"
    assert "mycc 1.0" in probe.note
    assert "probe.c:9: error: no vectors" in probe.note
    assert "\n" not in probe.note


def test_a_probe_that_fails_is_quoted(tmp_path):
    broken = probes.Probe("c-probe", None, (str(script(tmp_path / "broken", "echo not enough memory >&2; exit 4")),))
    with pytest.raises(ResourceError, match="the probe failed: not enough memory"):
        probes.run_probe(broken, cores(1), [512], 1)
    with pytest.raises(ResourceError, match="cannot be started: No such file"):
        probes.run_probe(probes.Probe("c-probe", None, (str(tmp_path / "gone"),)), cores(1), [512], 1)


@needs_compiler
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("0", "1", "1"), "four arguments"),
        (("x", "1", "1", "512"), "CORES is a list of numbers"),
        (("0", "0", "1", "512"), "ROUNDS above 0"),
        (("0", "1", "1", "512,"), "BYTES is a list of numbers"),
        (("0", "1", "1", "513"), "multiples of 512"),
        (("99999", "1", "1", "512"), "could not be pinned"),
    ],
)
def test_the_probe_refuses_what_it_cannot_do(arguments, words):
    done = subprocess.run([*probes.find_probe().command, *arguments], capture_output=True, text=True)
    assert done.returncode in (2, 4)
    assert words in done.stderr
    assert done.stdout == ""


def test_ctrl_c_leaves_no_process_behind(tmp_path):
    pids = tmp_path / "pids"
    probe = script(tmp_path / "probe", f"echo $$ >> {pids}; sleep 60 & echo $! >> {pids}; touch {pids}.whole; wait")
    code = (
        "import signal\n"
        "from edgeline_bench.roofline import probe\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs are born ignoring it
        f"probe.run_probe(probe.Probe('c-probe', None, ({str(probe)!r},)), (0,), (512,), 1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as parent:
        wait_until(lambda: Path(f"{pids}.whole").exists())
        parent.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in parent.communicate(timeout=30)[1]
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    wait_until(lambda: not any(is_running(pid) for pid in started))


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come within 30 s"
        time.sleep(0.01)


def is_running(pid):
    """A killed process whose new parent has not collected it yet (state Z) runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_numpy_prints_has_the_shape_of_what_the_probe_prints():
    command = [sys.executable, "-m", "edgeline_bench.roofline.numpy_probe"]
    record = run_record(command, [str(cores(1)[0]), "1", "1", "512,4096"])
    kernel = record["flops"][0]
    # A product of two square matrices of order n takes n^3 multiply-accumulates.
    assert probes.macs_of(kernel, 1) == 512**3 * kernel["iterations"]
    assert [read["bytes"] for read in record["reads"]] == [512, 4096]
    assert set(kernel) == set(RECORD["flops"][0])
    assert set(record["reads"][0]) == set(RECORD["reads"][0])
