"""The packages that every format needs."""

from __future__ import annotations

from importlib.util import find_spec

from edgeline_export.formats.interface import Availability

_PACKAGES = ("onnx", "onnxruntime", "scipy")


def missing_packages() -> Availability | None:
    """Say which of the packages that every export needs are missing; None when all are there."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        return Availability(False, f"{', '.join(missing)} not installed", "pip install 'edgeline[export]'")
    return None
