"""The boards that microcontroller targets are tried on, as QEMU emulates them: a literal table.

What is said of a board here is its memory map, which the linker script is made from. A board of yours has a map of its
own: the artefact's linker script is a start.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Region:
    """Memory of a board: its first address and its bytes."""

    origin: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Board:
    """A board: QEMU's `machine`, and where code and data lie. `fpu`: whether start-up code must switch one on."""

    machine: str
    what: str
    flash: Region
    ram: Region
    fpu: bool = True


_MIB = 1 << 20
_CODE, _DATA = 0x0000_0000, 0x2000_0000

BOARDS = {
    "cortex-m0plus": Board(
        "microbit", "BBC micro:bit, a Cortex-M0", Region(_CODE, 256 << 10), Region(_DATA, 16 << 10), fpu=False
    ),
    "cortex-m4": Board("mps2-an386", "Arm MPS2 with AN386", Region(_CODE, 4 * _MIB), Region(_DATA, 4 * _MIB)),
    "cortex-m7": Board("mps2-an500", "Arm MPS2 with AN500", Region(_CODE, 4 * _MIB), Region(_DATA, 4 * _MIB)),
    "cortex-m55": Board("mps3-an547", "Arm MPS3 with AN547", Region(_CODE, 512 << 10), Region(_DATA, 512 << 10)),
}
