"""Compiles the benchmark's own C programs at their first use, into Edgeline's cache.

What lies there is found again by a key of all that decides what the compiler makes: the source, the compiler's
version, the flags, and the CPU that `-march=native` would fit. It compiles single files into executables; the libraries
of the C format are another matter (edgeline_export).
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeline import cache
from edgeline.errors import EdgelineError, MissingCapabilityError, ResourceError

_FOLDER = "c"
_CANDIDATES = ("cc", "gcc", "clang")
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler: the words that start it, and the first line that it says of its version."""

    command: tuple[str, ...]
    version: str


def find_compiler() -> Compiler:
    """Return `$CC`, else the first of cc, gcc and clang on the path.

    Raises MissingCapabilityError when there is none, naming what to install.
    """
    named = shlex.split(os.environ.get("CC", ""))
    if named and shutil.which(named[0]) is None:
        raise MissingCapabilityError(
            f"CC names '{named[0]}', which is not on the path: unset CC, or export CC=gcc and the like"
        )
    command = named or [name for name in _CANDIDATES if shutil.which(name)][:1]
    if not command:
        raise MissingCapabilityError(
            f"there is no C compiler here ({', '.join(_CANDIDATES)}): apt-get install gcc libc6-dev, or export CC="
        )
    answer = _run([*command, "--version"])
    first_line = (answer.stdout.splitlines() or [""])[0].strip()
    if answer.returncode != 0 or not first_line:
        raise MissingCapabilityError(f"'{shlex.join(command)} --version' tells no version: export CC=gcc and the like")
    return Compiler(tuple(command), first_line)


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
    answer = _run([*compiler.command, str(source), "-o", str(target), *flags])
    if answer.returncode == 0:
        return
    errors = [line for line in answer.stderr.splitlines() if "error" in line] or answer.stderr.splitlines()
    words = errors[0].strip() if errors else f"exit code {answer.returncode}"
    if ("No such file or directory" in words and ".h" in words) or "cannot find crt" in words:
        raise MissingCapabilityError(f"the C library's headers are missing ({words}): apt-get install libc6-dev")
    raise EdgelineError(f"{compiler.version} does not compile {source.name}: {words}; another one: export CC=clang")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler, its messages in English."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ResourceError(f"'{command[0]}' did not end within {_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise MissingCapabilityError(f"'{command[0]}' does not start ({error.strerror}): export CC=gcc") from None
