"""The packages that every format needs, and those of other projects' converters."""

from __future__ import annotations

from importlib.util import find_spec

from edgeline_export.formats.interface import Availability

_PACKAGES = ("onnx", "onnxruntime", "scipy")


def missing_packages(*peers: str) -> Availability | None:
    """Say which of the packages that every export needs are missing, then which of `peers`; None when all are there.

    `peers` are modules of other projects' converters and engines, by their first name: `iree`, not `iree.compiler`.
    """
    for names, extra in ((_PACKAGES, "export"), (peers, "peers")):
        missing = [name for name in names if find_spec(name) is None]
        if missing:
            return Availability(False, f"{', '.join(missing)} not installed", f"pip install 'edgeline[{extra}]'")
    return None
