"""What supervisor and workers share: the limits, and the way to the log."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says. Times in seconds; `grace_s` must be more than `request_s` for a clean end."""

    artefact: Path
    workers: int
    device: str
    max_body_bytes: int
    request_s: float
    health_s: float
    grace_s: float


def note(text: str) -> None:
    """Write a line to stderr, which systemd puts into the journal, in one piece."""
    sys.stderr.write(f"edgeline-service: {text}\n")
    sys.stderr.flush()
