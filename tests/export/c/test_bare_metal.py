"""`export-model --target cortex-m4` and its like: what the artefact holds, that it runs, and what is refused.

The network is the tiny one, of somebody's .onnx file; lenet's digits are in tests/benchmarks/test_board_digits.py.
"""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import onnx
import pytest

import edgeline
import edgeline.cli
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.emulator import run_image
from edgeline.errors import MissingCapabilityError
from edgeline_export.c.boards import BOARDS
from edgeline_export.c.budgets import Budgets
from edgeline_export.c.firmware import AROUND, DoesNotFitError, board_compiler, compile_objects, link, sections_of
from edgeline_export.c.firmware_files import linker_script
from edgeline_export.c.targets import TARGETS
from tests.conftest import one_line
from tests.export.c.board_tools import need
from tests.export.c.tiny import tiny_batch, tiny_graph

MAIN = edgeline_export.cli.main
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
INT8 = ("--precision", "int8", "--calibration-samples", "20")
SOURCES = {"tiny.c", "tiny.h", "startup.c", "semihosting.c", "semihosting.h", "board.ld", "selftest.c", "selftest_data.h",
           "CMakeLists.txt", "model.onnx", "selftest.npz"}  # fmt: skip


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(tiny_graph(), folder / "tiny.onnx")
    np.savez(folder / "inputs.npz", inputs=tiny_batch(count=20))
    return folder / "tiny.onnx"


@pytest.fixture(scope="module")
def exported(graph_file, tmp_path_factory):
    """The tiny network's artefact for a target, exported once. Read-only."""
    made = {}

    def of(target, *options):
        need("arm-none-eabi-gcc", "qemu-system-arm")
        if (target, options) not in made:
            made[target, options] = tmp_path_factory.mktemp("out")
            assert MAIN(argv_of(graph_file, made[target, options], target, *options)) == 0
        (folder,) = made[target, options].iterdir()
        return folder

    return of


def argv_of(graph_file, out, target, *options):
    samples = graph_file.with_name("inputs.npz")
    more = ["--calibration", samples] if "int8" in options else []
    argv = [graph_file, "--format", "c", "--samples", samples, *more, "--out", out, "--target", target, *options]
    return [str(arg) for arg in argv]


@pytest.fixture
def export(graph_file, tmp_path, command):
    """Export the tiny network: (exit code, stdout, stderr, the folder that artefacts are put in)."""

    def run(target, *options):
        return *command(MAIN, *argv_of(graph_file, tmp_path / "out", target, *options)), tmp_path / "out"

    return run


def sources_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".c", ".h", ".ld")}


def linked(files, target, script=None):
    """An image of an artefact's sources."""
    compiler = board_compiler(TARGETS[target], None)
    objects = compile_objects("tiny", files, TARGETS[target], compiler)
    return link(objects.files, script or files["board.ld"], TARGETS[target], compiler)


def run(elf, target, folder):
    (folder / "image.elf").write_bytes(elf)
    return run_image(folder / "image.elf", BOARDS[target].machine)


# --- what it holds ----------------------------------------------------------------------------------------------------


@pytest.mark.cross
@pytest.mark.parametrize("options", [(), INT8], ids=["fp32", "int8"])
@pytest.mark.parametrize("target", BOARDS)
def test_an_artefact_for_a_board(exported, command, target, options):
    folder = exported(target, *options)
    manifest = open_artefact(folder).manifest
    assert SOURCES | {"tiny.elf", f"{target}.cmake"} <= set(manifest.files)
    assert manifest.build == "built"
    record = json.loads((folder / "manifest.json").read_text())["compilation"]
    library, image = record["library"], record["image"]
    assert record["board"]["machine"] == BOARDS[target].machine
    assert library["function"] == "tiny_infer"
    assert image["selftest_inputs"] == 16
    assert image["exact"] == bool(options)
    assert 0 < library["stack_bytes"] <= library["stack_bytes_static"] < image["stack_reserved_bytes"]
    assert library["stack_bytes"] < image["stack_bytes"] <= image["stack_reserved_bytes"]
    assert library["code_bytes"] + library["constants_bytes"] <= library["flash_bytes"] < image["flash_bytes"]
    # 8 x 8 inputs, 3 channels, a 3 x 3 filter; 6 x 6 of those into four outputs: every product takes an instruction.
    assert library["instructions"] > 36 * 27 + 4 * 108 or target == "cortex-m55"
    code, out, _ = command(edgeline.cli.main, "selftest", folder)
    assert code == 0
    assert f"passed: 16 inputs on {BOARDS[target].machine}, emulated, {library['instructions']:,} instructions" in out
    code, out, _ = command(edgeline.cli.main, "info", folder)
    assert code == 0
    assert f"tried on {BOARDS[target].machine}" in out
    assert f"{library['instructions']:,} instructions for tiny_infer" in out


