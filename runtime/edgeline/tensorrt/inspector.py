"""What an engine says of itself: which ONNX nodes each of its layers carries out, and in which type.

Only an engine that was deserialised on a GPU can be asked. TensorRT's compiler may carry out several nodes in one layer
whose inside it does not tell; such nodes are `unknown` here, never guessed.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from edgeline.tensorrt.engine import Engine
from edgeline.tensorrt.products import Product

if TYPE_CHECKING:
    import tensorrt as trt

UNKNOWN = "unknown"
_PRECISION_OF_TYPE = {"int8": "int8", "half": "fp16", "fp16": "fp16", "float": "fp32", "fp32": "fp32", "bf16": "bf16"}
# TensorRT 10's key, and those that later releases may split it into.
_TYPE_KEYS = ("Format/Datatype", "Format/DataType", "Datatype", "DataType")
# The types of the operands in the name of a kernel, as in sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_...
_PRECISION_OF_KERNEL = {"_i8i8_": "int8", "_f16f16_": "fp16", "_f32f32_": "fp32"}
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


def inspect_plan(product: Product, plan: bytes) -> str:
    """Return an engine's own description as JSON text. It needs a GPU that runs the plan.

    Raises what Engine raises when the plan cannot be deserialised here.
    """
    engine = Engine(product, "the engine", "build it again")
    try:
        engine.deserialise(plan)
        return _describe(product, engine)
    finally:
        engine.free()


def _describe(product: Product, engine: Engine) -> str:
    """Ask through a context whose shapes are set: without one, types are "N/A due to dynamic shapes"."""
    context: trt.IExecutionContext = engine.handle.create_execution_context()
    for mode, name, _dtype, shape in engine.ends():
        if mode == "INPUT" and -1 in shape:
            usual = engine.handle.get_tensor_profile_shape(name, 0)[1]
            context.set_input_shape(name, usual)
    inspector = engine.handle.create_engine_inspector()
    inspector.execution_context = context
    text = str(inspector.get_engine_information(product.module.LayerInformationFormat.JSON))
    del inspector, context  # in this order, and both before their engine
    return text


def node_precisions(description: str, nodes: frozenset[str]) -> dict[str, str]:
    """Return the precision in which each of `nodes` (ONNX node names) runs, UNKNOWN where the engine does not tell.

    A layer that carries out several of the nodes tells of none of them.
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
    """Read a layer's type from its first input, else from its kernel's name, else from its weights.

    int8 weights alone are no int8 arithmetic: a kernel may multiply them as floats.
    """
    inputs = layer.get("Inputs") or [{}]
    told = next((str(inputs[0][key]) for key in _TYPE_KEYS if key in inputs[0]), "")
    found = _precision_of_words(told)
    if found == UNKNOWN:
        kernel = str(layer.get("TacticName", "")).lower()
        found = next((precision for part, precision in _PRECISION_OF_KERNEL.items() if part in kernel), UNKNOWN)
    if found == UNKNOWN:
        weights = layer.get("Weights")
        of_weights = _precision_of_words(str(weights.get("Type", ""))) if isinstance(weights, dict) else UNKNOWN
        found = UNKNOWN if of_weights == "int8" else of_weights
    return found


def _precision_of_words(text: str) -> str:
    words = re.findall(r"[a-z]+\d*", text.lower())
    return next((_PRECISION_OF_TYPE[word] for word in words if word in _PRECISION_OF_TYPE), UNKNOWN)
