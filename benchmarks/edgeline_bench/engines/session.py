"""Any artefact, through the session that a device would use: numpy in, numpy out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeline.errors import MissingCapabilityError
from edgeline_bench.engines import Call

if TYPE_CHECKING:
    from edgeline_bench.layers.profile import LayerProfile


class SessionEngine:
    """Hosts edgeline.load."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec

    def import_packages(self) -> None:
        """Import the runtime and the engine's own packages."""
        from edgeline.backends import import_packages

        import_packages(self._spec["engine"], self._spec["format"])

    def load(self) -> None:
        """Open the artefact."""
        from edgeline import load

        spec = self._spec
        self._session = load(spec["folder"], spec["device"], spec["threads"], spec["engine"])

    def prepare(self) -> Call:
        """Return Session.infer on the batch."""
        from edgeline_bench.inputs import batch_from_selftest

        batch = self._batch = batch_from_selftest(Path(self._spec["folder"]), self._spec["batch"])
        infer = self._session.infer
        return lambda: infer(batch)

    def check(self, output: Any) -> None:
        """Insist on the logits of the self-test: an engine that computes something else may well be faster."""
        from edgeline_bench.inputs import check_output

        check_output(Path(self._spec["folder"]), output)

    def own_memory(self) -> dict[str, int] | None:
        """Return what TensorRT's session counts: working memory, device and pinned buffers, the plan."""
        from edgeline.backends.tensorrt import TensorRtSession

        return dataclasses.asdict(self._session.memory_bytes()) if isinstance(self._session, TensorRtSession) else None

    def infer(self, samples: Any) -> Any:
        """Run samples in one call, as the rounds do; in pieces where the engine or the graph limits their number."""
        limited = self._session.device == "cuda" or self._session.manifest.inputs[0].shape[0] != -1
        return self._session.infer_all(samples) if limited else self._session.infer(samples)

    def stages(self, seconds: float) -> dict[str, list[float]]:
        """Return the seconds of enqueue, compute and end to end of calls on a GPU.

        Raises MissingCapabilityError for engines other than TensorRT.
        """
        from edgeline.backends.tensorrt import TensorRtSession
        from edgeline_bench.gpu_stages import measure_stages

        if not isinstance(self._session, TensorRtSession):
            raise MissingCapabilityError(f"{self._session.engine} does not tell the stages of a call")
        found = measure_stages(self._session, self._batch, seconds)
        return {
            "enqueue_s": found.enqueue_s,
            "compute_s": found.compute_s,
            "end_to_end_s": found.end_to_end.samples_s,
        }

    def profile(self, seconds: float) -> LayerProfile:
        """Return the time of each layer by the engine's own profiler."""
        from edgeline_bench.layers.session_profile import profile_session

        return profile_session(self._session, self._batch, seconds)