@pytest.mark.cross
def test_the_same_export_gives_the_same_image_and_the_same_count(exported, export):
    first, (code, out, _, folder) = exported("cortex-m4"), export("cortex-m4")
    assert code == 0
    again = folder / first.name
    for name in SOURCES - {"selftest.npz"} | {"tiny.elf"}:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    one, other = (json.loads((at / "manifest.json").read_text())["compilation"] for at in (first, again))
    assert one == other
    assert f"counted   {one['library']['instructions']:,} instructions for tiny_infer" in out


@pytest.mark.cross
def test_it_says_what_it_is_to_a_session(exported, command):
    with pytest.raises(MissingCapabilityError, match="holds a flash image for a board and no library: edgeline self"):
        edgeline.load(exported("cortex-m4"))
    with edgeline.load(exported("cortex-m4"), engine="onnxruntime") as session:
        assert session.infer(tiny_batch(count=1)).shape == (1, 4)
    code, _, _ = command(edgeline.cli.main, "selftest", exported("cortex-m4"), "--engine", "onnxruntime")
    assert code == 0


@pytest.mark.cross
def test_its_cmake_project(exported, tmp_path):
    need("cmake")
    folder, build = exported("cortex-m4"), tmp_path / "build"
    subprocess.run(
        ["cmake", "-S", folder, "-B", build, "-DCMAKE_TOOLCHAIN_FILE=cortex-m4.cmake"], check=True, capture_output=True
    )
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    subprocess.run(["ctest", "--test-dir", build], check=True, capture_output=True)
    assert sections_of((build / "tiny.elf").read_bytes()) == sections_of((folder / "tiny.elf").read_bytes())


# --- the image --------------------------------------------------------------------------------------------------------


