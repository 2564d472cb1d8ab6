"""An artefact for a board: the sources, what makes a flash image of them, the image, and what it needs, measured.

The image runs the self-test on the board that QEMU emulates before anything is written. It is held against the same
graph on ONNX Runtime, and an integer network to the last bit against its own C on this machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeline.command import note
from edgeline.emulator import BoardRun, failure_of, run_image
from edgeline.errors import GateError, InputError, MissingCapabilityError
from edgeline_export.assemble import Compiled
from edgeline_export.c.boards import Board
from edgeline_export.c.budgets import Budgets, Part, budgets_of, check
from edgeline_export.c.compiler import Compiler
from edgeline_export.c.firmware import (
    STACK_BYTES,
    DoesNotFitError,
    Objects,
    Sections,
    compile_objects,
    link,
    optimisation,
    sections_of,
    stack_reserve,
)
from edgeline_export.c.firmware_files import Selftest, fixed_files, linker_script, pixels_of, selftest_files
from edgeline_export.c.ir import Network
from edgeline_export.c.pixels import Pixels
from edgeline_export.c.program import Program
from edgeline_export.c.targets import Target
from edgeline_export.c.text import identifier
from edgeline_export.c.toolchain import machine_of
from edgeline_export.c.twin import is_exact, twin_outputs
from edgeline_export.formats.interface import ExportRequest
from edgeline_export.runner import GraphRunner
from edgeline_export.subject import Subject
from edgeline_export.verify import RELATIVE_TOLERANCE
from edgeline_export.writer import SELFTEST_SAMPLES

_INT8_SHARE = 5e-2  # of the largest output, where an integer network is held against floats: some steps of its own
_GUESSED_CODE = 16 << 10  # leaves flash for it where nothing can be compiled
_ROOM = Budgets(1 << 28, 1 << 28)


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """What there is before a compiler: the network in its forms, its sources, and what the manifest says of them."""

    graph: bytes
    network: Network
    program: Program
    pixels: Pixels | str
    sources: Mapping[str, bytes]
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The network's name in C."""
        return identifier(self.program.name)


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A linked image: its bytes and those of the network alone, its calls of the self-test, and its stack."""

    elf: bytes
    library: Sections
    calls: int
    stack_bytes: int
    infer_stack: int | None


def compile_for_board(
    made: Generated, subject: Subject, request: ExportRequest, target: Target, board: Board, compiler: Compiler | None
) -> Compiled:
    """Build the image, run it where there is QEMU, and return what lies in the artefact.

    Raises InputError for a network over its budgets, CompileError, and GateError where the self-test does not pass.
    """
    budgets = budgets_of(request.ram, request.flash, board)
    arena = _arena_bytes(made.program, isinstance(made.pixels, Pixels))
    weights = Part("weights", int(made.record["weights_bytes"]))
    who = f"{subject.name} in {request.precision}"
    flash: tuple[Part, ...] = (weights,)
    ram: tuple[Part, ...] = (Part("arena", arena),)
    if weights.bytes > budgets.flash:
        flash += (Part("code, by a guess", _GUESSED_CODE),)
    if arena > budgets.ram:
        ram += (Part("stack, by a guess", STACK_BYTES),)
    check(who, budgets, board, flash, ram, request.precision)
    selftest = _selftest(made, subject, request)
    files = fixed_files(made.name, target, board)
    record = {**made.record, "board": _board_record(board, budgets)}
    if compiler is None:
        room = (budgets.flash - weights.bytes - _GUESSED_CODE) // selftest.bytes_per_call
        files |= selftest_files(made.name, selftest.first(max(1, room)))
        files["board.ld"] = linker_script(made.name, board, budgets, STACK_BYTES)
        return Compiled("on-device", {**made.sources, **files}, _target(target), record)
    note(f"compiling for {target.name} with {compiler.version}")
    image = _image(made, selftest, target, board, budgets, compiler, who, request.precision)
    files |= selftest_files(made.name, selftest.first(image.calls))
    files["board.ld"] = linker_script(made.name, board, budgets, image.stack_bytes)
    files[f"{made.name}.elf"] = image.elf
    run = _run(image.elf, made.name, board, str(selftest.outputs.dtype))
    record |= _compiler_record(target, compiler, image)
    record |= _figures(made, selftest, image, run)
    return Compiled("built", {**made.sources, **files}, _target(target), record)


def _arena_bytes(program: Program, images: bool) -> int:
    return max(program.pixel_arena_bytes if images else program.arena_bytes, 1)


def _selftest(made: Generated, subject: Subject, request: ExportRequest) -> Selftest:
    """Return the self-test's inputs, as images where the network takes them, and what they must give."""
    program = made.program
    batch = 1 if program.free_batch else program.input.shape[0]
    inputs = subject.samples.batch(0, SELFTEST_SAMPLES)
    inputs = np.concatenate([inputs, np.repeat(inputs[-1:], -len(inputs) % batch, axis=0)])
    expected = GraphRunner(onnx.load_from_string(made.graph), batch=None if program.free_batch else batch).run(inputs)
    scale = max(1.0, float(np.abs(expected).max()))
    tolerance: float | None = RELATIVE_TOLERANCE.get(request.precision, _INT8_SHARE) * scale
    twin = twin_outputs(made.network, inputs) if is_exact(program) else None
    if twin is not None:
        difference = float(np.abs(twin.astype(np.float64).reshape(expected.shape) - expected).max())
        if not difference <= (tolerance or 0.0):
            raise GateError(
                f"the C of this network and ONNX Runtime differ by {difference:.3g} in a logit, {tolerance:.3g} is "
                "allowed; nothing was written"
            )
        expected, tolerance = twin, None
    infer, given = "infer", inputs
    if isinstance(made.pixels, Pixels) and subject.preprocessing is not None:
        images = pixels_of(inputs, subject.preprocessing, program.input.shape[1:])
        if images is not None:
            infer, given = "infer_u8", images
    calls = len(inputs) // batch
    arena = _arena_bytes(program, infer == "infer_u8")
    return Selftest(infer, _in_calls(given, calls), _in_calls(expected, calls), batch, arena, tolerance)


