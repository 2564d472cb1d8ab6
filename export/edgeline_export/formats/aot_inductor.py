"""`aot-inductor`: packages of PyTorch's own ahead-of-time compiler, for the processor of this machine."""

from __future__ import annotations

import os
import shutil

from edgeline import interrupts
from edgeline.artefact import Artefact
from edgeline.errors import InputError
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject


class AotInductorFormat:
    """Writes .pt2 packages, which run inside libtorch."""

    name = "aot-inductor"
    summary = "AOTInductor packages (.pt2) for this machine's CPU; needs a C++ compiler, and torch where it runs"
    precisions: tuple[str, ...] = ("fp32", "int8")
    options: frozenset[str] = frozenset()

    def availability(self) -> Availability:
        """Say whether torch, torchao and the C++ compiler that torch calls are here."""
        missing = missing_packages("torch", "torchao")
        if missing is not None:
            return missing
        compiler = os.environ.get("CXX") or "g++"
        if shutil.which(compiler) is None:
            return Availability(False, f"no C++ compiler {compiler}", "apt install g++, or name another with CXX=")
        return Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Compile, verify, and put in place."""
        if subject.module is None:
            raise InputError(
                f"{self.name} compiles torch networks, and {subject.name} is an .onnx file: take --format onnx, "
                "openvino or c"
            )
        with interrupts.held():
            from edgeline_export.assemble import assemble
            from edgeline_export.peers.aot_inductor import compile_packages

        module = subject.module
        return assemble(
            subject, request, self.name, "integer", lambda _, prepared: compile_packages(module, prepared, request)
        )
