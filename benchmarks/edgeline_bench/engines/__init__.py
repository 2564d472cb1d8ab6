"""The engines that a worker can host: one module each, in a literal table. Imported only inside the worker.

Adding an engine: if edgeline.load runs it, nothing here; otherwise its module here, its line in ENGINES, its test.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from edgeline.errors import UnknownNameError

if TYPE_CHECKING:
    from edgeline_bench.layers.profile import LayerProfile

Call = Callable[[], object]


class Engine(Protocol):
    """The three stages of an engine's life that are measured apart. `spec` is edgeline_bench.points.Point's."""

    def __init__(self, spec: Mapping[str, Any]) -> None: ...

    def import_packages(self) -> None:
        """Import what the engine needs, and nothing else."""

    def load(self) -> None:
        """Read weights or artefact and make the engine ready."""

    def prepare(self) -> Call:
        """Return a call without arguments that runs the batch once, in the form the engine likes best."""
        ...

    def check(self, output: Any) -> None:
        """Raise InputError unless `output`, what the first call returned, is what the network must compute."""

    def own_memory(self) -> dict[str, int] | None:
        """Return the bytes that the engine itself says it took, by what they are for; None where it says nothing."""
        ...

    def infer(self, samples: Any) -> Any:
        """Run any number of samples, float32 [n, ...] -> float32 [n, ...] numpy arrays; what LoadGen calls."""
        ...

    def stages(self, seconds: float) -> dict[str, list[float]]:
        """Return the seconds of `enqueue_s`, `compute_s` and `end_to_end_s` of calls on a GPU.

        Raises MissingCapabilityError where there is none.
        """
        ...

    def profile(self, seconds: float) -> LayerProfile:
        """Return the time of each layer, measured in about so many seconds; after prepare().

        It may load the network a second time: whoever reads the process's memory does so before. Raises
        MissingCapabilityError where the engine has no profiler that edgeline can read.
        """
        ...


ENGINES = {
    "eager": "edgeline_bench.engines.eager:EagerEngine",
    "torch-compile": "edgeline_bench.engines.compiled:CompiledEngine",
    "session": "edgeline_bench.engines.session:SessionEngine",
    "reference": "edgeline_bench.engines.reference:ReferenceEngine",
    "ours": "edgeline_bench.peers.engine:OurEngine",
    "peer": "edgeline_bench.peers.engine:peer_engine",
}


def engine_from_spec(spec: Mapping[str, Any]) -> Engine:
    """Import and construct the engine that hosts `spec`. Raises UnknownNameError for an unknown host."""
    if spec["host"] not in ENGINES:
        raise UnknownNameError("engine host", str(spec["host"]), ENGINES)
    module, _, name = ENGINES[spec["host"]].partition(":")
    engine: Engine = getattr(importlib.import_module(module), name)(spec)
    return engine
