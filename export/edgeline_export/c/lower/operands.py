"""What a step reads: tensors by their layouts, constants as parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeline_export.c.lower.context import Lowering, plus
from edgeline_export.c.program import Parameter, contiguous


@dataclass(frozen=True, slots=True)
class Operand:
    """The C text of the address of an operand's first number, its shape and strides; `sample` from one sample on."""

    text: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    sample: int


@dataclass(frozen=True, slots=True)
class Operands:
    """All operands of a step."""

    all: tuple[Operand, ...]
    reads: tuple[str, ...]
    parameters: tuple[Parameter, ...]


def operands_of(names: Sequence[str], lowering: Lowering) -> Operands:
    """Return the operands by name; a constant is the same for every sample."""
    found: list[Operand] = []
    reads: list[str] = []
    parameters: list[Parameter] = []
    for name in names:
        if lowering.is_constant(name):
            values = np.ascontiguousarray(lowering.constant(name), np.float32)
            layout = contiguous(lowering.constant(name).shape)
            found.append(Operand(f"{{w{len(parameters)}}}", layout.shape, layout.strides, 0))
            parameters.append(Parameter(values, f"{name}, {list(layout.shape)}"))
            continue
        layout = lowering.layout(name)
        if name not in reads:
            reads.append(name)
        number = reads.index(name)
        text = f"{{x{number or ''}}}{plus(layout.offset)}"
        found.append(Operand(text, layout.shape, layout.strides, layout.size))
    return Operands(tuple(found), tuple(reads), tuple(parameters))
