"""AOTInductor's packages (.pt2) on the CPU: libraries that PyTorch's compiler made, run inside libtorch.

This engine is torch, and the only module of the runtime that imports it. A package holds machine code for the processor
that it was compiled on: one that lacks an instruction set is refused here, where the code would end the process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeline.architecture import architecture_here
from edgeline.artefact import Artefact
from edgeline.backends.fixed_batches import run_in_pieces
from edgeline.errors import ArtefactError, InputError, MissingCapabilityError
from edgeline.session import Session

PACKAGE_FILE = "model.pt2"  # for any batch size
_FIXED = re.compile(r"model-batch(\d+)\.pt2")  # for one
_CPUINFO = Path("/proc/cpuinfo")
# What compilers use by themselves for -march=native, by the names of Linux: of x86-64, then of ARM.
_INSTRUCTIONS = re.compile(
    r"sse\w*|pni|ssse3|avx\w*|amx\w*|fma\w*|f16c|bmi\d|abm|movbe|popcnt|aes|vaes|v?pclmulqdq|gfni|sha\w*|adx|xop"
    r"|asimd\w*|sve\w*|sme2?|fphp|atomics|crc32|i8mm|bf16|fcma|jscvt|lrcpc|ilrcpc"
)


class AotInductorSession(Session):
    """Runs the artefact's packages: one for any batch size, or one for each of several.

    With packages of fixed sizes, other sizes run in pieces of these; of several, each is loaded when it is first used.
    `threads` is torch.set_num_threads, which holds
    for the whole process: sessions of other `threads`, and torch itself, share it. Calls from several threads wait for
    each other. torch unpacks a package into a folder for temporary files and removes it with the session.
    ("AOTInductor: Ahead-Of-Time Compilation for Torch.Export-ed Models" on docs.pytorch.org.)
    """

    engine: ClassVar[str] = "aot-inductor"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1) -> None:
        """Load the packages.

        Raises MissingCapabilityError without torch, for device="cuda", and where the packages are for other processors;
        ArtefactError when torch refuses the only one, or there is none. Of several, infer() raises it.
        """
        super().__init__(artefact, device, threads)
        if device == "cuda":
            raise MissingCapabilityError(f"{artefact.name} was compiled for the CPU: device='cpu' or 'auto' runs it")
        self.device = "cpu"
        check_target(artefact)
        try:
            import torch
        except ImportError as error:
            from edgeline.backends import ENGINES

            install = ENGINES[self.engine].install
            raise MissingCapabilityError(f"torch is not installed ({error}): {install}") from None
        self._torch = torch
        torch.set_num_threads(threads)
        names = {size: name for name in artefact.manifest.files if (size := _size_of(name)) is not None}
        if not names:
            raise ArtefactError(f"{artefact.folder} has no {PACKAGE_FILE}; export it again")
        self._files = {size: artefact.file(name) for size, name in sorted(names.items())}
        self._packages: dict[int, Any] = {}
        self._sizes = tuple(self._files) if 0 not in self._files else ()
        if len(self._files) == 1:
            self._package(next(iter(self._files)))
        self._lock = threading.Lock()

    def _package(self, size: int) -> Any:
        """Return what runs a package, loaded when its batch size is first used: each holds all weights."""
        if size not in self._packages:
            self._packages[size] = self._load(self._files[size])
        return self._packages[size]

    def _load(self, path: Path) -> Any:
        """Return what runs a package on a list of tensors.

        Not the model itself: at each call it parses a description of its arguments, which here are one tensor.
        """
        try:
            return self._torch._inductor.aoti_load_package(str(path)).loader
        except Exception as error:  # noqa: BLE001 - torch raises RuntimeError and its own classes
            words = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ArtefactError(f"torch refuses {path}: {words}; export it again") from None

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with self._lock, self._torch.inference_mode():
            if self._closed:
                raise InputError("this session was closed by another thread; load it again with edgeline.load")
            if not self._sizes or len(batch) in self._files:
                return self._run(batch)
            return run_in_pieces(batch, self._sizes, self._run)

    def _run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # torch shares writeable memory only, though it does not write to an input.
        given = self._torch.from_numpy(batch if batch.flags.writeable else batch.copy())
        package = self._package(len(batch) if self._sizes else 0)
        found: npt.NDArray[Any] = package.boxed_run([given])[0].numpy()
        # A network may hand its input on, and leaves the order of an array in memory to torch.
        return found.copy() if np.may_share_memory(found, batch) or not found.flags.c_contiguous else found

    def _close(self) -> None:
        with self._lock:
            self._packages.clear()


def _size_of(name: str) -> int | None:
    """Return the batch size of a package by its file's name, 0 for any; None for other files."""
    fixed = _FIXED.fullmatch(name)
    if fixed is not None:
        return int(fixed[1])
    return 0 if name == PACKAGE_FILE else None


def package_file(size: int) -> str:
    """Return the name of the package for one batch size."""
    return f"model-batch{size}.pt2"


def target_here() -> dict[str, Any]:
    """Return what the manifest says of the processor that packages are compiled for."""
    return {"architecture": architecture_here(), "instructions": sorted(instructions_here())}


def instructions_here() -> frozenset[str]:
    """Return the instruction sets of this processor, by Linux's names; none where the system does not tell."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(flag for flag in found[1].split() if _INSTRUCTIONS.fullmatch(flag)) if found else frozenset()


def check_target(artefact: Artefact) -> None:
    """Raise MissingCapabilityError where the packages are for another architecture or for instructions not here."""
    target: Mapping[str, Any] = artefact.manifest.target
    way_out = "export it on this machine, or --engine onnxruntime runs its graph"
    architecture = target.get("architecture")
    if architecture != architecture_here():
        raise MissingCapabilityError(
            f"{artefact.name} was compiled for {architecture} CPUs, this is {architecture_here()}: {way_out}"
        )
    here = instructions_here()
    missing = sorted(set(target.get("instructions") or ()) - here)
    if missing and here:
        raise MissingCapabilityError(
            f"{artefact.name} was compiled for a CPU with {', '.join(missing)}, which this one lacks: {way_out}"
        )
