"""Folds scale * x + shift into the constant weights of the layer before or behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Operation
from edgeline_export.c.passes.draft import Draft

Array = npt.NDArray[Any]


def fold_before(draft: Draft, layer: Operation, affine: Operation, scale: Array, shift: Array) -> bool:
    """Let the layer that makes x make scale * x + shift, where both vary along its output channels alone."""
    parts = _parts(draft, layer)
    if parts is None or layer.fused:
        return False
    weight, bias = parts
    axis = 1 if layer.operator == "Conv" else len(draft.tensors[layer.output].shape) - 1
    if not all(values.size == 1 or values.size == values.shape[axis] for values in (scale, shift)):
        return False
    a, b = scale.reshape(-1), shift.reshape(-1)
    along = (-1, *(1,) * (weight.ndim - 1)) if layer.operator == "Conv" else (1, -1)
    merged = _with(draft, layer, weight * a.reshape(along), bias * a + b, affine.nodes)
    if merged is None:
        return False
    draft.put(layer)
    draft.put(affine, replace(merged, output=affine.output, nodes=(*layer.nodes, *affine.nodes)))
    return True


def fold_behind(draft: Draft, layer: Operation, x: str, scale: Array, shift: Array, nodes: tuple[str, ...]) -> bool:
    """Let a layer read x where it reads scale * x + shift.

    For Conv both vary along the channels alone, and its padding, which is not shifted, allows no shift.
    """
    parts = _parts(draft, layer)
    if parts is None or not layer.inputs[0]:
        return False
    weight, bias = parts
    if layer.operator == "Conv":
        channels = draft.tensors[layer.inputs[0]].shape[1]
        if not all(values.ndim == 4 and values.size == values.shape[1] for values in (scale, shift)):
            return False
        if shift.any() and any(layer.attributes["pads"]):
            return False
        group = layer.attributes["group"]
        # [out channels, channels of a group]: what each kernel reads
        a, b = (
            np.repeat(np.broadcast_to(v.reshape(-1), channels).reshape(group, -1), len(weight) // group, axis=0)
            for v in (scale, shift)
        )
        added = (weight * b[:, :, None, None]).sum((1, 2, 3))
        folded = weight * a[:, :, None, None]
    else:
        if not all(values.size == values.shape[-1] for values in (scale, shift)):
            return False
        a, b = (np.broadcast_to(values.reshape(-1), len(weight)) for values in (scale, shift))
        added, folded = b @ weight, weight * a[:, None]
    merged = _with(draft, layer, folded, bias + added, nodes)
    if merged is None:
        return False
    draft.put(layer, replace(merged, inputs=(x, *merged.inputs[1:]), nodes=(*nodes, *layer.nodes)))
    return True


def _parts(draft: Draft, layer: Operation) -> tuple[Array, Array] | None:
    """Return the weights, [k, n] of a matrix, and the bias [n] in double precision; None where they are computed."""
    if layer.operator not in ("Conv", "Gemm", "MatMul") or layer.inputs[0] not in draft.tensors:
        return None
    weight = draft.constants.get(layer.inputs[1])
    has_bias = len(layer.inputs) > 2 and bool(layer.inputs[2])
    given = draft.constants.get(layer.inputs[2]) if has_bias else np.zeros(1)
    if weight is None or given is None or weight.dtype != np.float32:
        return None
    weight, a = weight.astype(np.float64), layer.attributes
    given = given.astype(np.float64) * a.get("beta", 1.0)
    if layer.operator == "Conv":
        return weight, np.broadcast_to(given, len(weight))
    if weight.ndim != 2 or a.get("transA", False):
        return None
    weight = (weight.T if a.get("transB") else weight) * a.get("alpha", 1.0)
    if given.size not in (1, weight.shape[1]):
        return None
    return weight, np.broadcast_to(given.reshape(-1), weight.shape[1])


def _with(draft: Draft, layer: Operation, weight: Array, bias: Array, nodes: tuple[str, ...]) -> Operation | None:
    """Return the layer with other weights; None where float32 does not hold them."""
    with np.errstate(over="ignore"):
        values = [np.ascontiguousarray(v, np.float32) for v in (weight, bias)]
    if not all(np.isfinite(v).all() for v in values):
        return None
    name = layer.inputs[1]
    names = [
        draft.constant(f"{stem} with {nodes[-1]}", v) for stem, v in zip((name, f"bias of {name}"), values, strict=True)
    ]
    plain = {"alpha": 1.0, "beta": 1.0, "transA": False, "transB": False}
    attributes = plain if layer.operator == "Gemm" else layer.attributes
    return replace(layer, inputs=(layer.inputs[0], *names), attributes=attributes)
