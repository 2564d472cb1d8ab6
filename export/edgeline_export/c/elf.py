"""The bytes of machine code in an ELF file, from its section headers (System V ABI, "Sections")."""

from __future__ import annotations

import struct

_EXECUTABLE = 0x4  # SHF_EXECINSTR


def code_bytes(content: bytes) -> int | None:
    """Return the bytes of all sections that hold instructions; None where the file is no ELF."""
    if content[:4] != b"\x7fELF" or len(content) < 64:
        return None
    wide, order = content[4] == 2, "<" if content[5] == 1 else ">"
    if wide:
        (table,) = struct.unpack_from(f"{order}Q", content, 40)
        size, count = struct.unpack_from(f"{order}HH", content, 58)
    else:
        (table,) = struct.unpack_from(f"{order}I", content, 32)
        size, count = struct.unpack_from(f"{order}HH", content, 46)
    total = 0
    for at in range(table, table + size * count, size):
        if wide:
            _, _, flags, _, _, length = struct.unpack_from(f"{order}IIQQQQ", content, at)
        else:
            _, _, flags, _, _, length = struct.unpack_from(f"{order}IIIIII", content, at)
        total += length if flags & _EXECUTABLE else 0
    return total