@pytest.mark.cross
@pytest.mark.parametrize("target", BOARDS)
def test_what_stands_around_the_network_compiles_without_a_warning(exported, target):
    folder = exported(target)
    for file in AROUND:
        flags = TARGETS[target].variants[0].flags
        done = subprocess.run(
            ["arm-none-eabi-gcc", *STRICT, "-Os", *flags, "-I.", "-c", file, "-o", "/dev/null"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.cross
@pytest.mark.parametrize("options", [(), INT8], ids=["fp32", "int8"])
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m55"])
def test_a_changed_weight_is_found_on_the_board(exported, tmp_path, target, options):
    files = sources_in(exported(target, *options))
    array = (
        rb"(const int8_t tiny_w\d+_0\[\d+\] = \{\n)-?\d+"
        if options
        else rb"(const float tiny_w\d+_0\[\d+\] = \{\n)[^,]+"
    )
    files["tiny.c"], changed = re.subn(array, rb"\g<1>" + (b"77" if options else b"7.5f"), files["tiny.c"], count=1)
    assert changed == 1
    done = run(linked(files, target), target, tmp_path)
    assert done.exit_code == 1
    assert re.search(r"^differs: input \d+ output \d+ found 0x[0-9a-f]{8} expected 0x[0-9a-f]{8}$", done.text, re.M)


@pytest.mark.cross
def test_an_error_code_of_the_library(exported, tmp_path):
    files = sources_in(exported("cortex-m4"))
    files["tiny.c"] = files["tiny.c"].replace(b"return EDGELINE_OK;", b"return EDGELINE_EARENA;")
    done = run(linked(files, "cortex-m4"), "cortex-m4", tmp_path)
    assert (done.exit_code, done.figures) == (3, {"error": 4})


DEEP = b"""
int deep(volatile int n);
__attribute__((optimize("O0"))) int deep(volatile int n)
{
    volatile int frame[32];
    frame[n % 32] = n;
    return n > 500 ? 0 : deep(n + 1) + frame[n % 32];
}
"""


@pytest.mark.cross
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("body", ["__builtin_trap();", "return deep(0);"], ids=["undefined", "stack"])
def test_a_fault_ends_with_a_code_of_its_own(exported, tmp_path, target, body):
    """67 is a HardFault; a stack that overflows leaves the RAM and hurts nothing."""
    files = sources_in(exported(target))
    main = DEEP + files["selftest.c"].replace(b"    return tiny_selftest();", body.encode())
    assert body.encode() in main
    done = run(linked({**files, "selftest.c": main}, target), target, tmp_path)
    assert done.exit_code == 67
    assert "the processor stopped at a fault" in done.text


LOOP = """\
#define SELFTEST_WITHOUT_MAIN
#include "artefact_selftest.c"
int loop(const selftest_input *i, selftest_output *m, size_t n, void *a, size_t b);
__attribute__((naked)) int loop(const selftest_input *i, selftest_output *m, size_t n, void *a, size_t b)
{ __asm__(".syntax unified\\n ldr r0, =COUNT\\n 1: subs r0, r0, #1\\n bne 1b\\n bx lr\\n .ltorg"); }
int main(void)
{
    struct ticks empty = ticks_of(nothing, selftest_inputs[0]), ticks = ticks_of(loop, selftest_inputs[0]);
    print_figure("wraps: ", ticks.wraps);
    print_figure("ticks: ", ticks.rest);
    print_figure("empty: ", empty.rest);
    return 0;
}
"""


@pytest.mark.cross
@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.parametrize("rounds", [1, 1000, 3_000_000])
def test_instructions_are_counted_to_the_last_one(exported, tmp_path, target, rounds):
    """Two a round; the others are as many as the empty call has. SysTick wraps twice in the longest loop."""
    files = sources_in(exported(target))
    files["artefact_selftest.c"] = files["selftest.c"]
    files["selftest.c"] = LOOP.replace("COUNT", str(rounds)).encode()
    done = run(linked(files, target), target, tmp_path)
    assert done.instructions == 2 * rounds
    assert (done.figures["wraps"] > 0) == (rounds > 1_000_000)


@pytest.mark.cross
@pytest.mark.parametrize("memory", ["flash", "ram"])
def test_the_linker_holds_the_budgets_to_the_byte(exported, memory):
    files = sources_in(exported("cortex-m4"))
    image = json.loads((exported("cortex-m4") / "manifest.json").read_text())["compilation"]["image"]
    room = {"ram": 1 << 20, "flash": 1 << 20, memory: image[f"{memory}_bytes"]}

    def script(less):
        budgets = Budgets(**{**room, memory: room[memory] - less})
        return linker_script("tiny", BOARDS["cortex-m4"], budgets, image["stack_reserved_bytes"])

    assert linked(files, "cortex-m4", script(0))
    with pytest.raises(DoesNotFitError, match=f"(?i)region `{memory}' overflowed|will not fit in region `{memory}'"):
        linked(files, "cortex-m4", script(1))


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.cross
def test_a_budget_takes_the_inputs_that_fit(exported, export):
    """An input is 64 floats, what it must give 4."""
    image = json.loads((exported("cortex-m4") / "manifest.json").read_text())["compilation"]["image"]
    flash = image["flash_bytes"] - 3 * 68 * 4
    code, _, err, folder = export("cortex-m4", "--flash", str(flash), "--ram", "2KB")
    assert code == 0, err
    (artefact,) = folder.iterdir()
    record = json.loads((artefact / "manifest.json").read_text())["compilation"]
    assert record["image"]["selftest_inputs"] == 13
    assert record["board"]["flash_bytes"] == flash
    assert f"LENGTH = {flash}\n" in (artefact / "board.ld").read_text()


@pytest.mark.cross
@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (
            ("--flash", "4KB"),
            r"tiny in fp32 needs 5,\d{3} bytes of flash, 4,096 are to be had: largest weights 1,904, code ",
        ),
        (("--ram", "600"), r"tiny in fp32 needs \d{3} bytes of ram, 600 are to be had: largest arena 448, stack "),
    ],
)
def test_an_image_over_its_budget_is_refused_with_the_figures(export, budget, words):
    need("arm-none-eabi-gcc")
    code, _, err, folder = export("cortex-m4", *budget)
    assert code == 2
    assert re.search(words, one_line(err)), err
    assert "; give --" in one_line(err)
    assert not list(folder.glob("*"))


