"""The C compiler of this machine: found, asked for its version, run.

It stands apart from toolchain.py, which builds the C format's libraries, because the benchmark compiles its own
programs with it (edgeline_bench.c_compiler).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeline.errors import MissingCapabilityError, ResourceError

CANDIDATES = ("cc", "gcc", "clang")
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler: the words that start it, and the first line that it says of its version."""

    command: tuple[str, ...]
    version: str


class NoCompilerError(MissingCapabilityError):
    """There is none on this machine; nobody named one."""


def find_compiler(named: str | None = None) -> Compiler:
    """Return `named` (a program, perhaps with options), else `$CC`, else the first of cc, gcc and clang on the path.

    Raises NoCompilerError when there is none, naming what to install, and MissingCapabilityError when one that was
    named is not there or tells no version.
    """
    asked, way_out = ("--cc", "--cc gcc") if named else ("CC", "export CC=gcc")
    command = shlex.split(named or os.environ.get("CC", ""))
    if command and shutil.which(command[0]) is None:
        other = "leave --cc out, or give --cc gcc" if named else "unset CC, or export CC=gcc"
        raise MissingCapabilityError(f"{asked} names '{command[0]}', which is not on the path: {other} and the like")
    command = command or [name for name in CANDIDATES if shutil.which(name)][:1]
    if not command:
        raise NoCompilerError(
            f"there is no C compiler here ({', '.join(CANDIDATES)}): apt-get install gcc libc6-dev, or export CC="
        )
    answer = run_compiler([*command, "--version"])
    first_line = (answer.stdout.splitlines() or [""])[0].strip()
    if answer.returncode != 0 or not first_line:
        raise MissingCapabilityError(
            f"'{shlex.join(command)} --version' tells no version, so it is no compiler: give one, as in {way_out}"
        )
    return Compiler(tuple(command), first_line)


def run_compiler(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a compiler in a folder, its messages in English.

    Raises ResourceError when it does not end, MissingCapabilityError when it does not start.
    """
    try:
        return subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}, cwd=folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ResourceError(f"'{command[0]}' did not end within {_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise MissingCapabilityError(f"'{command[0]}' does not start ({error.strerror}): export CC=gcc") from None


def complaint_of(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the line in which a compiler that failed says why."""
    errors = [line for line in answer.stderr.splitlines() if "error" in line] or answer.stderr.splitlines()
    return errors[0].strip() if errors else f"exit code {answer.returncode}"


def check_headers(complaint: str, packages: str = "libc6-dev") -> None:
    """Raise MissingCapabilityError where a complaint means that the C library's headers are not installed.

    `packages` are Debian's that bring them.
    """
    if ("No such file or directory" in complaint and ".h" in complaint) or "cannot find crt" in complaint:
        raise MissingCapabilityError(f"the C library's headers are missing ({complaint}): apt-get install {packages}")
