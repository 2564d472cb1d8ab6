"""What an artefact of the C format holds: the sources, what builds and tests them, and the library."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeline.architecture import architecture_here
from edgeline.artefact import Artefact
from edgeline.backends.native import NativeSession
from edgeline.command import note
from edgeline.errors import GateError, InputError, MissingCapabilityError
from edgeline.files import atomic_folder
from edgeline.native_library import load_library
from edgeline.version import __version__
from edgeline_export.assemble import Compiled, artefact_folder
from edgeline_export.c.bare_metal import Generated, compile_for_board
from edgeline_export.c.compiler import Compiler
from edgeline_export.c.dispatch import dispatch_source
from edgeline_export.c.emit import arrays_of, sources
from edgeline_export.c.header import Heading
from edgeline_export.c.ir import C_TYPES
from edgeline_export.c.lower import lower
from edgeline_export.c.passes import prepared
from edgeline_export.c.pixels import Pixels, pixels_for
from edgeline_export.c.program import Program
from edgeline_export.c.read import network_from_onnx
from edgeline_export.c.targets import Target
from edgeline_export.c.text import comment, identifier, string_literal
from edgeline_export.c.toolchain import CompileError, Library, Machine, build_library, machine_of
from edgeline_export.c.user_emulator import emulator_name, selftest_emulated
from edgeline_export.c.weights import total_bytes
from edgeline_export.formats.interface import NATIVE, ExportRequest
from edgeline_export.subject import Subject
from edgeline_export.verify import Judged

_TEMPLATES = Path(__file__).parent / "templates"
_LOG = "compiler.log"


def compile_network(
    graph: bytes, subject: Subject, request: ExportRequest, target: Target, compiler: Compiler | None
) -> Compiled:
    """Generate the sources of a graph and, with a compiler, build the library.

    Raises InputError for a graph that cannot become C and for a compiler that `--cc` named and that makes code for
    another architecture than the target's; CompileError when the compiler refuses, after the sources were put beside
    the artefact's place.
    """
    network = prepared(network_from_onnx(onnx.load_from_string(graph), subject.name))
    program = lower(network, target)
    for text in program.notes:
        note(text)
    name = identifier(subject.name)
    pixels = pixels_for(program, subject.preprocessing)
    generator = f"edgeline {__version__}"
    heading = Heading(hashlib.sha256(graph).hexdigest(), generator, request.precision, subject.labels)
    written = sources(program, target, heading, pixels)
    if target.board is not None:
        generated = Generated(graph, network, program, pixels, written, _record(program, pixels, name, None))
        try:
            return compile_for_board(generated, subject, request, target, target.board, compiler)
        except CompileError as error:
            raise _with_sources_kept(error, subject, request, written) from None
    machine = None if compiler is None else _machine(compiler, target, request)
    library = None
    if compiler is not None and machine is not None:
        note(f"compiling for {target.name} with {compiler.version}")
        dispatch = dispatch_source(program, target, isinstance(pixels, Pixels))
        try:
            library = build_library(name, written, dispatch, target, compiler, machine)
        except CompileError as error:
            raise _with_sources_kept(error, subject, request, written) from None
    isa = None if library is None else _isa_here(library, name)
    if library is not None and isa is None:
        note("the library does not run on this machine: its graph is judged in its place")
    return Compiled(
        build="on-device" if library is None else "built",
        files={**written, **_companions(name, program, target, library)},
        target=_target_record(target, library),
        compilation=_record(program, pixels, name, library),
        open_session=None if isa is None else NativeSession,
        engine=None if isa is None else f"native, {isa}",
        finish=lambda artefact, inputs, judged: _finish(artefact, inputs, judged, program, target, isa, library),
    )


def _machine(compiler: Compiler, target: Target, request: ExportRequest) -> Machine | None:
    """Return what the compiler makes code for; None, said in a line, where that gives no library of this target."""
    machine = machine_of(compiler)
    why = ""
    if target.architecture not in (None, machine.architecture):
        why = f"{compiler.command[0]} makes code for {machine.architecture}, the target {target.name} is not for that"
        if request.cc is not None:
            other = " --target generic is for any CPU" if request.target == NATIVE else " leave --cc or --target out"
            raise InputError(f"{why};{other}")
    elif not machine.has_libraries:
        why = f"{compiler.command[0]} makes code for {machine.triplet}, which has no shared libraries"
    if not why:
        return machine
    if request.require_engine:
        raise MissingCapabilityError(f"{why}; without --require-engine the C sources alone are written")
    note(f"only C sources are written: {why}")
    return None


def _with_sources_kept(
    error: CompileError, subject: Subject, request: ExportRequest, written: Mapping[str, bytes]
) -> CompileError:
    """Put sources and the compiler's words where they can be looked at, show its first lines, and say where they are.

    The place is never an artefact: it has no manifest.
    """
    folder = artefact_folder(subject, request, "c")
    folder = folder.with_name(f"{folder.name}.failed")
    if folder.exists() and not (folder / _LOG).is_file():
        return error  # it is somebody else's
    with atomic_folder(folder) as temporary:
        for file, content in {**written, _LOG: error.log.encode()}.items():
            (temporary / file).write_bytes(content)
    for line in error.log.splitlines()[:5]:
        note(f"  {line}")
    return CompileError(f"{error}; sources and {_LOG} are in {folder}; another compiler: --cc clang", error.log)


def _isa_here(library: Library, name: str) -> str | None:
    """Return the instruction set that a library chooses on this machine; None where it does not run here."""
    if library.machine.architecture != architecture_here():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / library.file
        path.write_bytes(library.content)
        loaded = load_library(path, name)
    return None if loaded is None else loaded.isa


def _companions(name: str, program: Program, target: Target, library: Library | None) -> dict[str, bytes]:
    """Return what lies beside the sources, but for what needs the gate's outputs."""
    flags = shlex.join(target.variants[0].flags)
    files = {"CMakeLists.txt": _filled("CMakeLists.txt", name=name, target=target.name, flags=flags)}
    if target.compiler is not None and target.board is None:
        files[f"{target.name}.cmake"] = _filled(
            "toolchain.cmake",
            name=name,
            target=target.name,
            packages=target.packages,
            compiler=target.compiler,
            architecture=target.architecture,
            emulator=emulator_name(target.architecture or ""),
        )
    if library is not None:
        what = f"{comment(program.name)} as a C library, for the target {target.name}"
        files[f"{name}.pc"] = _filled("library.pc", name=name, what=what, version=__version__)
        files[library.file] = library.content
    return files


