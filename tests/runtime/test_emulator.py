"""What an image says is read, and put into words; QEMU itself is not needed here."""

import os

import pytest

import edgeline.cli
from edgeline.emulator import BoardRun, command_of, failure_of, find_emulator, instructions_of, run_image
from edgeline.errors import MissingCapabilityError, ResourceError
from tests.conftest import one_line


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


# --- artefacts that say that they are for a board ---------------------------------------------------------------------

BOARD = {"machine": "mps2-an386", "what": "a board", "ram_bytes": 16384, "flash_bytes": 98304}


def for_a_board(edit_manifest, artefact, **compilation):
    record = {"prefix": "lenet", "board": BOARD, **compilation}
    edit_manifest(artefact, format="c", target={"name": "cortex-m4", "architecture": "arm"}, compilation=record)


@pytest.mark.parametrize(
    "more",
    [{}, {"network": 5, "image": []}, {"network": {"code_bytes": "many"}, "image": {"x": 1}}, {"board": {}}],
)
def test_information_that_is_not_there(artefact, edit_manifest, command, more):
    for_a_board(edit_manifest, artefact, **more)
    code, out, _ = command(edgeline.cli.main, "info", artefact)
    assert code == 0
    assert "cortex-m4" in out


def test_a_machine_that_is_not_known_is_not_started(artefact, edit_manifest, command):
    for_a_board(edit_manifest, artefact, board={**BOARD, "machine": "virt -drive file=x"})
    code, _, err = command(edgeline.cli.main, "selftest", artefact)
    assert code == 2
    assert "is for the board 'virt -drive file=x'; known: microbit, mps2-an386" in one_line(err)


def test_sources_without_an_image(artefact, edit_manifest, command):
    for_a_board(edit_manifest, artefact)
    code, _, err = command(edgeline.cli.main, "selftest", artefact)
    assert code == 3
    assert "is for a board and holds sources alone" in one_line(err)


def test_a_session_for_a_board(artefact, edit_manifest, command):
    for_a_board(edit_manifest, artefact)
    code, _, err = command(edgeline.cli.main, "run", artefact, "digit.pgm")
    assert code == 3
    assert "edgeline selftest runs it in QEMU, or --engine onnxruntime runs its graph here" in one_line(err)
