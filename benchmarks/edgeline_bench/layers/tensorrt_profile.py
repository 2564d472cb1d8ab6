"""Time per layer of TensorRT and TensorRT-RTX: an IProfiler on a context of its own, which runs by plain enqueues.

A CUDA graph cannot be profiled, so the session's own contexts are left alone; the copies in and out are in the
session's latency and in no layer: the scale holds them. Not yet run on a GPU, only against the tests' double.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from edgeline import cuda
from edgeline.backends.tensorrt import TensorRtSession
from edgeline.errors import EdgelineError, MissingCapabilityError
from edgeline.tensorrt.device import Stream, open_cuda
from edgeline.tensorrt.engine import Engine
from edgeline.tensorrt.execution import BoundContext, Buffers
from edgeline.tensorrt.fit import cure
from edgeline.tensorrt.inspector import inspect_plan
from edgeline.tensorrt.plans import ready_plan
from edgeline.tensorrt.products import load_product
from edgeline_bench.layers.graph import Graph
from edgeline_bench.layers.matching import Kernel, profile_from_kernels
from edgeline_bench.layers.profile import WARMUP_CALLS, LayerProfile, in_turn, midmean, scale_of

METHOD = "TensorRT IProfiler"
# As edgeline.tensorrt.inspector reads it: each ONNX node that a layer was made from.
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_REFORMAT = "Reformatting"


def profile_tensorrt(session: TensorRtSession, batch: npt.NDArray[Any], graph: Graph, seconds: float) -> LayerProfile:
    """Return the profile of a session on a batch; `graph` is its artefact's at that batch size.

    Raises what TensorRtSession raises when the plan cannot be opened a second time, and EdgelineError when the
    profiler is told nothing.
    """
    artefact, gpu = session.artefact, cuda.gpu()
    if gpu is None:
        raise MissingCapabilityError("a profile of TensorRT needs an NVIDIA GPU and its driver; there is none here")
    product = load_product(artefact.manifest.format)
    plan = ready_plan(artefact, product, gpu).read_bytes()
    recorder = _new_recorder(product.module)
    device = open_cuda(gpu)
    with device.on_device(), contextlib.ExitStack() as stack:
        stream = Stream(device)
        stack.callback(stream.free)
        engine = Engine(product, artefact.name, cure(artefact))
        stack.callback(engine.free)
        engine.deserialise(plan)
        ends = artefact.manifest.inputs[0], artefact.manifest.outputs[0]
        buffers = Buffers(device, *ends, engine.batch(ends[0]).max, stack)
        lane = _profiled_context(engine, recorder, stream, buffers)
        stack.callback(lane.free)
        lane.set_batch(len(batch))
        buffers.put(batch)

        def repeat(calls: int) -> None:
            for _ in range(calls):
                lane.enqueue()
                stream.synchronise()
                recorder.end_call()

        unprofiled_s = in_turn(lambda: session.infer(batch), repeat, seconds)
    calls = recorder.calls[WARMUP_CALLS:]
    if not calls or not calls[-1]:
        raise EdgelineError(f"{product.title}'s profiler was told of no layer: no time per layer")
    times_s = {name: midmean([call.get(name, 0.0) for call in calls]) for name in calls[-1]}
    kernels = kernels_from_layers(times_s, nodes_of_layers(inspect_plan(product, plan), graph.names))
    return profile_from_kernels(graph, kernels, METHOD, scale_of(unprofiled_s, times_s.values()), len(calls))


def nodes_of_layers(description: str, names: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return the ONNX nodes, of `names`, that each layer of the inspector's description carries out."""
    layers = [layer for layer in json.loads(description).get("Layers", []) if isinstance(layer, dict)]
    return {
        str(layer.get("Name", "")): tuple(
            name for name in dict.fromkeys(_NODE.findall(str(layer.get("Metadata", "")))) if name in names
        )
        for layer in layers
    }


def kernels_from_layers(times_s: Mapping[str, float], layers: Mapping[str, Sequence[str]]) -> list[Kernel]:
    """Return a kernel per layer, in order; a change of format serves the layer after it, else the one before."""
    names = list(times_s)
    nodes = [tuple(layers.get(name, ())) for name in names]
    kernels = []
    for index, name in enumerate(names):
        after = [other for other in range(index + 1, len(names)) if nodes[other]]
        before = [other for other in range(index) if nodes[other]]
        beside = next(iter([*after[:1], *before[-1:]]), None) if name.startswith(_REFORMAT) else None
        kernels.append(Kernel(name, times_s[name], nodes[index], None if nodes[index] else beside))
    return kernels


def _profiled_context(engine: Engine, recorder: Any, stream: Stream, buffers: Buffers) -> BoundContext:
    mark = engine.product.log.mark()
    context = engine.handle.create_execution_context()
    if context is None:
        raise engine.refusal("create_execution_context", mark)
    context.profiler = recorder
    return BoundContext(engine, context, stream, buffers)


def _new_recorder(module: Any) -> Any:
    """Return an IProfiler of the product; it must outlive the context, which holds it by a bare pointer."""

    class Recorder(module.IProfiler):  # type: ignore[misc]  # the module is known at run time only
        def __init__(self) -> None:
            module.IProfiler.__init__(self)
            self.calls: list[dict[str, float]] = []
            self._current: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self._current[layer_name] = self._current.get(layer_name, 0.0) + ms * 1e-3

        def end_call(self) -> None:
            self.calls.append(self._current)
            self._current = {}

    return Recorder()
