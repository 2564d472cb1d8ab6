"""What an image says is read, and put into words; QEMU itself is not needed here."""

import os

import pytest

from edgeline.emulator import BoardRun, command_of, failure_of, find_emulator, instructions_of, run_image
from edgeline.errors import MissingCapabilityError, ResourceError


def run(exit_code, text="", **figures):
    return BoardRun("mps2-an386", exit_code, text, figures)


def test_ticks_become_instructions():
    """256 ns an instruction: 6.4 ticks of 40 ns, 4.096 of 62.5 ns; five instructions of the handler a wrap."""
    assert instructions_of(0, 64, "mps2-an386") == 10
    assert instructions_of(0, 4096, "microbit") == 1000
    assert instructions_of(2, 4_845_632, "mps2-an386") == round((2 * 2**24 + 4_845_632) / 6.4) - 10


def test_what_passes():
    assert failure_of(run(0, "passed: 3\n", passed=3)) is None
    assert failure_of(run(0, "")) == "exit code 0: it said nothing"


def test_the_first_output_that_differs():
    text = "differs: input 3 output 7 found 0x3f800000 expected 0xc0200000\n"
    words = "exit code 1: output 7 of input 3 is 1 (0x3f800000) where -2.5 (0xc0200000) is expected"
    assert failure_of(run(1, text)) == words
    assert "is 1065353216 (0x3f800000)" in failure_of(run(1, text), "int32")


def test_other_ends():
    assert failure_of(run(3, "error: 4\n", error=4)) == "exit code 3: the library returned 4"
    assert failure_of(run(67)) == "exit code 67: the processor stopped at exception 3 (3 is a HardFault)"
    assert failure_of(run(-6, "qemu: fatal\nLockup\n")) == "exit code -6: Lockup"


def test_without_qemu(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(MissingCapabilityError, match="^qemu-system-arm is not installed: apt-get install qemu-system-"):
        find_emulator()


def test_the_command():
    words = " ".join(command_of("mps2-an386", "net.elf"))
    assert words.startswith("qemu-system-arm -M mps2-an386 ")
    assert words.endswith(" -icount shift=8,sleep=off -kernel net.elf")


def test_an_image_that_does_not_end(tmp_path, monkeypatch):
    odd = tmp_path / "qemu-system-arm"
    odd.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    odd.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="net.elf did not end on microbit within 0 s"):
        run_image(tmp_path / "net.elf", "microbit", timeout_s=0.2)
