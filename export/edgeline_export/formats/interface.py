"""What a format is: the request it gets, what it offers, and how it says that it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeline.artefact import Artefact
from edgeline.manifest import BatchRange
from edgeline_export.subject import Subject

DEFAULT_CALIBRATION_SAMPLES = 512
DEFAULT_CALIBRATION_METHOD = "minmax"
NATIVE = "native"  # the target that is this machine


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """Which samples calibrate: a data set, an .npz file or a folder (None: the subject's own data set), and how.

    `method` None: the ranges that quantisation-aware training left in the weights, and the default for the others.
    """

    source: str | None = None
    samples: int = DEFAULT_CALIBRATION_SAMPLES
    method: str | None = None
    data_root: Path | None = None


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """How to export: the precision, where to, for which batch sizes, and how much accuracy may be lost (0 to 1).

    `compute_capabilities` ("8.9", ...) are targets of `trt-rtx`, `target` and `cc` (the compiler, None: the machine's)
    of `c`, `ram` and `flash` its budgets on a board, in bytes; with `require_engine` an artefact without its compiled
    form is an error. `sizes` are the batch sizes that are verified, ascending, from `batch.min` to `batch.max`; formats
    whose compiled form has fixed shapes compile each of them.
    """

    precision: str
    out: Path
    batch: BatchRange
    max_drop: float
    calibration: CalibrationRequest
    compute_capabilities: tuple[str, ...] = ()
    require_engine: bool = False
    target: str = NATIVE
    cc: str | None = None
    ram: int | None = None
    flash: int | None = None
    given_sizes: tuple[int, ...] = ()  # more than the three of `batch`

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes to verify, and to compile for where shapes are fixed, ascending."""
        return self.given_sizes or tuple(sorted({self.batch.min, self.batch.opt, self.batch.max}))

    @property
    def target_suffix(self) -> str:
        """What stands behind `@` in the artefact's name, for a target that is not the default: `sm89-sm120`."""
        if self.target != NATIVE:
            return self.target
        return "-".join(f"sm{capability.replace('.', '')}" for capability in self.compute_capabilities)


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a format can be written here; if not, why, and the line that changes it.

    `remark` is for a format that can be written, but not to the end.
    """

    available: bool
    why: str = ""
    install: str = ""
    remark: str = ""


class Format(Protocol):
    """What a format's module offers. `options` are the members of ExportRequest that only some formats take."""

    name: str
    summary: str
    precisions: tuple[str, ...]
    options: frozenset[str]

    def availability(self) -> Availability:
        """Say whether it can be written on this machine."""
        ...

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Write the artefact, or raise: GateError when it is not good enough, InputError when it cannot be."""
        ...
