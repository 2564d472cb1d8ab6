"""The counter of instructions, against programs in assembler whose instructions are counted by hand."""

import shutil
import subprocess

import pytest

from edgeline.errors import EdgelineError, InputError, MissingCapabilityError
from edgeline_bench.emulated.instructions import by_function, instructions

pytestmark = pytest.mark.cross

# Two before the loop, three in each turn, `mov mov svc` behind it; _start, inner and the exit are functions.
AARCH64 = """
    .global _start
    .type _start, %function
_start:
    mov x0, #0
    mov x1, #TURNS
1:  add x0, x0, #1
    cmp x0, x1
    b.ne 1b
    mov x0, #CODE
    mov x8, #93
    svc #0
    .size _start, . - _start
"""
# The same, and a call of two instructions in each turn: 2 + 4 n + 2 n + 3.
CALLING = """
    .global _start
    .type inner, %function
inner:
    mov x2, x0
    ret
    .size inner, . - inner
    .type _start, %function
_start:
    mov x0, #0
    mov x1, #TURNS
1:  bl inner
    add x0, x0, #1
    cmp x0, x1
    b.ne 1b
    mov x0, #CODE
    mov x8, #93
    svc #0
    .size _start, . - _start
"""
RISCV64 = """
    .global _start
    .type _start, @function
_start:
    li t0, 0
    li t1, TURNS
1:  addi t0, t0, 1
    bne t0, t1, 1b
    li a0, CODE
    li a7, 93
    ecall
    .size _start, . - _start
"""
ARM = """
    .arm
    .global _start
    .type _start, %function
_start:
    mov r1, #0
    movw r2, #TURNS
1:  add r1, r1, #1
    cmp r1, r2
    bne 1b
    mov r0, #CODE
    mov r7, #1
    svc #0
    .size _start, . - _start
"""
COMPILERS = {
    "aarch64-linux-gnu-gcc": ("gcc-aarch64-linux-gnu", "qemu-aarch64"),
    "riscv64-linux-gnu-gcc": ("gcc-riscv64-linux-gnu", "qemu-riscv64"),
    "arm-linux-gnueabihf-gcc": ("gcc-arm-linux-gnueabihf", "qemu-arm"),
}


def assembled(folder, text, compiler="aarch64-linux-gnu-gcc", turns=1000, code=0):
    package, qemu = COMPILERS[compiler]
    for program, needed in ((compiler, package), (qemu, "qemu-user"), ("cc", "gcc")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {needed}")
    source, made = folder / "program.s", folder / f"program-{turns}"
    source.write_text(text.replace("TURNS", str(turns)).replace("CODE", str(code)))
    subprocess.run([compiler, "-nostdlib", "-static", source, "-o", made], check=True)
    return made


@pytest.mark.parametrize("turns", [1, 7, 1000, 60_000])
def test_a_loop_is_counted_exactly(tmp_path, turns):
    assert instructions([assembled(tmp_path, AARCH64, turns=turns)]) == 2 + 3 * turns + 3


@pytest.mark.parametrize("cpu", ["cortex-a53", "max"])
def test_a_call_belongs_to_the_function_that_runs(tmp_path, cpu):
    program = assembled(tmp_path, CALLING, turns=500)
    assert by_function([program], cpu) == {"_start": 2 + 4 * 500 + 3, "inner": 2 * 500}


def test_other_architectures(tmp_path):
    assert instructions([assembled(tmp_path, RISCV64, "riscv64-linux-gnu-gcc")]) == 2 + 2 * 1000 + 3
    assert instructions([assembled(tmp_path, ARM, "arm-linux-gnueabihf-gcc")]) == 2 + 3 * 1000 + 3


def test_a_program_that_fails_is_not_counted(tmp_path):
    with pytest.raises(EdgelineError, match="under qemu-aarch64 ended with exit code 9: it said nothing"):
        instructions([assembled(tmp_path, AARCH64, code=9)])


def test_what_is_no_program(tmp_path):
    text = tmp_path / "text"
    text.write_text("no program at all, but long enough")
    with pytest.raises(InputError, match="is no ELF program for one of qemu-arm"):
        instructions([text])
    with pytest.raises(InputError, match="cannot be read"):
        instructions([tmp_path / "none"])


def test_without_qemu(tmp_path, monkeypatch):
    program = assembled(tmp_path, AARCH64)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingCapabilityError, match="qemu-aarch64 is not installed: apt-get install qemu-user"):
        instructions([program])
