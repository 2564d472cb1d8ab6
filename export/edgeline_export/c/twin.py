"""What an integer network must compute to the last bit: its C for any CPU, compiled for this machine and run.

Results of integer networks are the same bits on every target, so a board is held against these and not against a
tolerance.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.architecture import architecture_here
from edgeline.errors import MissingCapabilityError
from edgeline.native_library import load_library
from edgeline_export.c.compiler import CANDIDATES, find_compiler
from edgeline_export.c.dispatch import dispatch_source
from edgeline_export.c.emit import kernels_of, sources
from edgeline_export.c.header import Heading
from edgeline_export.c.ir import Network
from edgeline_export.c.lower import lower
from edgeline_export.c.program import Program
from edgeline_export.c.targets import TARGETS
from edgeline_export.c.text import identifier
from edgeline_export.c.toolchain import build_library, machine_of

_ALIGNMENT = 64


def is_exact(program: Program) -> bool:
    """Whether a program computes in integers alone: no step makes floats of floats, or calls expf and the like."""
    kinds = program.buffers
    floats = (
        kinds[step.writes].dtype == "float32" and any(kinds[name].dtype == "float32" for name in step.reads)
        for step in program.steps
    )
    return not any(floats) and "activation_f32" not in kernels_of(program)


def twin_outputs(network: Network, inputs: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return what a network gives for [n, ...] inputs, n whole batches of it; None without a compiler for this machine.

    Raises what compiling it raises.
    """
    target = TARGETS["generic"]
    for command in CANDIDATES:
        try:
            compiler = find_compiler(command)
            machine = machine_of(compiler)
        except MissingCapabilityError:
            continue
        if machine.architecture == architecture_here() and machine.has_libraries:
            break
    else:
        return None
    program, name = lower(network, target), identifier(network.name)
    written = sources(program, target, Heading("0" * 64, "edgeline", "a twin"))
    library = build_library(name, written, dispatch_source(program, target, False), target, compiler, machine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / library.file
        path.write_bytes(library.content)
        loaded = load_library(path, name)
    if loaded is None:
        return None
    batch = 1 if program.free_batch else program.input.shape[0]
    made = np.empty((len(inputs) // batch, program.output.bytes), np.uint8)
    memory = np.empty(max(program.arena_bytes, 1) + _ALIGNMENT, np.uint8)
    arena = memory.ctypes.data + -memory.ctypes.data % _ALIGNMENT
    for row, call in zip(made, np.split(np.ascontiguousarray(inputs), len(made)), strict=True):
        code = loaded.infer(call.ctypes.data, row.ctypes.data, batch, arena, max(program.arena_bytes, 1))
        if code:
            raise MissingCapabilityError(f"{library.file}, compiled by {compiler.version}, returned {code}: --cc gcc")
    shape = (len(inputs), *program.output.shape[1:]) if program.output.shape else (len(inputs),)
    return made.reshape(-1).view(program.output.dtype).reshape(shape)
