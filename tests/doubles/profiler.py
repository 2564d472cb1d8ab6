"""The double's IProfiler: a context that has one tells it the time of each of its engine's layers, run by run.

The times are made up: layer i takes (i + 1) / 100 ms, and the first has a change of format before it, 1 / 100 ms.
"""

from __future__ import annotations

import json
from typing import Any

from tests.doubles.values import LayerInformationFormat

REFORMAT = "Reformatting CopyNode for Input Tensor 0 to the first layer"


class IProfiler:
    """Subclassed by the program; TensorRT calls report_layer_time on the thread that runs the context."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


def report_layers(profiler: IProfiler, engine: Any) -> None:
    """Tell a profiler of one run of an engine."""
    text = engine.create_engine_inspector().get_engine_information(LayerInformationFormat.JSON)
    layers = json.loads(text)["Layers"]
    names = [layer["Name"] if isinstance(layer, dict) else layer for layer in layers]
    profiler.report_layer_time(REFORMAT, 0.01)
    for index, name in enumerate(names):
        profiler.report_layer_time(name, (index + 1) / 100)