@pytest.mark.parametrize(
    ("target", "budget", "words"),
    [
        (
            "cortex-m4",
            ("--flash", "1KB"),
            "tiny in fp32 needs 18,288 bytes of flash, 1,024 are to be had: largest code, by",
        ),
        (
            "cortex-m4",
            ("--ram", "100"),
            "bytes of ram, 100 are to be had: largest stack, by a guess 2,048, arena 448; give",
        ),
        ("cortex-m4", ("--ram", "5MB"), "--ram 5MB is more than the 4MB of the board"),
        ("cortex-m4", ("--ram", "16QB"), "argument --ram: expected bytes like 16KB, 1MB or 16384, got '16QB'"),
        ("generic", ("--ram", "16KB"), "--ram is for targets without an operating system (cortex-m0plus, cortex-m4,"),
        ("native", ("--flash", "16KB"), "--flash is for targets without an operating system"),
    ],
)
def test_bad_budgets_are_one_line_without_any_tools(export, monkeypatch, target, budget, words):
    monkeypatch.setenv("PATH", os.devnull)
    code, _, err, folder = export(target, *budget)
    assert code == 2
    assert words in one_line(err)
    assert not list(folder.glob("*"))


# --- what is not installed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), INT8], ids=["fp32", "int8"])
def test_without_a_compiler_the_sources_are_written(export, command, monkeypatch, options):
    monkeypatch.setenv("PATH", os.devnull)
    code, out, err, folder = export("cortex-m4", *options, "--flash", "32KB", "--ram", "4KB")
    assert code == 0, err
    reason = "arm-none-eabi-gcc is not installed: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    assert err.count(f"only C sources are written: {reason}\n") == 1
    (artefact,) = folder.iterdir()
    manifest = open_artefact(artefact).manifest
    assert manifest.build == "on-device"
    assert SOURCES | {"cortex-m4.cmake"} <= set(manifest.files)
    assert "tiny.elf" not in manifest.files
    assert "image     none, sources only" in out
    code, _, err = command(edgeline.cli.main, "selftest", artefact)
    assert code == 3
    assert "is for a board and holds sources alone: export it again where there is a compiler" in one_line(err)


def test_without_a_compiler_and_with_require_engine(export, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    code, _, err, folder = export("cortex-m4", "--require-engine")
    assert code == 3
    assert "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi; without --require-engine" in one_line(err)
    assert not folder.exists()


@pytest.mark.cross
def test_without_qemu_figures_are_absent_and_not_guessed(exported, export, command, tmp_path, monkeypatch):
    need("arm-none-eabi-gcc")
    whole = exported("cortex-m4")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "arm-none-eabi-gcc").write_text(f'#!/bin/sh\nexec {shutil.which("arm-none-eabi-gcc")} "$@"\n')
    (tools / "arm-none-eabi-gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    code, out, err, folder = export("cortex-m4", "--require-engine")
    assert code == 0, err
    assert "stack and instructions are not known: qemu-system-arm is not installed: apt-get install" in err
    (artefact,) = folder.iterdir()
    record = json.loads((artefact / "manifest.json").read_text())["compilation"]
    assert record["library"]["stack_bytes"] is None
    assert record["library"]["instructions"] is None
    assert record["image"]["stack_bytes"] is None
    assert (artefact / "tiny.elf").read_bytes() == (whole / "tiny.elf").read_bytes()
    assert "counted   nothing: it was not run" in out
    code, _, err = command(edgeline.cli.main, "selftest", artefact)
    assert code == 3
    assert "qemu-system-arm is not installed: apt-get install qemu-system-arm, then qemu-system-arm -M mps2-" in err


@pytest.mark.cross
def test_a_board_that_computes_something_else_writes_nothing(export, tmp_path):
    """The gate runs the very image: a compiler that breaks it is found out."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    odd = tmp_path / "odd-gcc"
    gcc = shutil.which("arm-none-eabi-gcc")
    edit = 'sed -i "s/return EDGELINE_OK;/output[2] = 1e6f; return EDGELINE_OK;/" tiny.c'
    odd.write_text(f'#!/bin/sh\ntest -f tiny.c && {edit}\nexec {gcc} "$@"\n')
    odd.chmod(0o755)
    code, _, err, folder = export("cortex-m4", "--cc", str(odd))
    assert code == 1
    assert "exit code 1: output 2 of input 0 is 1000000 (0x49742400) where " in one_line(err)
    assert one_line(err).endswith("is expected; nothing was written")
    assert not list(folder.glob("*"))


@pytest.mark.parametrize(("cc", "code", "words"), [
    ("no-such-gcc", 3, "--cc names 'no-such-gcc', which is not on the path"),
    ("gcc", 3, "the target cortex-m4 needs one for bare metal: leave --cc out, or give --cc arm-none-eabi-gcc"),
])  # fmt: skip
def test_another_compiler_than_one_for_boards(export, cc, code, words):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: apt-get install gcc")
    found, _, err, folder = export("cortex-m4", "--cc", cc)
    assert (found, words in one_line(err)) == (code, True), err
    assert not folder.exists()
