"""The integers of a Conv, Gemm or MatMul: weights, the factors that bring its sums onto the output's grid, biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Levels, Network, Operation, Tensor

_LARGEST = 2**31 - 1


def matrix_constants(
    network: Network, operation: Operation, x: Tensor, y: Tensor
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], npt.NDArray[np.int32]] | None:
    """Return weights [out, in, rows, columns] of a Conv or [k, n], and a factor and a bias for each output channel.

    factor: x_scale * w_scale / y_scale in float32, in this order, as ONNX Runtime computes it; without y_scale where
    `y` is float32. The bias holds -zero_point_x * sum(w) too, so that padding must hold the zero point. None where the
    operator does not fit: weights that are no int8 with zero point 0, a scale along another axis, sums beyond int32.
    """
    levels, a = network.levels.get(operation.inputs[1]), operation.attributes
    conv = operation.operator == "Conv"
    if levels is None or levels.values.ndim != (4 if conv else 2) or a.get("transA") or a.get("alpha", 1.0) != 1.0:
        return None
    if not conv and network.tensors[operation.inputs[0]].shape[-1] != levels.values.shape[bool(a.get("transB"))]:
        return None
    weight, axis = _int8(levels), 0 if conv or a.get("transB") else 1
    if weight is None or (levels.scale.size > 1 and levels.axis % levels.values.ndim != axis):
        return None
    channels = weight.shape[axis]
    weight_scale = np.broadcast_to(levels.scale.reshape(-1), (channels,)).astype(np.float32)
    step = np.float32(x.scale) * weight_scale
    bias = _bias(network, operation, step)
    if bias is None:
        return None
    weight = weight if conv or axis == 1 else weight.T
    others = tuple(range(1, 4)) if conv else (0,)
    sums = weight.astype(np.int64).sum(others)
    bias = bias - x.zero_point * sums
    if (np.abs(bias) + 255 * np.abs(weight.astype(np.int64)).sum(others) > _LARGEST).any():
        return None
    factor = step if y.dtype == "float32" else step / np.float32(y.scale)
    return weight, np.asarray(factor, np.float32), bias.astype(np.int32)


def _int8(levels: Levels) -> npt.NDArray[np.int8] | None:
    """Return weights as int8 with zero point 0, where they are that or uint8 ones around 128."""
    zero = levels.zero_point.astype(np.int64)
    if levels.values.dtype == np.int8 and not zero.any():
        return np.asarray(levels.values, np.int8)
    if levels.values.dtype == np.uint8 and (zero == 128).all():
        return (levels.values.astype(np.int16) - 128).astype(np.int8)
    return None


def _bias(network: Network, operation: Operation, step: npt.NDArray[np.float32]) -> npt.NDArray[np.int64] | None:
    """Return the bias in steps of x_scale * w_scale: as it is written, where its scale says so, else rounded."""
    name = operation.inputs[2] if len(operation.inputs) > 2 else ""
    if not name:
        return np.zeros(len(step), np.int64)
    if name not in network.constants or operation.attributes.get("beta", 1.0) != 1.0:
        return None
    levels, values = network.levels.get(name), network.constants[name]
    if values.size not in (1, len(step)) or (values.size > 1 and values.shape[-1] != len(step)):
        return None
    whole = levels is not None and levels.values.dtype == np.int32 and not levels.zero_point.any()
    if levels is not None and whole and np.allclose(levels.scale.reshape(-1), step, rtol=1e-5, atol=0):
        return _broadcast(levels.values, len(step))
    rounded = np.rint(_broadcast(values.astype(np.float64), len(step)) / step.astype(np.float64))
    return rounded.astype(np.int64) if (np.abs(rounded) <= _LARGEST).all() else None


def _broadcast(values: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    flat = values.reshape(-1)
    return np.broadcast_to(flat if flat.dtype.kind == "f" else flat.astype(np.int64), (channels,))
