"""`--format c --target aarch64 | armv7 | riscv64`: which compiler, what is in the artefact, what QEMU says of it."""

import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.errors import MissingCapabilityError
from edgeline_export.c.compiler import NoCompilerError
from edgeline_export.c.dispatch import dispatch_source
from edgeline_export.c.targets import TARGETS, native_target
from edgeline_export.c.toolchain import build_library, compiler_for, machine_of
from tests.conftest import one_line
from tests.export.c.emulated import RUNS
from tests.export.c.harness import OPTIMISED, build, compiler
from tests.export.c.qdq import Qdq
from tests.export.c.tiny import tiny_batch, tiny_graph, tiny_sources

LINUX = ("aarch64", "armv7", "riscv64")
CROSS = pytest.mark.cross


@pytest.fixture
def export(tmp_path, command, monkeypatch):
    """Export the tiny network for a target: (exit code, stderr, the artefact's folder, which need not be there)."""
    monkeypatch.delenv("CC", raising=False)
    onnx.save(tiny_graph(), tmp_path / "tiny.onnx")
    np.savez(tmp_path / "inputs.npz", inputs=tiny_batch(count=20))

    def run(target, *options):
        argv = (tmp_path / "tiny.onnx", "--format", "c", "--samples", tmp_path / "inputs.npz", "--target", target,
                "--out", tmp_path / "out", *options)  # fmt: skip
        code, _, err = command(edgeline_export.cli.main, *argv)
        return code, err, tmp_path / "out" / f"tiny.fp32.c@{target}"

    return run


def fake_compiler(path, body, machine="aarch64-linux-gnu"):
    """A program that answers as a compiler for `machine` does, and goes on with `body`."""
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "odd-cc 7.0"; exit; fi\n'
        f'if [ "$1" = -dumpmachine ]; then echo "{machine}"; exit; fi\n{body}\n'
    )
    path.chmod(0o755)
    return path


def run_of(target):
    """One of RUNS for a target; skips the test where its compiler or QEMU is missing."""
    return next(run for run in RUNS.values() if run.target == target and run.cc)


# --- which target, which compiler -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "target"),
    [("aarch64", "aarch64"), ("arm64", "aarch64"), ("armv7l", "armv7"), ("armv8l", "armv7"), ("armv6l", "generic"),
     ("riscv64", "riscv64"), ("x86_64", "x86-64"), ("AMD64", "x86-64"), ("ppc64le", "generic")],
)  # fmt: skip
def test_the_target_of_a_machine(monkeypatch, machine, target):
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert native_target().name == target


