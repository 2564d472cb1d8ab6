"""The intermediate representation: a network as frozen records, between the ONNX graph and the C text.

Operators and attributes have ONNX's names, and attributes are whole: no auto_pad, no missing stride, no negative axis.
A shape holds the batch as its first number: 1 where the batch is free, since every sample is computed by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

# The dtypes that a tensor may have, and C's name for their elements.
C_TYPES = {"float32": "float", "uint8": "uint8_t", "int8": "int8_t", "int32": "int32_t", "int64": "int64_t"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An activation: its name in the graph, its shape with the batch, its dtype of C_TYPES.

    A quantised one is uint8 and stands for scale * (number - zero_point).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: float | None = None
    zero_point: int = 0

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """The bytes of its elements, without any padding."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What a constant of floats stands for: (values - zero_point) * scale, along `axis` where there are many scales.

    `values`: int8, uint8 or int32. `node` is the DequantizeLinear that made floats of it.
    """

    values: npt.NDArray[Any]
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[Any]
    axis: int
    node: str

    def floats(self) -> npt.NDArray[np.float32]:
        """Return the numbers that it stands for, float32, in the shape of the values."""
        shape = [1] * self.values.ndim
        if self.scale.ndim and self.values.ndim:
            shape[self.axis] = -1
        whole = self.values.astype(np.int64) - self.zero_point.astype(np.int64).reshape(shape)
        made = whole.astype(np.float32) * self.scale.reshape(shape)
        return np.asarray(made, np.float32).reshape(self.values.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operator. `inputs` name tensors or constants, "" is one left out; `nodes` the ONNX nodes that it carries out.

    `fused` is what happens to each element of the result before it is stored, in that order.
    """

    operator: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fused: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Operations in an order in which they can be carried out, with one input and one output.

    `free_batch`: the caller chooses how many samples; otherwise the graph's own first dimension is part of the sample.
    `levels`: the integers behind constants of floats. `notes`: what a user should know, a sentence each.
    """

    name: str
    input: str
    output: str
    free_batch: bool
    operations: tuple[Operation, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, npt.NDArray[Any]]
    levels: Mapping[str, Levels] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def readers(self, name: str) -> tuple[Operation, ...]:
        """Return the operations that read a tensor."""
        return tuple(operation for operation in self.operations if name in operation.inputs)

    def producer(self, name: str) -> Operation | None:
        """Return the operation that makes a tensor; None for the input and for constants."""
        return next((operation for operation in self.operations if operation.output == name), None)

    def activations(self, operation: Operation) -> Iterator[Tensor]:
        """Yield the tensors, not the constants, that an operation reads."""
        for name in operation.inputs:
            if name in self.tensors:
                yield self.tensors[name]
