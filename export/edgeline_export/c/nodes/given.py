"""What a reader of a node is given, and what readers have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation


@dataclass(frozen=True, slots=True)
class Given:
    """A node, and what is known of its graph: shapes of all tensors (batch 1 where it is free), constants."""

    node: onnx.NodeProto
    attributes: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, npt.NDArray[Any]]
    free_batch: bool

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an input."""
        return self.shapes[self.node.input[index]]

    def has(self, index: int) -> bool:
        """Whether an input is there: optional ones may be left out."""
        return len(self.node.input) > index and bool(self.node.input[index])

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """Return an input's numbers, None where it is left out; raise InputError where it is computed."""
        if not self.has(index):
            return None
        name = self.node.input[index]
        if name not in self.constants:
            raise InputError(f"its input '{name}' is computed, where a constant is taken")
        return self.constants[name]

    def number(self, index: int, default: float) -> float:
        """Return the single number that an input holds, `default` where it is left out."""
        values = self.constant(index)
        if values is None:
            return default
        if values.size != 1:
            raise InputError(f"its input '{self.node.input[index]}' holds {values.size} numbers, where 1 is taken")
        return float(values.reshape(-1)[0])

    def numbers(self, index: int) -> tuple[int, ...] | None:
        """Return the whole numbers that an input holds; None where it is left out."""
        values = self.constant(index)
        return None if values is None else tuple(int(value) for value in values.reshape(-1))

    def axis(self, value: int, rank: int | None = None) -> int:
        """Return an axis of the first input, or of a tensor of `rank` dimensions, counted from the front.

        Raises InputError where it is the free batch: the operator would mix samples.
        """
        rank = len(self.shape(0)) if rank is None else rank
        found = value + rank if value < 0 else value
        if not 0 <= found < rank:
            raise InputError(f"its axis {value} is not one of {rank}")
        if found == 0 and self.free_batch:
            raise InputError("its axis is the batch: it mixes the samples, and each is computed by itself")
        return found

    def operation(self, attributes: Mapping[str, Any], operator: str = "", inputs: int | None = None) -> Operation:
        """Return the operation with these attributes, of the first `inputs` inputs, or all."""
        node = self.node
        name = (node.name or node.output[0],)
        return Operation(operator or node.op_type, name, tuple(node.input[:inputs]), node.output[0], dict(attributes))


Read = Callable[[Given], Operation]


def need_constants(given: Given, first: int) -> None:
    """Raise InputError where an input from `first` on is computed."""
    for index in range(first, len(given.node.input)):
        given.constant(index)


def single_precision(value: float) -> float:
    """Return a number as float32 holds it, its infinities as the largest that there are: C has literals for those."""
    largest = float(np.finfo(np.float32).max)
    return float(np.float32(min(max(value, -largest), largest)))
