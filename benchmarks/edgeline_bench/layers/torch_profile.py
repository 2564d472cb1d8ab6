"""Time per layer of eager PyTorch, by torch.profiler.

Of the three ways in, it disturbs least: its records are written in C++. LeNet at batch 1 became 6 % slower under it,
12 % under a TorchFunctionMode, 40 % under a TorchDispatchMode; module hooks would miss functional calls. Only the
operators that the network itself calls count, each with all that it calls in turn.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from edgeline.errors import EdgelineError
from edgeline_bench.layers.graph import Graph, float_view
from edgeline_bench.layers.matching import Kernel, profile_from_kernels
from edgeline_bench.layers.profile import WARMUP_CALLS, LayerProfile, in_turn, midmean, scale_of
from edgeline_bench.layers.torch_match import align
from edgeline_export.graph import attributes_of

METHOD = "torch.profiler"
_CALL = "edgeline_bench.call"
# oneDNN's verbose mode: ...,exec,cpu,convolution,IMPLEMENTATION,...,alg:ALGORITHM,mb1_ic96oc256_ih26oh26kh5...
_CONVOLUTION = re.compile(
    r",exec,\w+,convolution,([^,]*),.*alg:(\w+),(?:g(\d+))?mb\d+_ic(\d+)oc(\d+)_ih\d+oh(\d+)kh(\d+)"
)


def profile_torch(call: Callable[[], object], graph: Graph, seconds: float) -> LayerProfile:
    """Return the profile of `call`, which runs the network of `graph` once, in about `seconds`.

    Raises EdgelineError when the network does not call the same operators each time.
    """
    names: list[str] = []
    rows: list[list[float]] = []

    def profiled(calls: int) -> None:
        for found in _operators(call, calls):
            if not names:
                names.extend(name for name, _ in found)
            if [name for name, _ in found] != names:
                raise EdgelineError("the network calls other operators from call to call: no time per layer")
            rows.append([duration_s for _, duration_s in found])

    unprofiled_s = in_turn(call, profiled, seconds)
    del rows[:WARMUP_CALLS]
    times_s = [midmean(column) for column in zip(*rows, strict=True)]
    view = float_view(graph)
    winograd = _winograd_nodes(call, view)
    aligned = align(names, view.nodes)
    last = next((index for index, (nodes, _) in enumerate(aligned) if nodes), None)
    kernels = []
    for index, (nodes, passive) in enumerate(aligned):
        last = index if nodes else last
        algorithm = "winograd" if winograd.intersection(nodes) else None
        kernels.append(Kernel(names[index], times_s[index], nodes, last if passive else None, algorithm))
    return profile_from_kernels(view, kernels, METHOD, scale_of(unprofiled_s, times_s), len(rows))


def _operators(call: Callable[[], object], calls: int) -> list[list[tuple[str, float]]]:
    """Return for each call the operators that the network called, in order, with their seconds."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(calls + 1):
            with torch.profiler.record_function(_CALL):
                call()
    events: Any = profiler.events()
    marks = sorted((event for event in events if event.name == _CALL), key=_start)
    # The first call of a profile pays for its buffers.
    return [
        [(child.name, child.cpu_time_total * 1e-6) for child in sorted(mark.cpu_children, key=_start)]
        for mark in marks[1:]
    ]


def _start(event: Any) -> float:
    return float(event.time_range.start)


def _winograd_nodes(call: Callable[[], object], view: Graph) -> set[str]:
    """Return the convolutions that oneDNN says it computes by Winograd's algorithm: they need fewer operations.

    They are known again by groups, channels, output height and kernel height.
    """
    import torch

    onednn: Any = torch.backends.mkldnn  # its functions carry no types
    if not onednn.is_available():
        return set()
    with _captured_stdout() as text, onednn.verbose(onednn.VERBOSE_ON):
        call()
    found = {
        (int(groups or 1), *map(int, sizes))
        for implementation, algorithm, groups, *sizes in _CONVOLUTION.findall(text())
        if "wino" in implementation or "wino" in algorithm
    }
    names = set()
    for node in view.nodes:
        if node.operator != "Conv" or len(view.tensor(node.outputs[0]).shape) != 4:
            continue
        groups = attributes_of(node.proto).get("group", 1)
        outputs, inputs, height, _ = view.tensor(node.inputs[1]).shape
        if (groups, inputs * groups, outputs, view.tensor(node.outputs[0]).shape[2], height) in found:
            names.add(node.name)
    return names


@contextlib.contextmanager
def _captured_stdout() -> Iterator[Callable[[], str]]:
    """Catch what C code prints; the text can be asked for when the block has ended."""
    libc = ctypes.CDLL(None)
    libc.fflush(None)
    kept = os.dup(1)
    content: list[str] = []
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 1)
            yield lambda: "".join(content)
        finally:
            libc.fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            content.append(file.read().decode(errors="replace"))
