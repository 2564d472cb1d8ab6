"""Time per layer of ONNX Runtime, by its own profiler: a second session on the same graph, with the same options.

Its times are whole microseconds. Kernels on a GPU are timed where they are launched, which says nothing: CPU only.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from edgeline.artefact import Artefact
from edgeline.backends.onnxruntime import OnnxRuntimeSession
from edgeline.errors import EdgelineError
from edgeline_bench.layers.graph import Graph
from edgeline_bench.layers.matching import Kernel, profile_from_kernels
from edgeline_bench.layers.onnxruntime_match import Match, match_optimised
from edgeline_bench.layers.profile import WARMUP_CALLS, LayerProfile, in_turn, midmean, scale_of

METHOD = "onnxruntime profile"
_SUFFIX = "_kernel_time"


class _ProfiledSession(OnnxRuntimeSession):
    """The same session, but for the profile and the optimised graph that it writes into a folder."""

    def __init__(self, artefact: Artefact, threads: int, folder: Path) -> None:
        self._folder = folder
        super().__init__(artefact, "cpu", threads)

    def _options(self, onnxruntime: Any) -> Any:
        options = super()._options(onnxruntime)
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / "profile")
        options.optimized_model_filepath = str(self._folder / "optimised.onnx")
        return options

    def end(self) -> list[dict[str, Any]]:
        """Return the events so far; there will be no more."""
        events: list[dict[str, Any]] = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        return events


def profile_onnxruntime(
    session: OnnxRuntimeSession, batch: npt.NDArray[Any], graph: Graph, seconds: float
) -> LayerProfile:
    """Return the profile of a session on a batch; `graph` is its artefact's at that batch size.

    Raises EdgelineError when the profile cannot be read.
    """
    with tempfile.TemporaryDirectory() as name:
        with contextlib.closing(_ProfiledSession(session.artefact, session.threads, Path(name))) as profiled:

            def repeat(calls: int) -> None:
                for _ in range(calls):
                    profiled.infer(batch)

            unprofiled_s = in_turn(lambda: session.infer(batch), repeat, seconds)
            events = profiled.end()
        optimised = onnx.load(Path(name) / "optimised.onnx", load_external_data=False).graph.node
        matches = match_optimised(graph, optimised)
    calls = kernel_times(events)[WARMUP_CALLS:]
    if not calls:
        raise EdgelineError("ONNX Runtime's profile holds no calls: no time per layer")
    times_s = {name: midmean([call.get(name, 0.0) for call in calls]) for name in calls[-1]}
    kernels = kernels_from_profile(times_s, matches)
    return profile_from_kernels(graph, kernels, METHOD, scale_of(unprofiled_s, times_s.values()), len(calls))


def kernel_times(events: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return for each call of the session the seconds of each kernel by its node's name, in order of execution."""
    calls: list[dict[str, float]] = []
    current: defaultdict[str, float] = defaultdict(float)
    for event in events:
        name = str(event["name"])
        if event["cat"] == "Node" and name.endswith(_SUFFIX):
            current[name.removesuffix(_SUFFIX)] += float(event["dur"]) * 1e-6
        elif event["cat"] == "Session" and name == "model_run":  # the last event of a call
            calls.append(dict(current))
            current.clear()
    return calls


def kernels_from_profile(times_s: Mapping[str, float], matches: Sequence[Match]) -> list[Kernel]:
    """Return a kernel per optimised node, and one without nodes for each name of the profile that is none of theirs.

    Unnamed nodes are called OPERATOR_NUMBER in a profile, where numbers ascend: they are taken in order.
    """
    left = dict(times_s)
    kernels = []
    for match in matches:
        name = match.name or _unnamed(match.operator, left) or match.operator
        kernels.append(Kernel(name, left.pop(name, 0.0), match.nodes, match.beside))
    return [*kernels, *itertools.starmap(Kernel, left.items())]


def _unnamed(operator: str, left: Iterable[str]) -> str | None:
    return next(
        (name for name in left if name.rpartition("_")[0] == operator and name.rpartition("_")[2].isdigit()), None
    )
