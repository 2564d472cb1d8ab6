"""Flash images of artefacts for microcontrollers, run on boards that QEMU emulates.

The image speaks over semihosting (startup.c, selftest.c of the artefact). QEMU advances time by 256 ns with each
instruction (-icount shift=8): four ticks of SysTick at least, so that they tell the number of instructions exactly. It
is the same in each run, and no time.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeline.artefact import Artefact
from edgeline.errors import ArtefactError, GateError, MissingCapabilityError, ResourceError

PROGRAM = "qemu-system-arm"
PACKAGE = "qemu-system-arm"
OPTIONS = ("-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native")
COUNTING = ("-icount", "shift=8,sleep=off")
_INSTRUCTION_PS = 256_000  # 2^8 ns

# The machines, and the picoseconds of a tick of SysTick: hw/arm/mps2.c, mps3-an547's 32 MHz, nrf51's 16 MHz.
TICK_PS = {"microbit": 62_500, "mps2-an386": 40_000, "mps2-an500": 40_000, "mps3-an547": 31_250}
_HANDLER = 5  # instructions of the interrupt that counts the wraps of SysTick
_COUNTER = 1 << 24

_FIGURE = re.compile(r"^([a-z ]+): (\d+)$", re.MULTILINE)
_DIFFERS = re.compile(
    r"^differs: input (\d+) output (\d+) found 0x([0-9a-f]{8}) expected 0x([0-9a-f]{8})$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class BoardRun:
    """What an image did: its exit code, all that it said, and the figures in that."""

    machine: str
    exit_code: int
    text: str
    figures: Mapping[str, int]

    @property
    def instructions(self) -> int | None:
        """The instructions of one call of the library, where the image told its ticks."""
        if "ticks" not in self.figures or "empty" not in self.figures:
            return None
        wraps = self.figures.get("wraps", 0)
        return instructions_of(wraps, self.figures["ticks"] - self.figures["empty"], self.machine)


def instructions_of(wraps: int, ticks: int, machine: str) -> int:
    """Return how many instructions passed while SysTick wrapped and ticked so often."""
    whole = wraps * _COUNTER + ticks
    return round(whole * TICK_PS[machine] / _INSTRUCTION_PS) - wraps * _HANDLER


def find_emulator() -> str:
    """Return QEMU's path. Raises MissingCapabilityError, which names the package, where it is not installed."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise MissingCapabilityError(f"{PROGRAM} is not installed: apt-get install {PACKAGE}")
    return found


def command_of(machine: str, image: str) -> tuple[str, ...]:
    """Return the words that run an image."""
    return (PROGRAM, "-M", machine, *OPTIONS, *COUNTING, "-kernel", image)


def run_image(image: Path, machine: str, timeout_s: float = 300.0) -> BoardRun:
    """Run an image in its folder until it exits.

    Raises MissingCapabilityError without QEMU, ResourceError when the image does not end.
    """
    program = find_emulator()
    try:
        done = subprocess.run(
            [program, *command_of(machine, image.name)[1:]], cwd=image.parent, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ResourceError(f"{image.name} did not end on {machine} within {timeout_s:.0f} s") from None
    text = done.stdout + done.stderr
    figures = {name: int(number) for name, number in _FIGURE.findall(text)}
    return BoardRun(machine, done.returncode, text, figures)


def failure_of(run: BoardRun, dtype: str = "float32") -> str | None:
    """Return in words why a self-test did not pass, its exit code and the first differing output; None where it did."""
    if run.exit_code == 0 and "passed" in run.figures:
        return None
    code = f"exit code {run.exit_code}"
    found = _DIFFERS.search(run.text)
    if found is not None:
        values = " where ".join(f"{_decimal(bits, dtype)} (0x{bits})" for bits in found.groups()[2:])
        return f"{code}: output {found[2]} of input {found[1]} is {values} is expected"
    if "error" in run.figures:
        return f"{code}: the library returned {run.figures['error']}"
    if run.exit_code >= 64:
        return f"{code}: the processor stopped at exception {run.exit_code - 64} (3 is a HardFault)"
    last = (run.text.strip().splitlines() or ["it said nothing"])[-1]
    return f"{code}: {last}"


def board_of(artefact: Artefact) -> Mapping[str, Any] | None:
    """Return what the manifest says of the board that an artefact is for; None for one that is for an OS."""
    manifest = artefact.manifest
    found = (manifest.compilation or {}).get("board") if manifest.format == "c" else None
    return found if isinstance(found, dict) and found else None


def run_selftest_image(artefact: Artefact) -> BoardRun:
    """Run the self-test of an artefact for a board under QEMU.

    Raises GateError when it does not pass, MissingCapabilityError where there is no image or no QEMU, ArtefactError for
    a board that is not known.
    """
    board = board_of(artefact) or {}
    machine, image = str(board.get("machine")), f"{(artefact.manifest.compilation or {}).get('prefix')}.elf"
    if machine not in TICK_PS:
        raise ArtefactError(f"{artefact.name} is for the board '{machine}'; known: {', '.join(TICK_PS)}")
    if image not in artefact.manifest.files:
        raise MissingCapabilityError(
            f"{artefact.name} is for a board and holds sources alone: export it again where there is a compiler "
            "(apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi), or build it with its CMakeLists.txt"
        )
    try:
        run = run_image(artefact.file(image), machine)
    except MissingCapabilityError as error:
        words = " ".join(command_of(machine, str(artefact.folder / image)))
        raise MissingCapabilityError(f"{artefact.name} is for a board: {error}, then {words}") from None
    failure = failure_of(run, artefact.manifest.outputs[0].dtype)
    if failure is not None:
        raise GateError(f"self-test of {artefact.name} on {machine} failed with {failure}")
    return run


def _decimal(bits: str, dtype: str) -> str:
    whole = int(bits, 16)
    if dtype != "float32":
        return str(whole)
    (number,) = struct.unpack("<f", struct.pack("<I", whole))
    return f"{number:.9g}"
