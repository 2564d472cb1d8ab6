"""The self-test of a library for another CPU, run by QEMU's user mode on this machine.

QEMU translates the program's instructions and hands its system calls to this machine's kernel, so what runs is the very
library of the artefact, with the C library that the compiler links against.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeline.errors import GateError, ResourceError
from edgeline_export.c.compiler import Compiler, complaint_of, run_compiler
from edgeline_export.c.toolchain import Library

_TIMEOUT_S = 120.0
_PACKAGE = "qemu-user"
_RESULT = re.compile(r"^largest difference (\S+), allowed \S+ \((\S+)\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Emulator:
    """QEMU's program for an architecture, and the CPUs that between them have each instruction set of a library."""

    program: str
    cpus: tuple[str, ...]


_EMULATORS = {
    "aarch64": Emulator("qemu-aarch64", ("cortex-a53", "cortex-a76", "max")),
    "arm": Emulator("qemu-arm", ("cortex-a7",)),
    "riscv64": Emulator("qemu-riscv64", ("rv64",)),
}


def emulator_name(architecture: str) -> str:
    """Return the name of QEMU's program for an architecture."""
    return _EMULATORS[architecture].program if architecture in _EMULATORS else f"qemu-{architecture}"


def selftest_emulated(library: Library, files: Mapping[str, bytes]) -> str:
    """Run the self-test with the library on each CPU, and return a line that says how it went.

    `files` hold main.c, selftest.bin and the header. Without QEMU or the compiler's libraries the line says what is
    missing. Raises GateError when the self-test fails, with its exit code and its own words.
    """
    emulator = _EMULATORS.get(library.machine.architecture)
    if emulator is None:
        return f"no self-test of the library: nothing here runs code for {library.machine.architecture}"
    if shutil.which(emulator.program) is None:
        return f"no self-test of the library: {emulator.program} is not installed, apt-get install {_PACKAGE}"
    root = _root_of(library.compiler)
    if root is None:
        return f"no self-test of the library: {library.compiler.command[0]} finds no C library to link with"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for file, content in {**files, library.file: library.content}.items():
            (folder / file).write_bytes(content)
        linked = run_compiler(
            [*library.compiler.command, "-O1", "main.c", "-I.", "-L.", f"-l:{library.file}", "-o", "selftest"], folder
        )
        if linked.returncode != 0:
            return f"no self-test of the library: main.c does not link with it: {complaint_of(linked)}"
        results = [_run(emulator.program, cpu, root, folder) for cpu in emulator.cpus]
    return f"self-test under {emulator.program}: largest difference {', '.join(dict.fromkeys(results))}"


def _root_of(compiler: Compiler) -> Path | None:
    """Return the folder that holds lib/ with the C library of a compiler's target; None where there is none."""
    answer = run_compiler([*compiler.command, "-print-file-name=libc.so.6"])
    path = Path(answer.stdout.strip())
    return path.resolve().parent.parent if answer.returncode == 0 and path.is_absolute() and path.exists() else None


def _run(program: str, cpu: str, root: Path, folder: Path) -> str:
    """Return what the self-test found on a CPU: the largest difference, with its instruction set."""
    command = [program, "-cpu", cpu, "-L", str(root), "-E", f"LD_LIBRARY_PATH={folder}", "./selftest", "selftest.bin"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise ResourceError(f"the self-test under {program} -cpu {cpu} did not end within {_TIMEOUT_S:.0f} s") from None
    found = _RESULT.search(done.stdout)
    if done.returncode != 0 or found is None:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise GateError(
            f"the self-test under {program} -cpu {cpu} ended with exit code {done.returncode}: {words}; nothing was "
            "written"
        )
    return f"{found[1]} with {found[2]}"
