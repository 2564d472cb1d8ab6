"""From steps to a program: what runs for each sample and what for a block of them, and where everything lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeline_export.c.arena import Life, place_beside, plan_arena
from edgeline_export.c.lower.context import Lowering
from edgeline_export.c.lower.conv_parts import PARALLEL_MACS
from edgeline_export.c.program import Buffer, Program, QuantisedInput, Step
from edgeline_export.c.targets import Target

# Bytes behind a buffer of bytes that a kernel may read: groups of four, vectors of pixels; the same without vectors of
# more than 16 bytes.
_READ_BEYOND, _READ_BEYOND_ON_BOARDS = 128, 16
# Weights beyond this do not stay in a core's own cache while other layers run.
_NEAR_BYTES = 1 << 20
_TILES_OF_LARGE_BLOCKS = 4
_SCRATCH = "\0scratch of step "  # no ONNX tensor is called so


def program_from_steps(lowering: Lowering, steps: Sequence[Step]) -> Program:
    """Return the program: steps split where a block of samples pays, and one arena planned."""
    network, target = lowering.network, lowering.target
    first_row_step = _first_row_step(steps) if network.free_batch and target.rows > 1 else len(steps)
    rows = _rows(steps[first_row_step:], target)
    roots = _roots(lowering, steps)
    made = {step.made[0].name: step.made for step in steps if step.made is not None}
    placed = {
        name: (lowering.tensor(name), lowering.layout(name)) if name in network.tensors else made[name]
        for name in roots
    }
    sizes = {name: layout.size * np.dtype(tensor.dtype).itemsize for name, (tensor, layout) in placed.items()}
    most = _READ_BEYOND_ON_BOARDS if target.board else _READ_BEYOND
    beyond = {name: most for name, (tensor, _) in placed.items() if tensor.dtype == "uint8"}
    lives, per_row = _lives(steps, roots, sizes, beyond, first_row_step, rows, _ends(lowering, roots))
    offsets, total = plan_arena(lives)
    own_input = _life_of_input(lowering, steps, roots, first_row_step, rows)
    quantised = _quantised_input(lowering, steps, first_row_step)
    pixel_offset, pixel_total = (0, total) if quantised else place_beside(own_input, lives, offsets)
    buffers = {}
    for name, root in roots.items():
        place = _ends(lowering, roots).get(root, "arena")
        tensor, layout = placed[name]
        in_rows = place == "arena" and root in per_row
        buffers[name] = Buffer(
            place, tensor.dtype, tensor.shape, sizes[root], offsets.get(root, 0), in_rows, layout.fill
        )
    scratch = {i: offsets[f"{_SCRATCH}{i}"] for i, step in enumerate(steps) if step.scratch_bytes}
    return Program(
        name=network.name,
        sample_steps=tuple(steps[:first_row_step]),
        row_steps=tuple(steps[first_row_step:]),
        rows=rows,
        buffers=buffers,
        arena_bytes=total,
        scratch_offsets=scratch,
        input=buffers[network.input],
        output=buffers[network.output],
        free_batch=network.free_batch,
        notes=network.notes,
        pixel_offset=pixel_offset,
        pixel_arena_bytes=max(pixel_total, 1),
        pixel_rows=own_input.bytes > sizes[network.input],
        shared_samples=_shared_samples(lowering, steps),
        quantised_input=quantised,
    )


def _rows(row_steps: Sequence[Step], target: Target) -> int:
    """Return how many samples are a block: more than a tile's where weights would come from memory each time."""
    if not row_steps:
        return 1
    weights_bytes = sum(parameter.values.nbytes for step in row_steps for parameter in step.parameters)
    return target.rows * (_TILES_OF_LARGE_BLOCKS if weights_bytes > _NEAR_BYTES else 1)


def _shared_samples(lowering: Lowering, steps: Sequence[Step]) -> int:
    """Return from how many samples on threads share them; 0 where layers are large enough to be shared, or for boards.

    Threads that share a layer read its weights once for all, and need no arena each.
    """
    macs = sum(step.macs for step in steps)
    if not lowering.network.free_batch or lowering.target.board or any(step.parallel for step in steps):
        return 0
    return max(2, math.ceil(PARALLEL_MACS / macs)) if macs else 0


def _quantised_input(lowering: Lowering, steps: Sequence[Step], first_row_step: int) -> QuantisedInput | None:
    """Return the tensor that the first step quantises the input to; None where anything else reads the input.

    Images then become that tensor by a table, and no float is computed.
    """
    network = lowering.network
    readers = network.readers(network.input)
    if len(readers) != 1 or readers[0].operator != "QuantizeLinear" or first_row_step == 0:
        return None
    name, a = readers[0].output, readers[0].attributes
    if not steps or steps[0].writes != name or name == network.output:
        return None
    tensor = lowering.tensor(name)
    return QuantisedInput(name, float(a["scale"]), int(a["zero_point"]), tensor.dtype, lowering.layout(name))


def _life_of_input(
    lowering: Lowering, steps: Sequence[Step], roots: dict[str, str], first_row_step: int, rows: int
) -> Life:
    """Return the life of an input that is made in the arena, from images: up to the last step that reads it."""
    network = lowering.network
    readers = [i for i, step in enumerate(steps) if network.input in (roots[name] for name in step.reads)]
    last = max(readers, default=0)
    size = lowering.tensor(network.input).bytes
    return Life("\0input", size * (rows if last >= first_row_step else 1), 0, last)


def _first_row_step(steps: Sequence[Step]) -> int:
    """Return where the steps begin that can all be done for a block of samples; the end where none multiplies.

    They begin with one that multiplies: for another, a block would only take more memory.
    """
    first = len(steps)
    while first > 0 and steps[first - 1].takes_rows:
        first -= 1
    return next((i for i in range(first, len(steps)) if steps[i].macs), len(steps))


def _roots(lowering: Lowering, steps: Sequence[Step]) -> dict[str, str]:
    """Return, for each tensor that exists, the one whose memory it shares: a Reshape without a step is its input."""
    network = lowering.network
    written = {step.writes for step in steps}
    roots = {network.input: network.input, **{name: name for name in written}}
    for operation in network.operations:
        if operation.output not in written:
            roots[operation.output] = roots[operation.inputs[0]]
    return roots


def _ends(lowering: Lowering, roots: dict[str, str]) -> dict[str, str]:
    """Return the tensors that lie in the caller's memory."""
    network = lowering.network
    return {roots[network.output]: "output", network.input: "input"}


def _lives(
    steps: Sequence[Step],
    roots: dict[str, str],
    sizes: dict[str, int],
    beyond: dict[str, int],
    first_row_step: int,
    rows: int,
    ends: dict[str, str],
) -> tuple[list[Life], set[str]]:
    """Return when each tensor of the arena is alive, and which of them there is one of for each sample of a block.

    What the block's steps read is alive through all steps of all its samples.
    """
    born: dict[str, int] = {}
    last: dict[str, int] = {}
    per_row: set[str] = set()
    for i, step in enumerate(steps):
        for name in (*step.reads, step.writes):
            root = roots[name]
            born.setdefault(root, i)
            last[root] = i
            if i >= first_row_step:
                per_row.add(root)
    lives = []
    for root, first in born.items():
        if root in ends:
            continue
        kept = root in per_row
        begin = 0 if kept and first < first_row_step else first
        lives.append(Life(root, sizes[root] * (rows if kept else 1) + beyond.get(root, 0), begin, last[root]))
    for i, step in enumerate(steps):
        if step.scratch_bytes:
            lives.append(Life(f"{_SCRATCH}{i}", step.scratch_bytes, i, i))
    return lives, per_row
