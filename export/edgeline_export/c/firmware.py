"""From sources to a flash image for a board without an operating system: compiled, linked into the budgets, measured.

The image is the network with the self-test around it; what the network takes by itself is linked apart, and measured
beside it.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeline.errors import MissingCapabilityError
from edgeline_export.c import stack
from edgeline_export.c.compiler import Compiler, NoCompilerError, complaint_of, find_compiler, run_compiler
from edgeline_export.c.targets import Target
from edgeline_export.c.toolchain import FLAGS, CompileError, machine_of

AROUND = ("startup.c", "semihosting.c", "selftest.c")
STACK_BYTES = 2048  # where the call graph is not known
_FRAME = 112  # what an exception pushes, with the registers of floats
_SPARE = 64
_SECTIONS = ("-ffunction-sections", "-fdata-sections", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
_AROUND = ("-Os", "-std=c99")
_LINK = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,--strip-debug", "-Wl,-T,board.ld")


@dataclass(frozen=True, slots=True)
class Sections:
    """Bytes of a linked program: instructions, constants, numbers with a value, and memory that begins as zeros.

    `flash` and `ram` are what it takes there, with the gaps that alignment leaves; `flash` with the first values of
    `data`.
    """

    code: int
    constants: int
    data: int
    zeros: int
    flash: int
    ram: int


@dataclass(frozen=True, slots=True)
class Objects:
    """The compiled network, the compiled self-test around it, and the call graphs of both."""

    files: Mapping[str, bytes]
    graphs: tuple[str, ...]

    def stack_bytes(self, root: str, infer: str) -> int | None:
        """Return the deepest stack of a function, by the call graph."""
        return stack.stack_bytes(self.graphs, root, infer)


class DoesNotFitError(Exception):
    """The linker found no room; the words are its own."""


def optimisation(target: Target) -> tuple[str, ...]:
    """Return how the network is compiled for a target."""
    return tuple(getattr(target, "optimise", None) or FLAGS)


def board_compiler(target: Target, named: str | None) -> Compiler:
    """Return the compiler for a board: `--cc`, else the target's own.

    Raises MissingCapabilityError where it is not there, and for one that makes code for something else.
    """
    try:
        compiler = find_compiler(named or target.compiler)
    except MissingCapabilityError:
        if named is not None:
            raise
        raise NoCompilerError(f"{target.compiler} is not installed: apt-get install {target.packages}") from None
    machine = machine_of(compiler)
    if machine.architecture != target.architecture or machine.has_libraries:
        raise MissingCapabilityError(
            f"{compiler.command[0]} makes code for {machine.triplet}, the target {target.name} needs one for bare "
            f"metal: leave --cc out, or give --cc {target.compiler} (apt-get install {target.packages})"
        )
    return compiler


def compile_objects(name: str, files: Mapping[str, bytes], target: Target, compiler: Compiler) -> Objects:
    """Compile NAME.c and what stands around it. Raises CompileError in the compiler's words."""
    graph_flags = () if "clang" in compiler.version.lower() else stack.FLAGS
    made, graphs = {}, []
    with tempfile.TemporaryDirectory() as place:
        folder = _written(files, place)
        for source in (*AROUND, f"{name}.c"):
            stem = source.removesuffix(".c")
            flags = optimisation(target) if stem == name else _AROUND
            _run(compiler, [*flags, *target.variants[0].flags, *_SECTIONS, *graph_flags, "-I.", "-c", source, "-o",
                            f"{stem}.o"], folder)  # fmt: skip
            made[f"{stem}.o"] = (folder / f"{stem}.o").read_bytes()
            graph = folder / f"{stem}.ci"
            graphs += [graph.read_text(encoding="utf-8")] if graph.is_file() else []
    return Objects(made, tuple(graphs))


def link(
    objects: Mapping[str, bytes], script: bytes, target: Target, compiler: Compiler, entry: str | None = None
) -> bytes:
    """Link an image by a linker script; `entry`: of nothing but this function and what it needs.

    Raises DoesNotFitError where the script has no room for it, CompileError for anything else.
    """
    kept = [f"-Wl,-e,{entry}"] if entry else []
    with tempfile.TemporaryDirectory() as place:
        folder = _written({**objects, "board.ld": script}, place)
        _run(compiler, [*target.variants[0].flags, *_LINK, *kept, *objects, "-lm", "-o", "image.elf"], folder)
        return (folder / "image.elf").read_bytes()


def stack_reserve(objects: Objects, infer: str) -> int:
    """Return the stack that an image keeps: what the call graph says, an exception on top, and some to spare."""
    found = objects.stack_bytes("Reset_Handler", infer)
    return STACK_BYTES if found is None else -(-(found + _FRAME + _SPARE) // 64) * 64


def sections_of(elf: bytes) -> Sections:
    """Add the sections of a 32-bit ELF file up, by what their flags say (System V ABI, "Sections")."""
    (table,) = struct.unpack_from("<I", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 46)
    code = constants = data = zeros = 0
    flash: list[int] = []
    ram: list[int] = []
    for at in range(table, table + size * count, size):
        _, kind, flags, address, _, length = struct.unpack_from("<IIIIII", elf, at)
        if not flags & 2 or not length:  # SHF_ALLOC
            continue
        (ram if flags & 1 or kind == 8 else flash).extend((address, address + length))  # SHF_WRITE, SHT_NOBITS
        if kind == 8:
            zeros += length
        elif flags & 1:
            data += length
        elif flags & 4:  # SHF_EXECINSTR
            code += length
        else:
            constants += length
    return Sections(code, constants, data, zeros, _extent(flash) + data, _extent(ram))


def _extent(ends: Sequence[int]) -> int:
    return max(ends) - min(ends) if ends else 0


def _written(files: Mapping[str, bytes], place: str) -> Path:
    folder = Path(place)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _run(compiler: Compiler, arguments: Sequence[str], folder: Path) -> None:
    answer = run_compiler([*compiler.command, *arguments], folder)
    if answer.returncode == 0:
        return
    log = answer.stdout + answer.stderr
    full = [line for line in log.splitlines() if "will not fit in region" in line or "overflowed by" in line]
    if full:
        raise DoesNotFitError(full[-1].strip())
    words = complaint_of(answer)
    if "No such file or directory" in words and ".h" in words:
        raise MissingCapabilityError(
            f"the headers of {compiler.command[0]}'s C library are missing ({words}): "
            "apt-get install libnewlib-arm-none-eabi"
        )
    what = next((word for word in arguments if word.endswith(".c")), "the image")
    raise CompileError(f"{compiler.version} does not compile {what}: {words}", log)
