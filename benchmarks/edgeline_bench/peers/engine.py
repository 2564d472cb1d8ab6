"""What the peers share as engines of a worker, and our own session called in the same way."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeline.errors import InputError, MissingCapabilityError
from edgeline_bench.engines import Call
from edgeline_bench.engines.session import SessionEngine
from edgeline_bench.peers import peer_from_name

if TYPE_CHECKING:
    from edgeline_bench.layers.profile import LayerProfile


class PeerEngine(ABC):
    """A peer at one batch size; `spec["source"]` has `model`, the file it reads, and `precision`.

    A subclass opens the file and binds a batch; the rest is here.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec
        self.batch: int = spec["batch"]
        self.threads: int = spec["threads"]
        self.precision: str = spec["source"]["precision"]

    @abstractmethod
    def import_packages(self) -> None:
        """Import what the engine needs, and nothing else."""

    @abstractmethod
    def open(self, model: Path) -> None:
        """Make the engine ready for batches of `self.batch` on `self.threads` threads."""

    @abstractmethod
    def bind(self, batch: Any) -> Call:
        """Return a call that runs `batch`, float32 [self.batch, ...], and returns the logits as a numpy array.

        The array may be the engine's own memory, valid until the next call. The call after another `bind` is undefined.
        """

    def load(self) -> None:
        """Read the model."""
        self.open(Path(self._spec["source"]["model"]))

    def prepare(self) -> Call:
        """Return a call on the artefact's self-test inputs."""
        from edgeline_bench.inputs import batch_from_selftest

        return self.bind(batch_from_selftest(Path(self._spec["folder"]), self.batch))

    def check(self, output: Any) -> None:
        """Insist on float32 logits, all finite. Whether they are right is judged on the test split, by `infer`.

        A peer that quantised by itself has other logits than our self-test, and may be as right.
        """
        import numpy as np

        if output.dtype != np.float32 or output.shape[:1] != (self.batch,) or not np.isfinite(output).all():
            raise InputError(f"expected {self.batch} rows of finite float32, got {output.dtype} {list(output.shape)}")

    def infer(self, samples: Any) -> Any:
        """Run any number of samples, float32 [n, ...] -> float32 [n, ...], in pieces of the batch size."""
        import numpy as np

        found = []
        for start in range(0, len(samples), self.batch):
            piece = samples[start : start + self.batch]
            filled = np.concatenate([piece, np.repeat(piece[-1:], self.batch - len(piece), axis=0)])
            found.append(np.array(self.bind(np.ascontiguousarray(filled))())[: len(piece)])
        return np.concatenate(found)

    def own_memory(self) -> dict[str, int] | None:
        """It says nothing of its memory."""
        return None

    def stages(self, seconds: float) -> dict[str, list[float]]:
        """Raise MissingCapabilityError: it is not timed on a GPU."""
        raise MissingCapabilityError(f"peers are timed on the CPU: no stages of a GPU in {seconds} s")

    def profile(self, seconds: float) -> LayerProfile:
        """Raise MissingCapabilityError: its layers are not looked at."""
        raise MissingCapabilityError(f"the layers of peers are not profiled, not even for {seconds} s")


def peer_engine(spec: Mapping[str, Any]) -> PeerEngine:
    """Construct the engine of the peer that `spec["engine"]` names. Raises UnknownNameError."""
    module, _, name = peer_from_name(spec["engine"]).engine.partition(":")
    engine: PeerEngine = getattr(importlib.import_module(module), name)(spec)
    return engine


class OurEngine(SessionEngine):
    """edgeline.load, with the result written into an array that was made beforehand, as the peers are called.

    `spec["source"]["engine"]` is the session's; `spec["engine"]` is a name in a table.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__({**spec, "engine": spec["source"]["engine"]})

    def prepare(self) -> Call:
        """Return Session.infer on the batch, with `out`."""
        import numpy as np

        from edgeline_bench.inputs import batch_from_selftest

        batch = self._batch = batch_from_selftest(Path(self._spec["folder"]), self._spec["batch"])
        infer = self._session.infer
        out = np.empty_like(infer(batch))
        return lambda: infer(batch, out)
