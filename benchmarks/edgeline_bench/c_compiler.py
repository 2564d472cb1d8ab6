"""Compiles the benchmark's own C programs at their first use, into Edgeline's cache.

What lies there is found again by a key of all that decides what the compiler makes: the source, the compiler's
version, the flags, and the CPU that `-march=native` would fit. It compiles single files into executables; the libraries
of the C format are another matter (edgeline_export.c.toolchain).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeline import cache
from edgeline.errors import EdgelineError, ResourceError
from edgeline_export.c.compiler import Compiler, check_headers, complaint_of, find_compiler, run_compiler

_FOLDER = "c"


def compile_c(source: Path, flags: Sequence[str] = ()) -> Path:
    """Return the executable of `source`, compiled now or found in the cache.

    `flags` follow the source on the command line, so that `-lm` works. Raises MissingCapabilityError without a
    compiler or the C library's headers, EdgelineError when the compiler refuses the source, ResourceError when the
    cache cannot be written.
    """
    compiler = find_compiler()
    content = source.read_bytes()
    path = cache.cache_folder(_FOLDER) / f"{source.stem}-{_key(content, compiler, flags)}"
    if _is_ready(path):
        return path
    with cache.locked(path):
        if _is_ready(path):  # another process made it while this one waited
            return path
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / source.stem
            _compile(compiler, source, flags, made)
            try:
                cache.write_checked(path, made.read_bytes())
                path.resolve().chmod(0o700)
            except OSError as error:
                raise ResourceError(f"{path} cannot be written: {error.strerror}") from None
    return path


def _is_ready(path: Path) -> bool:
    return cache.is_whole(path) and os.access(path, os.X_OK)


def _key(content: bytes, compiler: Compiler, flags: Sequence[str]) -> str:
    parts = (hashlib.sha256(content).hexdigest(), *compiler.command, compiler.version, *flags, _cpu())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _cpu() -> str:
    """Return the CPU's model and instruction sets, of which a virtual machine may hide some; "" where not readable."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    wanted = ("model name", "flags", "CPU part", "Features", "isa")
    return "\n".join(dict.fromkeys(line for line in lines if line.partition(":")[0].strip() in wanted))


def _compile(compiler: Compiler, source: Path, flags: Sequence[str], target: Path) -> None:
    answer = run_compiler([*compiler.command, str(source), "-o", str(target), *flags])
    if answer.returncode == 0:
        return
    words = complaint_of(answer)
    check_headers(words)
    raise EdgelineError(f"{compiler.version} does not compile {source.name}: {words}; another one: export CC=clang")
