"""TensorRT-RTX's runtime cache: the kernels it compiles while it runs, kept in a file between sessions.

It only saves time: a file that is absent, damaged or of another driver is ignored, and a disk that is full costs the
next session its head start. So nothing here raises for them; a note says what happened. Of sessions that save at once
each file is whole and the last one stays, without what only the others compiled. TensorRT has no such cache.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from edgeline.cache import cache_folder, is_cached, read_checked, write_checked
from edgeline.command import note
from edgeline.cuda import Gpu
from edgeline.errors import ResourceError
from edgeline.tensorrt.products import Product

FOLDER = "rtx-runtime"


def cache_key(plan: bytes, product: Product, gpu: Gpu) -> str:
    """Name what compiled kernels depend on: the plan, the product's version, the GPU, the driver; 64 hex digits."""
    parts = (hashlib.sha256(plan).hexdigest(), product.version, gpu.name, gpu.driver)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class RuntimeCache:
    """The runtime cache of one plan on this device: attach() before the context is made, save() when it is done."""

    def __init__(self, plan: bytes, product: Product, gpu: Gpu) -> None:
        self._product = product
        self._path = _path(f"{cache_key(plan, product, gpu)}.bin")
        self._loaded = b""
        self._cache: Any = None

    def attach(self, config: Any) -> None:
        """Make the cache, fill it from its file, and hand it to an IRuntimeConfig. A CUDA device must be current."""
        mark = self._product.log.mark()
        self._cache = config.create_runtime_cache()
        if self._cache is None:
            self._without("does not make a runtime cache", mark)
            return
        content = self._read()
        if content is not None:
            if self._cache.deserialize(content):
                self._loaded = content
            else:
                note(f"{self._product.title} does not take the kernels cached in {self._path}; it compiles them again")
        if not config.set_runtime_cache(self._cache):
            self._without("does not take a runtime cache", mark)

    def save(self) -> None:
        """Write the cache to its file where it holds anything new."""
        if self._cache is None or self._path is None:
            return
        memory = self._cache.serialize()
        content = b"" if memory is None else bytes(memory)
        if content in (b"", self._loaded):
            return
        try:
            write_checked(self._path, content)
        except OSError as error:
            note(f"the compiled kernels are not kept for the next session: {self._path}: {error.strerror or error}")
            return
        self._loaded = content

    def free(self) -> None:
        """Let go of the cache; the context that uses it must be gone."""
        self._cache = None

    def _read(self) -> bytes | None:
        if self._path is None:
            return None
        try:
            content = read_checked(self._path)
            damaged = content is None and is_cached(self._path)
        except OSError as error:
            note(f"the cached kernels are not read: {self._path}: {error.strerror or error}")
            return None
        if damaged:
            note(f"the cached kernels in {self._path} are damaged; they are ignored and written again")
        return content

    def _without(self, what: str, mark: int) -> None:
        self._cache = None
        words = "; ".join(self._product.log.errors_since(mark)) or "no reason given"
        note(f"{self._product.title} {what} ({words}); every session compiles its kernels again")


def _path(name: str) -> Path | None:
    try:
        return cache_folder(FOLDER) / name
    except (ResourceError, OSError) as error:
        note(f"the compiled kernels are not kept for the next session: {error}")
        return None
