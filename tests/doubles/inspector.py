"""The double's EngineInspector: a layer for each node of the plan's graph, with the type of its first input."""

from __future__ import annotations

import json
from typing import Any

import onnx

from tests.doubles.values import LayerInformationFormat

_WORDS = {onnx.TensorProto.FLOAT: "Float", onnx.TensorProto.FLOAT16: "Half", onnx.TensorProto.INT8: "Int8"}


class EngineInspector:
    """Tells types and ONNX nodes only of engines that were built with ProfilingVerbosity.DETAILED, as TensorRT does."""

    def __init__(self, engine: Any, graph: bytes, verbosity: str, melted: bool) -> None:
        self._engine = engine
        self._model = onnx.load_from_string(graph)
        self._verbosity = verbosity
        self._melted = melted
        self.execution_context: Any = None

    def get_engine_information(self, format: LayerInformationFormat) -> str:  # noqa: A002 - its real name
        if format is not LayerInformationFormat.JSON:
            return "\n".join(node.name for node in self._model.graph.node)
        nodes = [node for node in self._model.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
        if self._verbosity != "DETAILED":
            return json.dumps({"Layers": [node.name for node in nodes]})
        groups = [nodes] if self._melted else [[node] for node in nodes]
        return json.dumps({"Layers": [self._layer(group) for group in groups]})

    def _layer(self, nodes: list[onnx.NodeProto]) -> dict[str, Any]:
        return {
            "Name": "+".join(node.name for node in nodes),
            "Metadata": "\x1e".join(f"[ONNX Layer: {node.name}]" for node in nodes),
            "Inputs": [{"Name": nodes[0].input[0], "Format/Datatype": self._type_of(nodes[0].input[0])}],
        }

    def _type_of(self, name: str) -> str:
        graph = self._model.graph
        kinds = {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.value_info, *graph.output]}
        if self._is_dynamic() and (self.execution_context is None or not self.execution_context._shapes):
            return "N/A due to dynamic shapes"
        producer = next((node for node in graph.node if name in node.output), None)
        if producer is not None and producer.op_type == "DequantizeLinear":
            return "Int8"
        return f"Row major linear format, {_WORDS.get(kinds.get(name, 0), 'N/A')}"

    def _is_dynamic(self) -> bool:
        return any(not d.HasField("dim_value") for v in self._model.graph.input for d in v.type.tensor_type.shape.dim)
