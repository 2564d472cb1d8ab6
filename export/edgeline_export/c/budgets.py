"""Memory budgets of a microcontroller: parsed, held against what a network needs, and refused with the figures.

A budget is --ram or --flash; where none is given it is the board's memory. Both are about the flash image that is
linked, self-test included, and its linker script holds them too.
"""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass

from edgeline.errors import InputError
from edgeline_export.c.boards import Board

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "KB": 1 << 10, "M": 1 << 20, "MB": 1 << 20}


@dataclass(frozen=True, slots=True)
class Budgets:
    """Bytes of RAM and flash that an image may take."""

    ram: int
    flash: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what is needed, for people, and its bytes."""

    what: str
    bytes: int


def size(text: str) -> int:
    """Parse bytes for argparse: `16KB`, `1MB` or `16384`; KB is 1,024 bytes, MB 1,024 KB."""
    found = re.fullmatch(r"([1-9]\d{0,9})\s*([A-Za-z]*)", text.strip())
    unit = found[2].upper().replace("IB", "B") if found else ""
    if found is None or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"expected bytes like 16KB, 1MB or 16384, got '{text}'")
    return int(found[1]) * _UNITS[unit]


def size_text(count: int) -> str:
    """Return bytes as `size` takes them."""
    for unit in ("MB", "KB"):
        if count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return f"{count}"


def budgets_of(ram: int | None, flash: int | None, board: Board) -> Budgets:
    """Return the budgets; what is not given is the board's. Raises InputError for more than the board has."""
    for option, asked, there in (("--ram", ram, board.ram.bytes), ("--flash", flash, board.flash.bytes)):
        if asked is not None and asked > there:
            raise InputError(
                f"{option} {size_text(asked)} is more than the {size_text(there)} of the board that this target is "
                f"tried on ({board.what}): leave {option} out, or give {option} {size_text(there)}"
            )
    return Budgets(ram or board.ram.bytes, flash or board.flash.bytes)


def check(
    who: str, asked: Budgets, board: Board, flash: tuple[Part, ...], ram: tuple[Part, ...], precision: str
) -> None:
    """Raise InputError where parts do not fit into their memory: needed, there, the largest, and what to type next."""
    memories = (("--flash", asked.flash, board.flash.bytes, flash), ("--ram", asked.ram, board.ram.bytes, ram))
    for option, there, most, parts in memories:
        needed = sum(part.bytes for part in parts)
        if needed > there:
            raise InputError(
                f"{who} {_figures(option, needed, there, parts)}; {_way_out(option, needed, most, precision)}"
            )


def _figures(option: str, needed: int, there: int, parts: tuple[Part, ...]) -> str:
    largest = max(parts, key=lambda part: part.bytes)
    others = "".join(f", {part.what} {part.bytes:,}" for part in parts if part is not largest)
    return (
        f"needs {needed:,} bytes of {option.strip('-')}, {there:,} are to be had: largest {largest.what} "
        f"{largest.bytes:,}{others}"
    )


def _way_out(option: str, needed: int, most: int, precision: str) -> str:
    enough = math.ceil(needed / 1024) * 1024
    ways = [f"{option} {size_text(enough)}"] if enough <= most else []
    ways += ["--precision int8"] if precision != "int8" else []
    more = "" if enough <= most else f" (the target's board has {size_text(most)})"
    return f"give {' or '.join([*ways, 'a smaller network'])}{more}"
