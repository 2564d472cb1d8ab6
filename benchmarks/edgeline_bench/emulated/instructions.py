"""How many instructions a program for another CPU executes, counted one by one in QEMU's user mode.

Instructions are what an emulator can count exactly; they are neither cycles nor time. The count is that of the whole
program: what it costs to do something once is the difference between doing it n times and n + 1 times.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeline.errors import EdgelineError, InputError, MissingCapabilityError, ResourceError
from edgeline_bench.c_compiler import compile_c

_PLUGIN = Path(__file__).with_name("count_instructions.c")
_FLAGS = ("-O2", "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-shared", "-fPIC", "-fvisibility=hidden")
_TIMEOUT_S = 600.0
# e_machine of an ELF header, and the program of QEMU that runs it.
_QEMU = {40: "qemu-arm", 62: "qemu-x86_64", 183: "qemu-aarch64", 243: "qemu-riscv64"}


def instructions(command: Sequence[str | Path], cpu: str | None = None, *, options: Sequence[str] = ()) -> int:
    """Return how many instructions a program executes. The errors and arguments are those of by_function()."""
    return sum(by_function(command, cpu, options=options).values())


def by_function(
    command: Sequence[str | Path], cpu: str | None = None, *, options: Sequence[str] = ()
) -> Mapping[str, int]:
    """Return how many instructions a program of one thread executes, by the names of its functions.

    `command` is the program, best linked statically, with its arguments; `cpu` is QEMU's name of one, None its default;
    `options` are QEMU's own, as `-L`. What lies in no function that the file names is under "-". Raises
    MissingCapabilityError without QEMU or a C compiler for its plugin, InputError for what is no program that QEMU
    runs, EdgelineError when the program's exit code is not 0, ResourceError when it does not end.
    """
    qemu = _qemu_for(Path(command[0]))
    if shutil.which(qemu) is None:
        raise MissingCapabilityError(f"{qemu} is not installed: apt-get install qemu-user")
    plugin = compile_c(_PLUGIN, _FLAGS)
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        chosen = [] if cpu is None else ["-cpu", cpu]
        started = [qemu, *chosen, *options, "-plugin", f"{plugin},out={counts}", *(str(word) for word in command)]
        try:
            done = subprocess.run(started, capture_output=True, check=False, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ResourceError(f"{command[0]} did not end under {qemu} within {_TIMEOUT_S:.0f} s") from None
        if done.returncode != 0 or not counts.is_file():
            words = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise EdgelineError(f"{command[0]} under {qemu} ended with exit code {done.returncode}: {words}")
        rows = [line.split(maxsplit=1) for line in counts.read_text(encoding="utf-8").splitlines()]
    return {name: int(count) for count, name in rows}


def _qemu_for(program: Path) -> str:
    """Return the program of QEMU that runs an ELF file."""
    try:
        with program.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise InputError(f"{program} cannot be read: {error.strerror}") from None
    (machine,) = struct.unpack_from("<H", head, 18) if head[:4] == b"\x7fELF" and len(head) == 20 else (0,)
    if machine not in _QEMU:
        raise InputError(f"{program} is no ELF program for one of {', '.join(_QEMU.values())}")
    return _QEMU[machine]
