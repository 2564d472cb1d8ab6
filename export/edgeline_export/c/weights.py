"""The constant arrays of a library: as C text, or, where they are large, in a file beside it that the assembler reads.

C text compiles at some 5 s per million floats; `.incbin` copies a file of any size, with GNU's and LLVM's assemblers. A
shared library for several instruction sets holds the arrays once: one object defines them for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeline_export.c.ir import C_TYPES
from edgeline_export.c.program import ALIGNMENT, Parameter
from edgeline_export.c.text import array_lines, comment

APART_BYTES = 1_000_000  # above it, the arrays lie in a file of their own

_SHARING = """\
/* The weights. Of several objects in one library the one with EDGELINE_WEIGHTS_SHARED holds them, and those with
 * EDGELINE_WEIGHTS_ELSEWHERE refer to it. */
#if defined(__GNUC__)
#define EDGELINE_HIDDEN __attribute__((visibility("hidden")))
#else
#define EDGELINE_HIDDEN
#endif
"""


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """A constant array and its name in C."""

    name: str
    parameter: Parameter

    @property
    def c_type(self) -> str:
        """C's name for its elements."""
        return C_TYPES[self.parameter.values.dtype.name]

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.parameter.values.nbytes


def file_name(name: str) -> str:
    """Return the name of the file for large weights."""
    return f"{name}.weights.bin"


def total_bytes(arrays: Sequence[Array]) -> int:
    """Return the bytes of all arrays."""
    return sum(array.bytes for array in arrays)


def lies_apart(arrays: Sequence[Array]) -> bool:
    """Whether the arrays are too large for C text."""
    return total_bytes(arrays) > APART_BYTES


def weights_text(arrays: Sequence[Array], name: str) -> str:
    """Return the part of NAME.c that defines the arrays, or refers to them."""
    if not arrays:
        return ""
    return _SHARING + (_text_of_file(arrays, name) if lies_apart(arrays) else _text_of_arrays(arrays))


def weights_bytes(arrays: Sequence[Array]) -> bytes:
    """Return NAME.weights.bin: the arrays in little-endian order, each at a multiple of ALIGNMENT."""
    content = bytearray()
    for array in arrays:
        content += bytes(-len(content) % ALIGNMENT)
        values = np.ascontiguousarray(array.parameter.values)
        content += values.astype(values.dtype.newbyteorder("<")).tobytes()
    return bytes(content)


def _text_of_arrays(arrays: Sequence[Array]) -> str:
    lines = ["#if defined(EDGELINE_WEIGHTS_ELSEWHERE)"]
    for array in arrays:
        size = array.parameter.values.size
        lines.append(f"extern EDGELINE_HIDDEN EDGELINE_ALIGNED const {array.c_type} {array.name}[{size}];")
    lines += [
        "#else",
        "#if defined(EDGELINE_WEIGHTS_SHARED)",
        "#define EDGELINE_WEIGHTS EDGELINE_HIDDEN EDGELINE_ALIGNED",
        "#else",
        "#define EDGELINE_WEIGHTS static EDGELINE_ALIGNED",
        "#endif",
    ]
    for array in arrays:
        values = array.parameter.values
        lines.append(f"/* {comment(array.parameter.what)} */")
        lines.append(f"EDGELINE_WEIGHTS const {array.c_type} {array.name}[{values.size}] = {{")
        lines += array_lines(values)
        lines.append("};")
    lines.append("#endif")
    return "\n".join(lines) + "\n"


def _text_of_file(arrays: Sequence[Array], name: str) -> str:
    upper = name.upper()
    lines = [
        "/* They lie in a file: an assembler that knows .incbin (GNU's, LLVM's) finds it along -I, or where",
        f" * {upper}_WEIGHTS names it. */",
        "#if !defined(EDGELINE_WEIGHTS_ELSEWHERE)",
        f"#ifndef {upper}_WEIGHTS",
        f'#define {upper}_WEIGHTS "{file_name(name)}"',
        "#endif",
        "#if defined(__APPLE__)",
        f'__asm__(".const\\n.private_extern _{name}_weights\\n.globl _{name}_weights\\n.balign {ALIGNMENT}\\n"',
        f'        "_{name}_weights:\\n.incbin \\"" {upper}_WEIGHTS "\\"\\n.text\\n");',
        "#else",
        f'__asm__(".section .rodata\\n.hidden {name}_weights\\n.globl {name}_weights\\n.balign {ALIGNMENT}\\n"',
        f'        "{name}_weights:\\n.incbin \\"" {upper}_WEIGHTS "\\"\\n.text\\n");',
        "#endif",
        "#endif",
        f"extern EDGELINE_HIDDEN EDGELINE_ALIGNED const unsigned char {name}_weights[{len(weights_bytes(arrays))}];",
    ]
    offset = 0
    for array in arrays:
        offset += -offset % ALIGNMENT
        lines.append(f"/* [{array.parameter.values.size}] {comment(array.parameter.what)} */")
        lines.append(f"#define {array.name} ((const {array.c_type} *)(const void *)({name}_weights + {offset}))")
        offset += array.bytes
    return "\n".join(lines) + "\n"
