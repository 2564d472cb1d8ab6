"""IREE on the CPU: one compiled module for each batch size, with the weights beside them in one archive.

With one thread on IREE's device `local-sync`, which runs a call inline and has no pool; with more on `local-task`
(iree.dev, "CPU deployment"). The number of `local-task`'s workers is a flag of the process and is read once, when its
first session opens: all sessions with more than one thread must ask for the same number. Workers that wait sleep
(IREE's default, `--task_worker_spin_us=0`: spinning "is often extremely harmful to system health").

IREE copies a batch into its own memory, and its outputs are copied out of it. Other numbers of samples than the sizes
that were compiled run in pieces. Calls of one session wait for each other.
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

PARAMETERS_FILE = "model.irpa"
SCOPE = "model"  # of the parameters, in the archive and in the modules
FUNCTION = "main_graph"  # of each module
_MODULE_FILE = re.compile(r"model\.b(\d+)\.vmfb")

_task_lock = threading.Lock()
_task_threads: list[int] = []  # how many workers this process has, once there are any


def module_file(size: int) -> str:
    """Return the file of the module for one batch size."""
    return f"model.b{size}.vmfb"


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of this CPU by Linux's names; empty where there is no /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = [line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(found[0].split()) if found else frozenset()


class IreeSession(Session):
    """Runs an artefact's modules on IREE. May be called from several threads, one call at a time."""

    engine: ClassVar[str] = "iree"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1) -> None:
        """Load the modules.

        Raises MissingCapabilityError without IREE, for device="cuda", and on a CPU that lacks instructions of the one
        that the modules were compiled on; InputError for another number of workers than the process has; ArtefactError
        when IREE refuses a file.
        """
        super().__init__(artefact, device, threads)
        if device == "cuda":
            raise MissingCapabilityError(f"{artefact.name} is for IREE on the CPU: device='cpu' or 'auto' runs it")
        self.device = "cpu"
        try:
            import iree.runtime
        except ImportError as error:
            raise MissingCapabilityError(f"IREE is not installed ({error}): pip install 'edgeline[peers]'") from None
        self._check_cpu()
        self._lock = threading.Lock()
        self._functions: Mapping[int, Any] | None = self._load(iree.runtime, _device(iree.runtime, threads))

    def _check_cpu(self) -> None:
        """Refuse what would end the process with an illegal instruction."""
        target, here = self.manifest.target, architecture_here()
        if target.get("architecture") != here:
            raise MissingCapabilityError(
                f"{self.artefact.name} was compiled for {target.get('architecture')}, this is {here}: export it here"
            )
        missing = sorted(set(target.get("cpu_flags", ())) - cpu_flags())
        if missing:
            raise MissingCapabilityError(
                f"{self.artefact.name} was compiled for {target.get('cpu')}; this CPU lacks {', '.join(missing)}: "
                "export it here"
            )

    def _load(self, runtime: Any, device: Any) -> dict[int, Any]:
        """Return the function of each batch size."""
        instance = runtime.VmInstance()
        modules = []
        if PARAMETERS_FILE in self.manifest.files:
            index = runtime.ParameterIndex()
            file = self.artefact.file(PARAMETERS_FILE)
            try:
                index.load(str(file))  # mapped into memory: shared by the modules
            except Exception as error:  # noqa: BLE001 - IREE raises a class of Python's per status code
                raise self._refusal(file, error) from None
            modules.append(runtime.create_io_parameters_module(instance, index.create_provider(scope=SCOPE)))
        functions = {}
        for size, file in self._files().items():
            try:
                module = runtime.VmModule.mmap(instance, str(file))
                hal = runtime.create_hal_module(instance, device)
                context = runtime.VmContext(instance, [hal, *modules, module])
                functions[size] = runtime.FunctionInvoker(context, device, module.lookup_function(FUNCTION))
            except Exception as error:  # noqa: BLE001
                raise self._refusal(file, error) from None
        return functions

    def _files(self) -> dict[int, Path]:
        """Return the modules by batch size."""
        matches = [match for match in map(_MODULE_FILE.fullmatch, self.manifest.files) if match]
        if not matches:
            raise ArtefactError(f"{self.artefact.folder} has no module of IREE; export it again")
        return {int(match[1]): self.artefact.file(match[0]) for match in matches}

    def _refusal(self, file: Path, error: Exception) -> ArtefactError:
        wrote = self.manifest.versions.get("iree-base-compiler", "?")
        words = " ".join(str(error).split())[:200] or type(error).__name__
        return ArtefactError(
            f"IREE refuses {file}, which IREE {wrote} wrote: {words}; export it again, or "
            f"pip install 'iree-base-runtime=={wrote}'"
        )

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        functions = self._functions  # it stays while this call runs, also when another thread closes the session
        if functions is None:
            raise InputError(f"this session of {self.artefact.name} is closed; load it again with edgeline.load")

        def run(piece: npt.NDArray[Any]) -> npt.NDArray[Any]:
            # IREE's contexts are thread-compatible: what calls them at once has to agree among itself.
            with self._lock:
                result = functions[len(piece)](piece)
                if result.dtype != self._output_dtype or tuple(result.shape) != (len(piece), *self._output.shape[1:]):
                    raise ArtefactError(
                        f"{self.artefact.name} gives {result.dtype} {list(result.shape)}, its manifest says "
                        f"{self._output.dtype} {list(self._output.shape)}; export it again"
                    )
                return np.array(result.to_host())  # what to_host() returns lies in IREE's memory

        return run_in_pieces(batch, tuple(functions), run)

    def _close(self) -> None:
        self._functions = None


def _device(runtime: Any, threads: int) -> Any:
    """Return IREE's device for a number of threads. It is the process's: what it computed must not outlive it."""
    if threads == 1:
        return runtime.get_device("local-sync")
    with _task_lock:
        if not _task_threads:
            runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
            _task_threads.append(threads)
        if _task_threads != [threads]:
            raise InputError(
                f"IREE has {_task_threads[0]} workers in this process and cannot change that to {threads}: load with "
                f"threads={_task_threads[0]} or 1, or in another process"
            )
        return runtime.get_device("local-task")
