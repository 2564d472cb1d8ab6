"""What an engine says of itself: which ONNX nodes each of its layers carries out, and in which type.

Only an engine that was deserialised on a GPU can be asked. TensorRT's compiler may carry out several nodes in one layer
whose inside it does not tell; such nodes are `unknown` here, never guessed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from edgeline.tensorrt.engine import Engine
from edgeline.tensorrt.products import Product

UNKNOWN = "unknown"
_PRECISION_OF_TYPE = {"int8": "int8", "half": "fp16", "fp16": "fp16", "float": "fp32", "fp32": "fp32", "bf16": "bf16"}
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


def inspect_plan(product: Product, plan: bytes) -> str:
    """Return an engine's own description as JSON text. It needs a GPU that runs the plan.

    Raises what Engine raises when the plan cannot be deserialised here.
    """
    engine = Engine(product, "the engine", "build it again")
    try:
        engine.deserialise(plan)
        form = product.module.LayerInformationFormat.JSON
        return str(engine.handle.create_engine_inspector().get_engine_information(form))
    finally:
        engine.free()


def node_precisions(description: str, nodes: frozenset[str]) -> dict[str, str]:
    """Return the precision in which each of `nodes` (ONNX node names) runs, UNKNOWN where the engine does not tell.

    A layer's type is that of its first input. A layer that carries out several of the nodes tells of none of them.
    """
    found = dict.fromkeys(nodes, UNKNOWN)
    for layer in json.loads(description).get("Layers", []):
        if not isinstance(layer, dict):  # an engine built without details lists names alone
            continue
        carried = nodes.intersection(_NODE.findall(str(layer.get("Metadata", ""))))
        if len(carried) == 1:
            found[next(iter(carried))] = _precision(layer)
    return found


def _precision(layer: dict[str, Any]) -> str:
    inputs = layer.get("Inputs") or []
    described = str(inputs[0].get("Format/Datatype", "")) if inputs else ""
    for word in re.findall(r"[a-z]+\d*", described.lower()):
        if word in _PRECISION_OF_TYPE:
            return _PRECISION_OF_TYPE[word]
    return UNKNOWN
