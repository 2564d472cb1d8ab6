"""The reference kernel: a fixed piece of work whose time says how fast the machine is right now.

Times of two runs are compared as multiples of it. It mixes what the engines are made of: a matrix product (BLAS),
element-wise arithmetic on an array larger than L1, and Python's own loop. Its name changes whenever its work does; the
versions of numpy and Python are part of it, since another one may do the same work at another speed.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeline.errors import MissingCapabilityError
from edgeline_bench.engines import Call

if TYPE_CHECKING:
    from edgeline_bench.layers.profile import LayerProfile

NAME = (
    "numpy-mix-1: matmul 192^3 float32, tanh of 16384 float32, 2000 turns of a Python loop; "
    f"numpy {importlib.metadata.version('numpy')}, Python {platform.python_version()}"
)


class ReferenceEngine:
    """Hosts the kernel, on one thread."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec

    def import_packages(self) -> None:
        """Import numpy."""
        import numpy  # noqa: F401

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self) -> Call:
        """Return the kernel, its arrays made."""
        import numpy as np

        random = np.random.default_rng(0)
        left, right = (random.standard_normal((192, 192)).astype(np.float32) for _ in range(2))
        values = random.standard_normal(16_384).astype(np.float32)

        def call() -> object:
            product = left @ right
            curve = np.tanh(values)
            total = 0
            for i in range(2_000):
                total += i
            return product[0, 0] + curve[0] + total

        return call

    def check(self, output: Any) -> None:
        """Nothing to check."""

    def own_memory(self) -> dict[str, int] | None:
        """It says nothing of its memory."""
        return None

    def infer(self, samples: Any) -> Any:
        """Raise MissingCapabilityError: it is no network."""
        raise MissingCapabilityError(f"the reference kernel is no network for {len(samples)} samples")

    def stages(self, seconds: float) -> dict[str, list[float]]:
        """Raise MissingCapabilityError: it is not timed on a GPU."""
        raise MissingCapabilityError(f"the reference kernel runs on the CPU: no stages of a GPU in {seconds} s")

    def profile(self, seconds: float) -> LayerProfile:
        """Raise MissingCapabilityError: it has no layers."""
        raise MissingCapabilityError(f"the reference kernel has no layers to profile for {seconds} s")
