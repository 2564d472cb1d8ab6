"""What has to lie on a device's disk: the files of an artefact that its engine reads, and the engine's own package."""

from __future__ import annotations

import importlib.metadata
import re
from fnmatch import fnmatch

from edgeline.artefact import Artefact
from edgeline.backends import ENGINES

_OF_A_SIZE = re.compile(r"(?:-batch|\.b)(\d+)\.\w+$")  # model-batch8.pt2, model.b8.vmfb


def deployed_bytes(artefact: Artefact, engine: str, batch: int) -> int | None:
    """Return the size of the files that an engine reads for a batch size.

    Of forms with a file for each batch size those of the others are not counted. None for a form that is yet to be
    built on the device.
    """
    read = [name for name in artefact.manifest.files if any(fnmatch(name, one) for one in ENGINES[engine].reads)]
    sizes = {name: int(found[1]) for name in read if (found := _OF_A_SIZE.search(name))}
    if batch in sizes.values():
        read = [name for name in read if sizes.get(name, batch) == batch]
    return sum(artefact.manifest.files[name].bytes for name in read) if read else None


def engine_bytes(engine: str) -> int | None:
    """Return the installed size of the engine's own package, without what that depends on.

    0 for the C library, which needs none; None where the package is not pip's (TensorRT) or does not list its files.
    """
    if engine == "native":
        return 0
    distribution = "torch" if engine in ("eager", "torch-compile") else ENGINES[engine].distribution
    if not distribution:
        return None
    try:
        files = importlib.metadata.files(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [file.locate() for file in files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) or None  # type: ignore[attr-defined]
