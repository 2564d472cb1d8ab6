"""The profiler of each engine that edgeline.load opens, in a literal table.

Adding one: a module with a function like those below, its line in the table. It
returns edgeline_bench.layers.matching.profile_from_kernels of its kernels, each with the names of its ONNX nodes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import onnx

from edgeline.artefact import GRAPH_FILE
from edgeline.errors import MissingCapabilityError
from edgeline.session import Session
from edgeline_bench.layers.graph import Graph, read_graph
from edgeline_bench.layers.profile import LayerProfile

Profiler = Callable[[Any, npt.NDArray[Any], Graph, float], LayerProfile]
# By engine and device: ONNX Runtime's profile of kernels on a GPU holds the time that it took to launch them.
_PROFILERS = {
    ("onnxruntime", "cpu"): "edgeline_bench.layers.onnxruntime_profile:profile_onnxruntime",
    ("native", "cpu"): "edgeline_bench.layers.native_profile:profile_native",
    ("tensorrt", "cuda"): "edgeline_bench.layers.tensorrt_profile:profile_tensorrt",
}


def profile_session(session: Session, batch: npt.NDArray[Any], seconds: float) -> LayerProfile:
    """Return the profile of a session on a batch, in about `seconds`.

    Raises MissingCapabilityError where the engine tells nothing of its layers on this device, and what its profiler
    raises.
    """
    path = _PROFILERS.get((session.engine, session.device))
    if path is None:
        known = ", ".join(f"{engine} on {device}" for engine, device in _PROFILERS)
        raise MissingCapabilityError(
            f"{session.engine} on {session.device} tells no time per layer; engines that do: {known}"
        )
    graph = read_graph(onnx.load(session.artefact.file(GRAPH_FILE)), len(batch))
    module, _, name = path.partition(":")
    profiler: Profiler = getattr(importlib.import_module(module), name)
    return profiler(session, batch, graph, seconds)
