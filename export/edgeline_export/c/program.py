"""What the lowering makes of a network: steps, each one call of a kernel, and the memory that they share.

Everything is a literal by now: sizes, strides, packed weights. emit.py only writes it down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Tensor

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the numbers of one sample's tensor lie: `offset` to the first, a stride per dimension, in numbers.

    `size` counts the numbers of the whole buffer, with padding, which holds `fill`. `source` is where the numbers lie
    of a tensor that this one is another shape of, in the same memory.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    size: int
    fill: float | None = None
    source: Layout | None = None

    @property
    def dense(self) -> bool:
        """Whether there is nothing in the buffer but the tensor's own numbers, in whatever order."""
        return self.size == math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the numbers lie in the tensor's own order, without padding."""
        if self.source is not None:
            return self.source.contiguous
        return self.dense and all(
            s == t for n, s, t in zip(self.shape, self.strides, contiguous(self.shape).strides, strict=True) if n > 1
        )

    def order(self) -> npt.NDArray[np.int64]:
        """Return, for a dense layout, which number of the tensor (in its own order) lies at each place in memory."""
        if self.source is not None:
            return self.source.order()
        places = np.full(self.size, -1, np.int64)
        grid = np.indices(self.shape, sparse=True)
        at = self.offset + sum(axis * stride for axis, stride in zip(grid, self.strides, strict=True))
        places[np.asarray(at).reshape(-1)] = np.arange(math.prod(self.shape))
        return places


def contiguous(shape: tuple[int, ...]) -> Layout:
    """Return ONNX's own order: the last dimension beside each other."""
    strides = [1] * len(shape)
    for i in reversed(range(len(shape) - 1)):
        strides[i] = strides[i + 1] * shape[i + 1]
    return Layout(shape, tuple(strides), 0, math.prod(shape))


def channels_last(
    shape: tuple[int, ...], pads: tuple[int, int, int, int] = (0, 0, 0, 0), fill: float | None = None
) -> Layout:
    """Return the layout of [n, c, h, w] with the channels of a pixel beside each other, within pads of `fill`."""
    n, c, h, w = shape
    top, left, bottom, right = pads
    row = (w + left + right) * c
    image = (h + top + bottom) * row
    return Layout(shape, (image, 1, row, c), top * row + left * c, n * image, fill if any(pads) else None)


@dataclass(frozen=True, slots=True)
class Struct:
    """The literal that describes a layer to its kernel: C's type, and its members by name; nested ones are mappings."""

    c_type: str
    members: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A constant array as the kernel reads it; `what` says its order and where it comes from."""

    values: npt.NDArray[Any]
    what: str


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of a kernel of kernels/.

    `call` is C with {x}, {x1}.. for the tensors read, {y} for the one written, {layer} for the address of the struct,
    {w0}, {w1}.. for the parameters, {rows} for the number of samples, {part} and {parts}; {scratch} for `scratch_bytes`
    of its own. `title` is for people; `nodes` are the ONNX nodes that it carries out. `parallel`: it can be done in
    parts; `takes_rows`: it can be done for a block of samples at once. `made`: what it writes, where the network has no
    such tensor.
    """

    title: str
    nodes: tuple[str, ...]
    kernel: str
    call: str
    reads: tuple[str, ...]
    writes: str
    layer: Struct | None = None
    parameters: tuple[Parameter, ...] = ()
    scratch_bytes: int = 0
    macs: int = 0
    parallel: bool = False
    takes_rows: bool = False
    made: tuple[Tensor, Layout] | None = None


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor's place: `offset` bytes into the arena, or "input" or "output" of the caller.

    `per_row`: there is one for each sample of a block, `bytes` apart. `fill` is what its padding holds, if it has any.
    """

    place: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    offset: int = 0
    per_row: bool = False
    fill: float | None = None


@dataclass(frozen=True, slots=True)
class QuantisedInput:
    """What the first step makes of the input, where it only quantises it: a tensor's name, its grid, its layout.

    `dtype` is uint8, or int8 with a zero point to match.
    """

    name: str
    scale: float
    zero_point: int
    dtype: str
    layout: Layout


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Steps for each sample, then steps for a block of up to `rows` samples; buffers by tensor.

    Where the input is made from images it lies at `pixel_offset` of an arena of `pixel_arena_bytes`; `pixel_rows`:
    there is one for each sample of a block. With `quantised_input` there is none: images become that tensor.
    `shared_samples`: from how many on threads share a call's samples; 0 where they share its large layers, or nothing.
    `notes`: what a user should know, a sentence each.
    """

    name: str
    sample_steps: tuple[Step, ...]
    row_steps: tuple[Step, ...]
    rows: int
    buffers: Mapping[str, Buffer]
    arena_bytes: int
    scratch_offsets: Mapping[int, int]
    input: Buffer
    output: Buffer
    free_batch: bool
    pixel_offset: int
    pixel_arena_bytes: int
    pixel_rows: bool
    shared_samples: int = 0
    quantised_input: QuantisedInput | None = None
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in order."""
        return (*self.sample_steps, *self.row_steps)

    @property
    def has_threads(self) -> bool:
        """Whether the library has anything that is worth several threads."""
        return self.shared_samples > 0 or any(step.parallel for step in self.steps)