def _in_calls(array: npt.NDArray[Any], calls: int) -> npt.NDArray[Any]:
    return np.ascontiguousarray(array).reshape(calls, -1)


def _image(
    made: Generated,
    selftest: Selftest,
    target: Target,
    board: Board,
    budgets: Budgets,
    compiler: Compiler,
    who: str,
    precision: str,
) -> Image:
    """Compile and link into the budgets, with as many of the self-test's inputs as there is flash for.

    Raises InputError, with all figures, where there is no room for one.
    """
    infer = f"{made.name}_{selftest.infer}"
    everything = {**made.sources, **fixed_files(made.name, target, board)}

    def compiled(calls: int) -> tuple[Objects, int]:
        files = {**everything, **selftest_files(made.name, selftest.first(calls))}
        objects = compile_objects(made.name, files, target, compiler)
        return objects, stack_reserve(objects, infer)

    objects, reserve = compiled(1)
    script = linker_script(made.name, board, _ROOM, reserve)
    smallest = sections_of(link(objects.files, script, target, compiler))
    alone = sections_of(link({f"{made.name}.o": objects.files[f"{made.name}.o"]}, script, target, compiler, infer))
    weights = int(made.record["weights_bytes"])
    flash = (
        Part("weights", weights),
        Part("code", alone.code),
        Part("other constants", max(alone.constants - weights, 0)),
        Part("start-up and one self-test input", smallest.flash - max(alone.flash, weights)),
    )
    ram = (
        Part("arena", selftest.arena_bytes),
        Part("stack", reserve),
        Part("output and alignment", smallest.ram - reserve - selftest.arena_bytes),
    )
    check(who, budgets, board, flash, ram, precision)
    spare = budgets.flash - smallest.flash
    calls = min(len(selftest.inputs), 1 + spare // selftest.bytes_per_call)
    while True:
        objects, reserve = compiled(calls) if calls > 1 else (objects, reserve)  # more calls, perhaps another stack
        script = linker_script(made.name, board, budgets, reserve)
        try:
            elf = link(objects.files, script, target, compiler)
        except DoesNotFitError as error:  # by the few bytes that alignment takes
            if calls == 1:
                raise InputError(f"{who} does not fit: {error}; give a larger --ram or --flash") from None
            calls -= 1
            continue
        return Image(elf, alone, calls, reserve, objects.stack_bytes(infer, infer))


def _run(elf: bytes, name: str, board: Board, dtype: str) -> BoardRun | None:
    """Run the image; None, said in a line, where there is no QEMU. Raises GateError where it does not pass."""
    note(f"running the self-test on {board.machine} ({board.what}), emulated")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / f"{name}.elf"
        image.write_bytes(elf)
        try:
            run = run_image(image, board.machine)
        except MissingCapabilityError as error:
            note(f"the self-test was not run on a board, so stack and instructions are not known: {error}")
            return None
    failure = failure_of(run, dtype)
    if failure is not None:
        raise GateError(f"the self-test fails on {board.machine} with {failure}; nothing was written")
    return run


def _target(target: Target) -> dict[str, Any]:
    return {"name": target.name, "architecture": target.architecture}


def _board_record(board: Board, budgets: Budgets) -> dict[str, Any]:
    return {"machine": board.machine, "what": board.what, "ram_bytes": budgets.ram, "flash_bytes": budgets.flash}


def _compiler_record(target: Target, compiler: Compiler, image: Image) -> dict[str, Any]:
    return {
        "compiler": compiler.version,
        "machine": machine_of(compiler).triplet,
        "flags": list(optimisation(target)),
        "variants": [{"isa": one.isa, "flags": list(one.flags), "needs": []} for one in target.variants],
        "code_bytes": image.library.code,
    }


def _figures(made: Generated, selftest: Selftest, image: Image, run: BoardRun | None) -> dict[str, Mapping[str, Any]]:
    """Return what the network needs, and what the image with the self-test around it does; null: not measured."""
    whole, alone = sections_of(image.elf), image.library
    measured = None if run is None else run.figures.get("stack")
    stack = measured if measured is not None else image.infer_stack
    output = selftest.outputs[0].nbytes
    return {
        "network": {
            "function": f"{made.name}_{selftest.infer}",
            "code_bytes": alone.code,
            "constants_bytes": alone.constants,
            "flash_bytes": alone.flash,
            "arena_bytes": selftest.arena_bytes,
            "stack_bytes": measured,
            "stack_bytes_static": image.infer_stack,
            "output_bytes": output,
            "ram_bytes": None if stack is None else selftest.arena_bytes + stack + output + alone.data,
            "instructions": None if run is None else run.instructions,
        },
        "image": {
            "file": f"{made.name}.elf",
            "code_bytes": whole.code,
            "constants_bytes": whole.constants,
            "flash_bytes": whole.flash,
            "stack_bytes": None if run is None else run.figures.get("image stack"),
            "stack_reserved_bytes": image.stack_bytes,
            "ram_bytes": whole.ram,
            "selftest_inputs": image.calls * selftest.batch,
            "exact": selftest.tolerance is None,
        },
    }
