"""torch.compile: the baseline's network through Inductor, compiled for the one batch size that is measured.

Settings after PyTorch's "torch.compile" and "TorchInductor CPU" tutorials: inference_mode, weights frozen (`freezing`),
shapes fixed (`dynamic=False`). Its compilation is part of the load, since the first call must not be 20 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeline.errors import MissingCapabilityError
from edgeline_bench.engines.eager import EagerEngine

if TYPE_CHECKING:
    from edgeline_bench.layers.profile import LayerProfile


class CompiledEngine(EagerEngine):
    """Hosts the eager baseline's network behind torch.compile."""

    def import_packages(self) -> None:
        """Import torch and fix its threads and Inductor's settings."""
        super().import_packages()
        import torch._inductor.config as inductor

        inductor.freezing = True
        inductor.compile_threads = 1  # a pool of compilers would stay, and count as threads at work

    def load(self) -> None:
        """Build the network and compile it, by running the batch once."""
        super().load()
        import torch

        compiled: Any = torch.compile(self._network, dynamic=False)
        self._network = compiled
        self.prepare()()

    def profile(self, seconds: float) -> LayerProfile:
        """Raise MissingCapabilityError: Inductor's fused kernels are not matched to the graph."""
        raise MissingCapabilityError(f"Inductor's kernels are not matched to layers, not in {seconds} s")