def _target_record(target: Target, library: Library | None) -> dict[str, Any]:
    architecture = target.architecture if library is None else library.machine.architecture
    return {"name": target.name, "architecture": architecture}


def _record(program: Program, pixels: Pixels | str, name: str, library: Library | None) -> dict[str, Any]:
    return {
        "product": "edgeline-c",
        "version": __version__,
        "prefix": name,
        "arena_bytes": program.arena_bytes,
        "u8_arena_bytes": program.pixel_arena_bytes if isinstance(pixels, Pixels) else None,
        "weights_bytes": total_bytes(arrays_of(program, pixels)),
        **({} if library is None else library.to_record()),
    }


def _finish(
    artefact: Artefact,
    inputs: npt.NDArray[Any],
    judged: Judged,
    program: Program,
    target: Target,
    isa: str | None,
    library: Library | None,
) -> dict[str, bytes]:
    """Hold the instruction sets that were not judged against those that were, and write the self-test in C.

    Where the library is for another CPU, QEMU runs that self-test with it.
    """
    expected = judged.outputs[: len(inputs)]
    if isa is not None:
        _check_other_variants(artefact, inputs, expected, judged.tolerance, target, isa)
    files = selftest_in_c(program, inputs, expected, judged.tolerance, artefact.manifest.labels)
    if library is not None and library.machine.architecture != architecture_here():
        header = f"{identifier(program.name)}.h"
        note(selftest_emulated(library, {**files, header: artefact.file(header).read_bytes()}))
    return files


def _check_other_variants(
    artefact: Artefact,
    inputs: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    tolerance: float,
    target: Target,
    isa: str,
) -> None:
    """Raise GateError where an instruction set before the chosen one, which this CPU has too, computes otherwise."""
    for variant in target.variants:
        if variant.isa == isa:
            return
        with NativeSession(artefact, "cpu", variant=f"_{variant.suffix}") as session:
            found = session.infer_all(inputs)
        difference = float(np.abs(found.astype(np.float64) - expected).max())
        if not difference <= tolerance:
            raise GateError(
                f"with {variant.isa} a logit differs by {difference:.3g} from that of {isa}, {tolerance:.3g} is "
                "allowed; nothing was written"
            )


def selftest_in_c(
    program: Program,
    inputs: npt.NDArray[Any],
    outputs: npt.NDArray[Any],
    tolerance: float,
    labels: tuple[str, ...] | None,
) -> dict[str, bytes]:
    """Return main.c and selftest.bin: for each call its inputs, then its outputs.

    `inputs` [n, ...], `outputs` [n, ...]. Where the graph fixes its batch, the last call is filled up.
    """
    name = identifier(program.name)
    batch = 1 if program.free_batch else program.input.shape[0]
    given, made = (_in_calls(array, batch) for array in (inputs, outputs))
    content = b"".join(x.tobytes() + y.tobytes() for x, y in zip(given, made, strict=True))
    classes = made[0].size // batch
    named = labels is not None and classes > 1
    quoted = ", ".join(string_literal(label) for label in labels or ())
    found, word = ("%s", "LABELS[found]") if named else ("class %d", "found")
    if classes == 1:
        found, word = "%g", "(double)output[i + found]"
    main = _filled(
        "main.c",
        name=name,
        calls=len(given),
        batch=batch,
        inputs=given[0].size // batch,
        outputs=classes,
        tolerance=f"{tolerance:.9g}" if tolerance != int(tolerance) else f"{tolerance:.1f}",
        given=C_TYPES[program.input.dtype],
        made=C_TYPES[program.output.dtype],
        labels=f"static const char *const LABELS[OUTPUTS] = {{{quoted}}};" if named else "",
        found=found,
        word=word,
    )
    return {"main.c": main, "selftest.bin": content}


def _in_calls(array: npt.NDArray[Any], batch: int) -> list[npt.NDArray[Any]]:
    missing = -len(array) % batch
    whole = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
    whole = whole.astype(whole.dtype.newbyteorder("<"))
    return [whole[i : i + batch] for i in range(0, len(whole), batch)]


def _filled(template: str, **values: object) -> bytes:
    """Return a template with `@name@` and the like filled in, `@NAME@` in capitals."""
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value)).replace(f"@{key.upper()}@", str(value).upper())
    return text.encode()
