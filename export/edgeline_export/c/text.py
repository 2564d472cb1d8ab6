"""Values as C writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH = 120
_PER_LINE = {"float32": 8, "int8": 24, "uint8": 24, "int32": 10, "int64": 8}
_KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "main",
        # libNAME.so would stand before the system's
        "c",
        "dl",
        "m",
        "pthread",
        "rt",
    ]
)


def identifier(name: str) -> str:
    """Return a name that C takes: letters, digits and underscores, and no keyword."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"n_{plain}" if not plain or plain[0].isdigit() or plain in _KEYWORDS or plain[0] == "_" else plain


def comment(text: str) -> str:
    """Return a text that can stand in a C comment, on one line, in ASCII."""
    plain = " ".join(text.split()).encode("ascii", "replace").decode()
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\")


def string_literal(text: str) -> str:
    """Return a C string: UTF-8, what is not printable ASCII in octal."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{plain}"'


def float_literal(value: float) -> str:
    """Return the shortest decimal that is this float32 again."""
    if value == 0:
        return "-0.0f" if np.signbit(value) else "0.0f"
    text = np.format_float_scientific(np.float32(value), unique=True, trim="0", exp_digits=1)
    mantissa, _, exponent = text.partition("e")
    number = np.float32(value)
    plain = np.format_float_positional(number, unique=True, trim="0") if 1e-3 <= abs(number) < 1e6 else ""
    return f"{plain}f" if plain else f"{mantissa}e{int(exponent)}f"


def literal(value: Any) -> str:
    """Return a number, a name, a sequence or a mapping as an initialiser."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f".{name} = {literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "{" + (", ".join(map(literal, value)) or "{0}") + "}"
    if isinstance(value, (float, np.floating)):
        return float_literal(float(value))
    return str(int(value))


def initialiser_lines(start: str, value: Any, indent: int) -> list[str]:
    """Return `start` and an initialiser, ended by a comma, in lines of at most _WIDTH columns where that can be."""
    line = f"{' ' * indent}{start}{literal(value)},"
    nested = isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str))
    if len(line) <= _WIDTH or not nested:
        return [line]
    items = (
        [(f".{n} = ", item) for n, item in value.items()] if isinstance(value, Mapping) else [("", v) for v in value]
    )
    inner = [one for begin, item in items for one in initialiser_lines(begin, item, indent + 4)]
    return [f"{' ' * indent}{start}{{", *inner, f"{' ' * indent}}},"]


def array_lines(values: npt.NDArray[Any]) -> list[str]:
    """Return the numbers of an array in memory order, some to a line."""
    flat = values.reshape(-1)
    numbers = [float_literal(v) for v in flat] if flat.dtype == np.float32 else [str(int(v)) for v in flat]
    step = _PER_LINE[flat.dtype.name]
    return [", ".join(numbers[i : i + step]) + "," for i in range(0, len(numbers), step)]