@pytest.mark.parametrize("name", LINUX)
def test_without_the_targets_compiler_a_line_names_what_to_install(export, monkeypatch, tmp_path, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    target = TARGETS[name]
    code, err, folder = export(name)
    assert code == 0, err
    assert f"only C sources are written: {target.compiler}, which makes code for {name}, is not on the path" in err
    assert f"apt-get install {target.packages}, or give --cc\n" in err
    manifest = open_artefact(folder).manifest
    assert (manifest.build, manifest.target) == ("on-device", {"name": name, "architecture": target.architecture})
    assert {"tiny.c", "tiny.h", "main.c", "CMakeLists.txt", f"{name}.cmake"} <= set(manifest.files)
    assert "libtiny.so" not in manifest.files
    code, err, _ = export(name, "--require-engine")
    assert code == 3
    assert "without --require-engine the C sources alone are written" in one_line(err)


def test_a_machine_of_the_targets_own_architecture_uses_its_own_compiler(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("edgeline_export.c.toolchain.architecture_here", lambda: "aarch64")
    assert compiler_for(TARGETS["aarch64"]).command[0] == next(
        name for name in ("cc", "gcc", "clang") if shutil.which(name)
    )


def test_the_environments_compiler_is_taken_where_it_fits(monkeypatch, tmp_path):
    fits = fake_compiler(tmp_path / "fits", "exit 1", "riscv64-unknown-linux-musl")
    monkeypatch.setenv("CC", str(fits))
    assert compiler_for(TARGETS["riscv64"]).command == (str(fits),)
    own = fake_compiler(tmp_path / "aarch64-linux-gnu-gcc", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler_for(TARGETS["aarch64"]).command == (own.name,)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MissingCapabilityError, match="CC names 'no-such-compiler'"):
        compiler_for(TARGETS["aarch64"])
    monkeypatch.delenv("CC")
    own.unlink()
    with pytest.raises(NoCompilerError, match="aarch64-linux-gnu-gcc, which makes code for aarch64"):
        compiler_for(TARGETS["aarch64"])


def test_a_compiler_for_another_architecture(export, tmp_path):
    code, err, folder = export("aarch64", "--cc", fake_compiler(tmp_path / "cc", "exit 1", "x86_64-linux-gnu"))
    assert code == 2
    assert "makes code for x86_64, the target aarch64 is not for that" in one_line(err)
    assert not folder.exists()


def test_a_compiler_that_cannot_make_the_instruction_set(export, tmp_path):
    words = "cc1: error: invalid feature modifier in '-march=armv8.2-a+dotprod+i8mm'"
    cc = fake_compiler(
        tmp_path / "cc", f'case "$*" in *i8mm*) echo "{words}" >&2; exit 1;; *) touch a.o; exit 0;; esac'
    )
    code, err, folder = export("aarch64", "--cc", cc)
    assert code == 3
    assert f"odd-cc 7.0 does not compile tiny.c for neon-i8mm: {words}; sources and" in one_line(err)
    assert not folder.exists()


def test_missing_headers_of_the_targets_compiler_are_named(export, tmp_path, monkeypatch):
    fake_compiler(
        tmp_path / "aarch64-linux-gnu-gcc", 'echo "x.c:1:2: fatal error: math.h: No such file or directory" >&2; exit 1'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    code, err, _ = export("aarch64")
    assert code == 3
    assert "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross" in one_line(err)


def test_an_unknown_target_lists_those_that_there_are(export):
    code, err, _ = export("aarch65")
    assert code == 2
    assert "unknown target 'aarch65' (did you mean aarch64" in one_line(err)


# --- the artefact -----------------------------------------------------------------------------------------------------


@CROSS
@pytest.mark.parametrize("name", LINUX)
def test_the_artefact_of_a_target(export, name):
    run = run_of(name)
    code, err, folder = export(name)
    assert code == 0, err
    assert f"self-test under {run.emulator[0]}: largest difference " in err
    manifest, target = open_artefact(folder).manifest, TARGETS[name]
    assert (manifest.build, manifest.target) == ("built", {"name": name, "architecture": target.architecture})
    assert {"libtiny.so", "tiny.pc", f"{name}.cmake"} <= set(manifest.files)
    assert manifest.verification["engine"] == "onnxruntime, the same graph"
    assert [variant["isa"] for variant in manifest.compilation["variants"]] == [v.isa for v in target.variants]
    assert manifest.compilation["machine"].startswith(target.compiler.removesuffix("-gcc").split("-")[0])
    assert manifest.compilation["code_bytes"] > 1000


@CROSS
def test_each_cpu_gets_the_best_that_it_has(export):
    run_of("aarch64")
    line = next(line for line in export("aarch64")[1].splitlines() if line.startswith("self-test under "))
    found = [part.split()[-1] for part in line.split(", ")]
    assert found == ["neon", "neon-dotprod", "neon-i8mm"]


@CROSS
def test_a_library_that_computes_something_else_is_found_out(export, tmp_path):
    run = run_of("aarch64")
    edit = 'sed -i "s/return EDGELINE_OK;/output[1] = 1e6f; return EDGELINE_OK;/" tiny.c'
    cc = fake_compiler(tmp_path / "cc", f'test -f tiny.c && {edit}\nexec {run.cc} "$@"')
    code, err, folder = export("aarch64", "--cc", cc)
    assert code == 1, err
    assert (
        "the self-test under qemu-aarch64 -cpu cortex-a53 ended with exit code 1: output 1 of input 0 is 1000000, "
        in (one_line(err))
    )
    assert "; 16 outputs are further off than allowed; nothing was written" in one_line(err)
    assert not folder.exists()


@CROSS
def test_without_qemu_a_line_says_so(export, monkeypatch):
    run_of("aarch64")
    monkeypatch.setattr("edgeline_export.c.user_emulator.shutil", SimpleNamespace(which=lambda name: None))
    code, err, _ = export("aarch64")
    assert code == 0, err
    assert "no self-test of the library: qemu-aarch64 is not installed, apt-get install qemu-user\n" in err


@CROSS
@pytest.mark.parametrize("name", LINUX)
@pytest.mark.parametrize("link", ["", "-static"])
def test_cmake_builds_with_the_toolchain_file(export, tmp_path, name, link):
    for program in ("cmake", "ctest"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install cmake")
    run = run_of(name)
    folder, made = export(name)[2], tmp_path / "build"
    for argv in (
        ["cmake", "-S", folder, "-B", made, f"-DCMAKE_TOOLCHAIN_FILE={name}.cmake", f"-DCMAKE_EXE_LINKER_FLAGS={link}"],
        ["cmake", "--build", made],
        ["ctest", "--test-dir", made, "--output-on-failure"],
    ):
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    if link:
        argv = [*run.emulator, made / "tiny-selftest", folder / "selftest.bin"]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"({TARGETS[name].variants[0].isa})" in done.stdout


# --- the choice, when a library is loaded -----------------------------------------------------------------------------

SAYS = """#include <stdio.h>
#include "net.h"
static float input[1024], output[64];
static unsigned char memory[NET_ARENA_BYTES + EDGELINE_ARENA_ALIGNMENT];
int main(void)
{
    unsigned char *arena = memory + (EDGELINE_ARENA_ALIGNMENT - (uintptr_t)memory % EDGELINE_ARENA_ALIGNMENT);
    if (fread(input, sizeof(float), 256, stdin) != 256) return 2;
    if (net_infer(input, output, 1, arena, NET_ARENA_BYTES) != EDGELINE_OK) return 3;
    fprintf(stderr, "%s", net_isa());
    return fwrite(output, sizeof(float), 8, stdout) == 8 ? 0 : 4;
}
"""


@CROSS
def test_a_library_chooses_by_the_cpu_and_gives_the_same_bits(tmp_path):
    run = run_of("aarch64")
    g = Qdq((1, 16, 16))
    y = g.quantised(g.conv("c", g.quantised("x", 1 / 32, 120), 1 / 32, 6, 1, (5, 5), pads=[2, 2, 2, 2]), 1 / 40, 128)
    y = g.quantised(g.node("MaxPool", [y], "p", kernel_shape=[2, 2], strides=[2, 2]), 1 / 40, 128)
    y = g.quantised(g.node("Flatten", [y], "f"), 1 / 40, 128)
    model, batch = g.model(g.gemm("d", y, 1 / 40, 6 * 64, 8)), g.batch_of(1)
    target, cc = TARGETS["aarch64"], compiler_for(TARGETS["aarch64"], run.cc)
    program, _, files = tiny_sources(model, target, name="net")
    library = build_library("net", files, dispatch_source(program, target, False), target, cc, machine_of(cc))
    (tmp_path / library.file).write_bytes(library.content)
    (tmp_path / "net.h").write_bytes(files["net.h"])
    (tmp_path / "says.c").write_text(SAYS)
    subprocess.run(
        [*cc.command, "says.c", "-I.", "-L.", f"-l:{library.file}", "-Wl,-rpath,.", "-o", "says"],
        cwd=tmp_path,
        check=True,
    )
    plain = tmp_path / "plain"
    plain.mkdir()
    expected = build(plain, model, "generic", "gcc", OPTIMISED).run(batch).tobytes()
    root = f"/usr/{machine_of(cc).triplet}"
    for one in (run for run in RUNS.values() if run.target == "aarch64"):
        argv = [*one.emulator, "-L", root, tmp_path / "says"]
        done = subprocess.run(argv, input=batch.tobytes(), capture_output=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.decode() == target.variants[one.variant].isa
        assert done.stdout == expected


@CROSS
@pytest.mark.parametrize("index", [1, 2])
def test_an_instruction_set_that_the_cpu_lacks_ends_the_program(tmp_path, index):
    """So what runs on cortex-a53 is the plain form, and the tests above would see it if it were not."""
    run = [run for run in RUNS.values() if run.target == "aarch64"][index]
    source = tmp_path / "one.c"
    source.write_text(
        "#include <arm_neon.h>\nint main(int n, char **v) { int8x16_t x = vdupq_n_s8((signed char)n); (void)v;\n"
        "return vgetq_lane_s32(" + ("vmmlaq_s32" if index == 2 else "vdotq_s32") + "(vdupq_n_s32(0), x, x), 0); }\n"
    )
    subprocess.run([compiler(run.cc), *run.isa, "-static", source, "-o", tmp_path / "one"], check=True)
    assert subprocess.run([*run.emulator, tmp_path / "one"]).returncode in (4, 8)
    before = list(RUNS.values())[index - 1]
    assert subprocess.run([*before.emulator, tmp_path / "one"], capture_output=True).returncode not in (4, 8)
