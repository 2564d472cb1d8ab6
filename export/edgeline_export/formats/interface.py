"""What a format is: the request it gets, what it offers, and how it says that it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeline.artefact import Artefact
from edgeline.manifest import BatchRange
from edgeline_export.subject import Subject


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """How to export: the precision, where to, for which batch sizes, and how much accuracy may be lost (0 to 1)."""

    precision: str
    out: Path
    batch: BatchRange
    max_drop: float


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a format can be written here; if not, why, and the line that changes it."""

    available: bool
    why: str = ""
    install: str = ""


class Format(Protocol):
    """What a format's module offers."""

    name: str
    summary: str
    precisions: tuple[str, ...]

    def availability(self) -> Availability:
        """Say whether it can be written on this machine."""
        ...

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Write the artefact, or raise: GateError when it is not good enough, InputError when it cannot be."""
        ...
