"""`export-model --target cortex-m4` and its like: what the artefact holds, that it runs, and what is refused.

The network is the tiny one, of somebody's .onnx file; lenet's digits are in tests/benchmarks/test_board_digits.py.
"""

import json
import os
import re
import shutil
import subprocess

import pytest

import edgeline
import edgeline.cli
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.errors import MissingCapabilityError
from edgeline_export.c.boards import BOARDS
from edgeline_export.c.firmware import sections_of
from tests.conftest import one_line
from tests.export.c.board_tools import INT8, argv_of, need
from tests.export.c.tiny import tiny_batch

MAIN = edgeline_export.cli.main
SOURCES = {"tiny.c", "tiny.h", "startup.c", "semihosting.c", "semihosting.h", "board.ld", "selftest.c",
           "selftest_data.h", "CMakeLists.txt", "model.onnx", "selftest.npz"}  # fmt: skip


@pytest.fixture
def export(tiny_file, tmp_path, command):
    """Export the tiny network: (exit code, stdout, stderr, the folder that artefacts are put in)."""

    def run(target, *options):
        return *command(MAIN, *argv_of(tiny_file, tmp_path / "out", target, *options)), tmp_path / "out"

    return run


# --- what it holds ----------------------------------------------------------------------------------------------------


@pytest.mark.cross
@pytest.mark.parametrize("options", [(), INT8], ids=["fp32", "int8"])
@pytest.mark.parametrize("target", BOARDS)
def test_an_artefact_for_a_board(on_board, command, target, options):
    folder = on_board(target, *options)
    manifest = open_artefact(folder).manifest
    assert SOURCES | {"tiny.elf", f"{target}.cmake"} <= set(manifest.files)
    assert manifest.build == "built"
    record = json.loads((folder / "manifest.json").read_text())["compilation"]
    network, image = record["network"], record["image"]
    assert record["board"]["machine"] == BOARDS[target].machine
    assert network["function"] == "tiny_infer"
    assert image["selftest_inputs"] == 16
    assert image["exact"] == bool(options)
    assert 0 < network["stack_bytes"] <= network["stack_bytes_static"] < image["stack_reserved_bytes"]
    assert network["stack_bytes"] < image["stack_bytes"] <= image["stack_reserved_bytes"]
    assert network["code_bytes"] + network["constants_bytes"] <= network["flash_bytes"] < image["flash_bytes"]
    # 8 x 8 inputs, 3 channels, a 3 x 3 filter; 6 x 6 of those into four outputs: every product takes an instruction.
    assert network["instructions"] > 36 * 27 + 4 * 108 or target == "cortex-m55"
    code, out, _ = command(edgeline.cli.main, "selftest", folder)
    assert code == 0
    assert f"passed: 16 inputs on {BOARDS[target].machine}, emulated, {network['instructions']:,} instructions" in out
    code, out, _ = command(edgeline.cli.main, "info", folder)
    assert code == 0
    assert f"tried on {BOARDS[target].machine}" in out
    assert f"{network['instructions']:,} instructions of tiny_infer" in out


@pytest.mark.cross
def test_the_same_export_gives_the_same_image_and_the_same_count(on_board, export):
    first, (code, out, _, folder) = on_board("cortex-m4"), export("cortex-m4")
    assert code == 0
    again = folder / first.name
    for name in SOURCES - {"selftest.npz"} | {"tiny.elf"}:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    one, other = (json.loads((at / "manifest.json").read_text())["compilation"] for at in (first, again))
    assert one == other
    assert f"counted   {one['network']['instructions']:,} instructions of tiny_infer" in out


@pytest.mark.cross
def test_it_says_what_it_is_to_a_session(on_board, command):
    with pytest.raises(MissingCapabilityError, match="holds a flash image for a board and no library: edgeline self"):
        edgeline.load(on_board("cortex-m4"))
    with edgeline.load(on_board("cortex-m4"), engine="onnxruntime") as session:
        assert session.infer(tiny_batch(count=1)).shape == (1, 4)
    code, _, _ = command(edgeline.cli.main, "selftest", on_board("cortex-m4"), "--engine", "onnxruntime")
    assert code == 0


@pytest.mark.cross
def test_its_cmake_project(on_board, tmp_path):
    need("cmake")
    folder, build = on_board("cortex-m4"), tmp_path / "build"
    subprocess.run(
        ["cmake", "-S", folder, "-B", build, "-DCMAKE_TOOLCHAIN_FILE=cortex-m4.cmake"], check=True, capture_output=True
    )
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    subprocess.run(["ctest", "--test-dir", build], check=True, capture_output=True)
    assert sections_of((build / "tiny.elf").read_bytes()) == sections_of((folder / "tiny.elf").read_bytes())


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.cross
def test_a_budget_takes_the_inputs_that_fit(on_board, export):
    """An input is 64 floats, what it must give 4."""
    image = json.loads((on_board("cortex-m4") / "manifest.json").read_text())["compilation"]["image"]
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
            r"tiny in fp32 needs [45],\d{3} bytes of flash, 4,096 are to be had: largest weights 1,904, code ",
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
def test_without_qemu_figures_are_absent_and_not_guessed(on_board, export, command, tmp_path, monkeypatch):
    need("arm-none-eabi-gcc")
    whole = on_board("cortex-m4")
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
    assert record["network"]["stack_bytes"] is None
    assert record["network"]["instructions"] is None
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
