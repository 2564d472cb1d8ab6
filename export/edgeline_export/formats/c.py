"""`c`: a C99 library without dependencies, as sources and, where there is a compiler, as a shared library.

Without a compiler the artefact is the same but for the library: its sources compile anywhere.
"""

from __future__ import annotations

from edgeline import interrupts
from edgeline.artefact import Artefact
from edgeline.command import note
from edgeline.errors import MissingCapabilityError
from edgeline_export.c.compiler import Compiler, NoCompilerError
from edgeline_export.c.firmware import board_compiler
from edgeline_export.c.targets import Target, native_target, target_from_name
from edgeline_export.c.toolchain import compiler_for
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject


class CFormat:
    """Writes NAME.c and NAME.h with what builds and tests them, and lib<name>.so."""

    name = "c"
    summary = "C99 library for --target (default: this machine); sources that compile anywhere"
    precisions: tuple[str, ...] = ("fp32", "int8")
    options = frozenset({"target", "cc", "require_engine", "ram", "flash"})

    def availability(self) -> Availability:
        """Say that it can be written, and whether with a library."""
        missing = missing_packages()
        if missing is not None:
            return missing
        try:
            compiler, reason = _compiler(native_target(), None)
        except MissingCapabilityError as error:  # CC names one that is not there
            compiler, reason = None, str(error)
        return Availability(True, remark="" if compiler else f"without a library here: {reason}")

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Generate, compile where there is a compiler, verify, and put in place."""
        target = target_from_name(request.target)
        compiler, reason = _compiler(target, request.cc)
        if compiler is None:
            if request.require_engine:
                raise MissingCapabilityError(f"{reason}; without --require-engine the C sources alone are written")
            note(f"only C sources are written: {reason}")
        with interrupts.held():
            from edgeline_export.assemble import assemble
            from edgeline_export.c.artefact import compile_network

        return assemble(
            subject,
            request,
            self.name,
            "integer",
            lambda graph, _: compile_network(graph, subject, request, target, compiler),
        )


def _compiler(target: Target, named: str | None) -> tuple[Compiler | None, str]:
    """Return the compiler for a target, or None and why there is none. One that `--cc` or CC named must be there."""
    try:
        return (compiler_for if target.board is None else board_compiler)(target, named), ""
    except NoCompilerError as error:
        return None, str(error)
