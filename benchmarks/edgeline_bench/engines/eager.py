"""Eager PyTorch, the baseline: the network as it was trained, as its users call it, with plain weights.

Tensors in, tensors out, inference_mode, TF32 off; the time to turn numpy into tensors is not counted against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeline.errors import MissingCapabilityError
from edgeline_bench.engines import Call

if TYPE_CHECKING:
    from edgeline_bench.layers.profile import LayerProfile


class EagerEngine:
    """Hosts a registered network with its weights, or a factory's module."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec

    def import_packages(self) -> None:
        """Import torch and fix its threads."""
        import torch

        torch.set_num_threads(self._spec["threads"])
        torch.set_num_interop_threads(1)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    def load(self) -> None:
        """Build the module, load its weights, and make them plain, as the exporter does."""
        from edgeline_train.models.plain import plain_network

        source = self._spec["source"]
        if source["kind"] == "factory":
            from edgeline_export.factory import module_from_factory

            self._network = plain_network(module_from_factory(source["factory"]))
            return
        from edgeline_train.models import model_from_name
        from edgeline_train.models.weights import load_weights

        model = model_from_name(source["model"])
        network = model.build().eval()
        load_weights(Path(source["weights"]), network, model)
        self._network = plain_network(network)

    def prepare(self) -> Call:
        """Return a forward pass of the batch under inference_mode."""
        import torch

        from edgeline_bench.inputs import batch_from_selftest

        network = self._network
        folder = Path(self._spec["folder"])
        batch = torch.from_numpy(batch_from_selftest(folder, self._spec["batch"]))
        inference_mode = torch.inference_mode

        def call() -> object:
            with inference_mode():
                return network(batch)

        self._call = call
        return call

    def check(self, output: Any) -> None:
        """Insist that this is the network that was exported: a baseline of other weights would be a made-up figure."""
        from edgeline_bench.inputs import check_output

        check_output(Path(self._spec["folder"]), output.numpy())

    def own_memory(self) -> dict[str, int] | None:
        """It says nothing of its memory."""
        return None

    def infer(self, samples: Any) -> Any:
        """Run samples through the module, numpy in and numpy out."""
        import torch

        with torch.inference_mode():
            return self._network(torch.from_numpy(samples)).numpy()

    def stages(self, seconds: float) -> dict[str, list[float]]:
        """Raise MissingCapabilityError: it is not timed on a GPU."""
        raise MissingCapabilityError(f"eager PyTorch is timed on the CPU: no stages of a GPU in {seconds} s")

    def profile(self, seconds: float) -> LayerProfile:
        """Return the time of each layer by torch.profiler, matched to the graph of the artefact."""
        import onnx

        from edgeline.artefact import GRAPH_FILE
        from edgeline_bench.layers.graph import read_graph
        from edgeline_bench.layers.torch_profile import profile_torch

        graph = read_graph(onnx.load(Path(self._spec["folder"]) / GRAPH_FILE), self._spec["batch"])
        return profile_torch(self._call, graph, seconds)
