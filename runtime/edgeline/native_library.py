"""The C library of an artefact: found, held against this machine, loaded.

It is a file like any other of the artefact, checked by its hash before; nothing in the manifest decides what else is
loaded. Libraries stay loaded until the process ends: another thread may be running in one, and the kernel takes back
the pages of a file that nobody reads.
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeline.architecture import architecture_here
from edgeline.artefact import Artefact
from edgeline.emulator import board_of
from edgeline.errors import ArtefactError, EdgelineError, MissingCapabilityError

FORMAT = "c"
_PREFIX = re.compile(r"[A-Za-z]\w*", re.ASCII)
_CODES = {1: "ENULL", 2: "EBATCH", 3: "EALIGNMENT", 4: "EARENA", 5: "ECPU"}  # EDGELINE_... of the library's header

# Input, output, number of samples, arena, its bytes.
INFER_ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t)

_loaded: dict[str, list[tuple[int, ...]]] = {}
_loaded_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class NativeLibrary:
    """A loaded library. `infer` and `arena_bytes` are its functions; `isa` is the instruction set that they use.

    `suffix` is that of the functions of one instruction set, where not the best one was asked for.
    """

    path: Path
    prefix: str
    suffix: str
    isa: str
    infer: Any
    arena_bytes: Any
    _library: ctypes.CDLL

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """Return another function of the library, NAME_<name>, with its types; None where it has none of that name."""
        try:
            found = self._library[f"{self.prefix}_{name}{self.suffix}"]
        except AttributeError:
            return None
        found.argtypes, found.restype = arguments, result
        return found


@dataclass(frozen=True, slots=True)
class LibraryReport:
    """What is known of an artefact's library; `obstacle` says why it does not run here, and the way out."""

    target: str
    architecture: str | None
    variants: tuple[str, ...]
    isa: str | None
    arena_bytes: int | None
    obstacle: str | None

    def to_record(self) -> Mapping[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def examine_library(artefact: Artefact) -> LibraryReport:
    """Describe the library of a C artefact and load it, to learn what it chooses on this machine."""
    manifest, library, obstacle = artefact.manifest, None, None
    try:
        library = open_library(artefact)
    except EdgelineError as error:
        obstacle = str(error)
    compilation = manifest.compilation or {}
    return LibraryReport(
        target=str(manifest.target.get("name")),
        architecture=manifest.target.get("architecture"),
        variants=tuple(str(variant.get("isa")) for variant in compilation.get("variants") or ()),
        isa=None if library is None else library.isa,
        arena_bytes=compilation.get("arena_bytes") if library is None else library.arena_bytes(1),
        obstacle=obstacle,
    )


def open_library(artefact: Artefact, suffix: str = "") -> NativeLibrary:
    """Load the library of a C artefact; `suffix` names one of its instruction sets instead of the best one.

    Raises MissingCapabilityError where there is none or it does not run on this machine, ArtefactError where it is not
    what the manifest says.
    """
    prefix = str((artefact.manifest.compilation or {}).get("prefix"))
    if not _PREFIX.fullmatch(prefix):
        raise ArtefactError(f"{artefact.folder} does not name its library's functions; export it again")
    if board_of(artefact) is not None:
        raise MissingCapabilityError(
            f"{artefact.name} holds a flash image for a board and no library: edgeline selftest runs it in QEMU, or "
            "--engine onnxruntime runs its graph here"
        )
    file = f"lib{prefix}.so"
    if file not in artefact.manifest.files:
        raise MissingCapabilityError(
            f"{artefact.name} holds C sources and no library: compile them into your program (its main.c runs the "
            "self-test), export it again with a C compiler that makes libraries, or --engine onnxruntime runs its graph"
        )
    target = artefact.manifest.target
    architecture, name = target.get("architecture"), target.get("name")
    if architecture != architecture_here():
        raise MissingCapabilityError(
            f"{artefact.name} holds a library for {architecture} CPUs, this is {architecture_here()}: copy it to a "
            "device of that kind, export it for this one, or --engine onnxruntime runs its graph"
        )
    library = load_library(artefact.folder / file, prefix, suffix)
    if library is None:
        raise MissingCapabilityError(
            f"{artefact.name} was compiled for the target {name}, and this CPU lacks its instructions: export it again "
            "with --target x86-64 or --target generic, or --engine onnxruntime runs its graph"
        )
    return library


def load_library(path: Path, prefix: str, suffix: str = "") -> NativeLibrary | None:
    """Load a library by its path; None where this CPU has none of its instruction sets.

    Raises MissingCapabilityError where the system does not load it, ArtefactError where it lacks a function.
    """
    try:
        # CDLL lets other Python threads run during a call.
        library = ctypes.CDLL(_spelling(path))
    except OSError as error:
        raise MissingCapabilityError(
            f"{path} cannot be loaded here ({error}): export it again on this machine, or --engine onnxruntime runs "
            "its graph"
        ) from None
    try:
        infer, arena_bytes, isa = (
            library[f"{prefix}_{function}"] for function in (f"infer{suffix}", f"arena_bytes{suffix}", f"isa{suffix}")
        )
    except AttributeError as error:
        raise ArtefactError(f"{path} is not the library that its manifest says ({error}); export it again") from None
    infer.argtypes = INFER_ARGUMENTS
    infer.restype = ctypes.c_int
    arena_bytes.argtypes, arena_bytes.restype = (ctypes.c_size_t,), ctypes.c_size_t
    isa.argtypes, isa.restype = (), ctypes.c_char_p
    chosen: bytes | None = isa()
    if chosen is None:
        return None
    return NativeLibrary(path, prefix, suffix, chosen.decode("ascii"), infer, arena_bytes, library)


def error_of(library: NativeLibrary, code: int) -> EdgelineError:
    """Return what an error code of `infer` means; none is the caller's fault once a session has checked its input."""
    name = f"EDGELINE_{_CODES[code]}" if code in _CODES else "no code that it should"
    return EdgelineError(f"{library.prefix}_infer of {library.path} returned {code} ({name}); please report it")


def _spelling(path: Path) -> str:
    """Return a spelling of a path that this process has not used for another file.

    The dynamic loader knows libraries by the path that they were loaded from, and would give the old one back where an
    artefact was exported again in the meantime.
    """
    found = path.stat()
    identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
    whole = path.resolve()
    with _loaded_lock:
        seen = _loaded.setdefault(str(whole), [])
        if identity not in seen:
            seen.append(identity)
        dots = "/." * seen.index(identity)
    return f"{whole.parent}{dots}/{whole.name}" if sys.platform != "win32" else str(whole)
