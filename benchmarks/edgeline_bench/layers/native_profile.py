"""Time per layer of the C format's library, which reads the clock between two layers where it is asked to.

Its layers say themselves which ONNX nodes they carry out. A layer without nodes (padding, another order in memory) is
counted with the one that it serves, which comes behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.backends.native import NativeSession
from edgeline_bench.layers.graph import Graph
from edgeline_bench.layers.matching import Kernel, profile_from_kernels
from edgeline_bench.layers.profile import WARMUP_CALLS, LayerProfile, in_turn, midmean, scale_of

METHOD = "native profile"


def profile_native(session: NativeSession, batch: npt.NDArray[Any], graph: Graph, seconds: float) -> LayerProfile:
    """Return the profile of a session on a batch; `graph` is its artefact's at that batch size.

    Raises MissingCapabilityError where the library was compiled without a profile.
    """
    layers = session.layers()
    calls: list[npt.NDArray[np.float64]] = []

    def repeat(count: int) -> None:
        calls.extend(session.layer_seconds(batch) for _ in range(count))

    unprofiled_s = in_turn(lambda: session.infer(batch), repeat, seconds)
    times_s = [midmean(column) for column in np.stack(calls[WARMUP_CALLS:]).T.tolist()]
    kernels = [
        Kernel(layer.kernel, time_s, layer.nodes, _served(layers, index), _algorithm(layer.kernel))
        for index, (layer, time_s) in enumerate(zip(layers, times_s, strict=True))
    ]
    return profile_from_kernels(graph, kernels, METHOD, scale_of(unprofiled_s, times_s), len(calls) - WARMUP_CALLS)


def _served(layers: Sequence[Any], index: int) -> int | None:
    """Return the next layer that has nodes, for one that has none; the one before where none follows."""
    if layers[index].nodes:
        return None
    others = [i for i in range(len(layers)) if layers[i].nodes]
    return next((i for i in others if i > index), others[-1] if others else None)


def _algorithm(kernel: str) -> str | None:
    return "winograd" if "winograd" in kernel else None
