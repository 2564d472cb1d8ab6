"""Where the examples are, and the digits that they bring along."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgeline
from edgeline.images import array_from_file

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
DIGITS = [EXAMPLES / "linux-c" / "four.pgm", EXAMPLES / "linux-c" / "two.pgm", EXAMPLES / "seven.pgm"]


@pytest.fixture(scope="session")
def classes(exported: Path) -> dict[Path, str]:
    """What ONNX Runtime takes the digits for, with the graph that the other engines have too."""
    with edgeline.load(exported, engine="onnxruntime") as session:
        return {path: str(session.classify(array_from_file(path))[0]) for path in DIGITS}
