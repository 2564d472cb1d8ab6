"""From generated sources to lib<name>.so: one object for each instruction set of a target, linked with what chooses.

The compiler works in a folder of its own and sees file names without a path, so that the same sources, compiler and
target give the same bytes anywhere. It compiles nothing but what the generator wrote.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeline.architecture import architecture_from_name, architecture_here
from edgeline.errors import MissingCapabilityError
from edgeline_export.c.compiler import (
    Compiler,
    NoCompilerError,
    check_headers,
    complaint_of,
    find_compiler,
    run_compiler,
)
from edgeline_export.c.dispatch import needs_dispatch
from edgeline_export.c.elf import code_bytes
from edgeline_export.c.targets import Target, Variant

# -ffp-contract=fast: a product and a sum become one instruction, which the C standard's own mode forbids.
FLAGS = ("-O3", "-std=c99", "-ffp-contract=fast", "-fno-math-errno")
_HOST = ("-DEDGELINE_THREADS", "-DEDGELINE_PROFILE")  # what needs POSIX: a host has it, and pays nothing unused
_SHARED = ("-fPIC", *_HOST, "-fvisibility=hidden", '-DEDGELINE_API=__attribute__((visibility("default")))')
_LINK = ("-shared", "-Wl,--build-id=none", "-Wl,-Bsymbolic", "-Wl,-z,defs")
_HOSTED = ("linux", "bsd", "gnu")  # systems with ELF and shared libraries, as triplets name them


@dataclass(frozen=True, slots=True)
class Machine:
    """What a compiler makes code for: its triplet, and the architecture in edgeline's words."""

    triplet: str
    architecture: str

    @property
    def has_libraries(self) -> bool:
        """Whether shared libraries can be built for it; not for bare metal, and other systems are not supported."""
        return any(word in self.triplet for word in _HOSTED)


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library, and how it came about."""

    file: str
    content: bytes
    compiler: Compiler
    machine: Machine
    target: Target

    def to_record(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            "library": self.file,
            "compiler": self.compiler.version,
            "machine": self.machine.triplet,
            "flags": [*FLAGS, *_SHARED],
            "variants": [
                {"isa": variant.isa, "flags": list(variant.flags), "needs": list(variant.features)}
                for variant in self.target.variants
            ],
            "code_bytes": code_bytes(self.content),
        }


class CompileError(MissingCapabilityError):
    """The compiler refused what was generated. `log` is all that it said.

    A missing capability (exit code 3) rather than a fault of ours: the sources compile with the compilers that they
    are tested with, so it is this one that lacks something, and another one is the way out.
    """

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


def machine_of(compiler: Compiler) -> Machine:
    """Ask a compiler what it makes code for. Raises MissingCapabilityError when it does not say."""
    answer = run_compiler([*compiler.command, "-dumpmachine"])
    triplet = answer.stdout.strip()
    if answer.returncode != 0 or "-" not in triplet:
        raise MissingCapabilityError(
            f"'{compiler.command[0]} -dumpmachine' does not tell what it makes code for: give --cc gcc or --cc clang"
        )
    return Machine(triplet, architecture_from_name(triplet.partition("-")[0]))


def compiler_for(target: Target, named: str | None = None) -> Compiler:
    """Return the compiler for a target: `named`, else one that makes code for its architecture.

    For this machine's own, and for targets that name no compiler, that is find_compiler()'s; for another it is `$CC`
    where that makes code for it, else the target's own, on the path. Raises NoCompilerError, which says what to
    install, when there is none.
    """
    if named is not None or target.compiler is None or target.architecture == architecture_here():
        return find_compiler(named)
    if os.environ.get("CC"):
        compiler = find_compiler()
        if machine_of(compiler).architecture == target.architecture:
            return compiler
    if shutil.which(target.compiler) is None:
        raise NoCompilerError(
            f"{target.compiler}, which makes code for {target.name}, is not on the path: apt-get install "
            f"{target.packages}, or give --cc"
        )
    return find_compiler(target.compiler)


def build_library(
    name: str, sources: Mapping[str, bytes], dispatch: str, target: Target, compiler: Compiler, machine: Machine
) -> Library:
    """Compile NAME.c once for each variant of a target and link lib<name>.so.

    `dispatch` is the text of NAME_dispatch.c. Raises CompileError in the compiler's own words, MissingCapabilityError
    where the C library's headers are missing.
    """
    file = f"lib{name}.so"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for source, content in sources.items():
            (folder / source).write_bytes(content)
        (folder / f"{name}_dispatch.c").write_text(dispatch, encoding="utf-8")
        jobs = _jobs(name, target)
        with ThreadPoolExecutor(max_workers=min(len(jobs), len(os.sched_getaffinity(0)))) as pool:
            list(pool.map(lambda job: _compile(compiler, job, folder, target), jobs.values()))
        soname = f"-Wl,-soname,{file}"
        _compile(compiler, [*_LINK, soname, *jobs, "-o", file, "-lm", "-lpthread"], folder, target)
        return Library(file, (folder / file).read_bytes(), compiler, machine, target)


def _jobs(name: str, target: Target) -> dict[str, list[str]]:
    """Return the arguments that make each object."""
    if not needs_dispatch(target):
        return {f"{name}.o": _arguments(f"{name}.c", f"{name}.o", target.variants[0], [])}
    jobs = {}
    for index, variant in enumerate(target.variants):
        defined = [f"-DEDGELINE_SUFFIX=_{variant.suffix}"]
        if len(target.variants) > 1:
            defined.append(f"-DEDGELINE_WEIGHTS_{'ELSEWHERE' if index else 'SHARED'}")
        made = f"{name}_{variant.suffix}.o"
        jobs[made] = _arguments(f"{name}.c", made, variant, defined)
    made = f"{name}_dispatch.o"
    return {**jobs, made: _arguments(f"{name}_dispatch.c", made, Variant("", "", ()), [])}


def _arguments(source: str, made: str, variant: Variant, defined: Sequence[str]) -> list[str]:
    return [*FLAGS, *_SHARED, *variant.flags, *defined, "-I.", "-c", source, "-o", made]


def _compile(compiler: Compiler, arguments: Sequence[str], folder: Path, target: Target) -> None:
    answer = run_compiler([*compiler.command, *arguments], folder)
    if answer.returncode == 0:
        return
    words = complaint_of(answer)
    check_headers(words, target.packages if target.compiler == Path(compiler.command[0]).name else "libc6-dev")
    what = next((word for word in arguments if word.endswith(".c")), "the library")
    isas = [v.isa for v in target.variants if v.flags and f"{what[:-2]}_{v.suffix}.o" in arguments]
    what += f" for {isas[0]}" if isas else ""
    raise CompileError(f"{compiler.version} does not compile {what}: {words}", answer.stdout + answer.stderr)
