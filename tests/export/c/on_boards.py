"""Runs generated C where microcontrollers' instructions are: SMLAD in a Linux process, MVE on an emulated board."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeline_export.c.emit import sources
from edgeline_export.c.header import Heading
from edgeline_export.c.targets import TARGETS
from tests.export.c.harness import WARNINGS, build, program_of, run_executable

# Boards with the memory that board.ld says; a Cortex-M3 runs all that a Cortex-M0+ does.
_MACHINES = {
    "cortex-m0plus": "mps2-an385",
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m55": "mps3-an547",
}
_BOARD = Path(__file__).with_name("board")
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
    machine = [*chosen.variants[0].flags, "--specs=rdimon.specs"]
    told = subprocess.run(
        ["arm-none-eabi-gcc", *machine, "-print-file-name=rdimon-crt0.o"], capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        ["arm-none-eabi-gcc", *machine, "-std=c99", *WARNINGS, "-Wno-pedantic", *flags, "-nostartfiles",
         '-DHEADER="net.h"', "-DNAME(function)=net_##function", f"-DSAMPLES={samples}", f"-DIN_BYTES={len(given)}",
         f"-DOUT_BYTES={out_bytes}", "-DBYTES=NET_ARENA_BYTES", f"-I{folder}", "-T", _BOARD / "board.ld",
         _BOARD / "start.c", _BOARD / "runner.c", folder / "net.c", told.stdout.strip(), "-lm",
         "-o", folder / "net.elf"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    ran = subprocess.run(
        ["qemu-system-arm", "-M", _MACHINES[target], "-nographic", "-monitor", "none", "-serial", "none",
         "-semihosting-config", "enable=on,target=native", "-kernel", folder / "net.elf"],
        cwd=folder, capture_output=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 0, f"exit code {ran.returncode}: {ran.stderr.decode(errors='replace')[-1000:]}"
    return np.frombuffer((folder / "out").read_bytes(), program.output.dtype).reshape(shape)
