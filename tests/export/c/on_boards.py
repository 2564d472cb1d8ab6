"""Runs generated C where microcontrollers' instructions are: SMLAD in a Linux process, MVE on an emulated board."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeline.emulator import OPTIONS, PROGRAM
from edgeline_export.c.boards import BOARDS
from edgeline_export.c.budgets import Budgets
from edgeline_export.c.emit import sources
from edgeline_export.c.firmware_files import fixed_files, linker_script
from edgeline_export.c.header import Heading
from edgeline_export.c.targets import TARGETS
from tests.export.c.harness import WARNINGS, build, program_of, run_executable

# A Cortex-M3 runs all that a Cortex-M0+ does, and its board has room for every test.
_BOARDS = {**BOARDS, "cortex-m0plus": replace(BOARDS["cortex-m4"], machine="mps2-an385", fpu=False)}
_RUNNER = Path(__file__).with_name("board_runner.c")
PACKAGES = {
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    "qemu-arm": "qemu-user",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}


def needed(*programs):
    """Skip the test where a program is not installed, by the name of its package."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {PACKAGES[program]}")


def run_in_linux(folder, model, target, batch, flags=("-O2",)):
    """What a network computes as Thumb code with the DSP extension, which every ARMv7-A has."""
    needed("arm-linux-gnueabihf-gcc", "qemu-arm")
    isa = ("-mthumb", "-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard", "-static", "-Wno-psabi")
    built = build(folder, model, target, "arm-linux-gnueabihf-gcc", flags, isa=isa)
    return run_executable(built.program, ["qemu-arm", built.executable], batch)


def run_on_board(folder, model, target, batch, flags=("-O2",)):
    """What a network computes on the board that QEMU emulates for a target."""
    needed("arm-none-eabi-gcc", "qemu-system-arm")
    chosen, program = TARGETS[target], program_of(model, target)
    for file, content in sources(program, chosen, Heading("0" * 64, "edgeline", "a test")).items():
        (folder / file).write_bytes(content)
    given = np.ascontiguousarray(batch, program.input.dtype).tobytes()
    samples, shape = len(batch), (len(batch), *program.output.shape[1:])
    if not program.free_batch:
        samples, shape = program.input.shape[0], program.output.shape
    out_bytes = int(np.prod(shape)) * np.dtype(program.output.dtype).itemsize
    (folder / "in").write_bytes(given)
    board = _BOARDS[target]
    files = fixed_files("net", chosen, board)
    files["board.ld"] = linker_script("net", board, Budgets(board.ram.bytes, board.flash.bytes), 16384)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    done = subprocess.run(
        ["arm-none-eabi-gcc", *chosen.variants[0].flags, "-std=c99", *WARNINGS, *flags, "-nostartfiles",
         '-DHEADER="net.h"', "-DNAME(function)=net_##function", f"-DSAMPLES={samples}", f"-DIN_BYTES={len(given)}",
         f"-DOUT_BYTES={out_bytes}", "-DBYTES=NET_ARENA_BYTES", f"-I{folder}", "-T", folder / "board.ld",
         folder / "startup.c", folder / "semihosting.c", _RUNNER, folder / "net.c", "-lm", "-o", folder / "net.elf"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    ran = subprocess.run(
        [PROGRAM, "-M", board.machine, *OPTIONS, "-kernel", folder / "net.elf"],
        cwd=folder, capture_output=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 0, f"exit code {ran.returncode}: {ran.stderr.decode(errors='replace')[-1000:]}"
    return np.frombuffer((folder / "out").read_bytes(), program.output.dtype).reshape(shape)
