"""Tables of 256 entries: what a chain of element-wise float operators makes of each quantised number.

Each operator is computed in float64 and rounded to float32, as if it had run alone; the end is quantised as
QuantizeLinear does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Network, Operation, Tensor

Floats = npt.NDArray[np.float64]
Function = Callable[[Floats, Mapping[str, Any]], Floats]

# Operators that make each number from the one at its place; their attributes have ONNX's names and defaults.
UNARY: dict[str, Function] = {
    "Abs": lambda x, _: np.abs(x),
    "Elu": lambda x, a: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(np.minimum(x, 0))),
    "HardSigmoid": lambda x, a: np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1),
    "HardSwish": lambda x, _: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, a: np.where(x > 0, x, np.float32(a.get("alpha", 0.01)) * x),
    "Neg": lambda x, _: -x,
    "Relu": lambda x, _: np.maximum(x, 0),
    "Sigmoid": lambda x, _: 1 / (1 + np.exp(-np.clip(x, -700, 700))),
    "Softplus": lambda x, _: np.logaddexp(0, x),
    "Tanh": lambda x, _: np.tanh(x),
}
_WITH_A_NUMBER: dict[str, Callable[[Floats, Floats], Floats]] = {
    "Add": np.add, "Div": np.divide, "Mul": np.multiply, "Sub": np.subtract,
}  # fmt: skip
TABLES = tuple(f"QLinear{name}" for name in (*UNARY, "Clip", "Identity"))


def is_unary(network: Network, operation: Operation) -> bool:
    """Whether an operator makes each number from the one at its place, and from constants."""
    if operation.operator == "Clip":
        return clip_range(network, operation) is not None
    if operation.operator in UNARY:
        return True
    given = [name for name in operation.inputs if name in network.constants]
    return (
        operation.operator in _WITH_A_NUMBER
        and len(given) == 1
        and network.constants[given[0]].size == 1
        and network.tensors[operation.output].size == next(network.activations(operation)).size
    )


def clip_range(network: Network, operation: Operation) -> tuple[float, float] | None:
    """Return the range of a Clip or Relu; None where a bound is computed."""
    if operation.operator == "Relu":
        return 0.0, np.inf
    bounds = [operation.attributes.get("min"), operation.attributes.get("max")]
    for i, name in enumerate(operation.inputs[1:3]):
        if name:
            if name not in network.constants:
                return None
            bounds[i] = network.constants[name].reshape(-1)[0]
    low = -np.inf if bounds[0] is None else float(np.float32(bounds[0]))
    return low, np.inf if bounds[1] is None else float(np.float32(bounds[1]))


def quantised(values: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[np.int64]:
    """Return QuantizeLinear of float32 numbers onto a tensor's grid: rounded half to even, saturated, 0 to 255."""
    steps = np.rint(np.asarray(values, np.float32) / np.float32(tensor.scale))
    return np.asarray(np.clip(steps.astype(np.float64) + tensor.zero_point, 0, 255), np.int64)


def table_of(network: Network, chain: tuple[Operation, ...], x: Tensor, y: Tensor) -> npt.NDArray[np.uint8]:
    """Return, for each number of the grid of `x`, the number on the grid of `y` that the chain makes of it."""
    values = (np.arange(256) - x.zero_point).astype(np.float32) * np.float32(x.scale)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for operation in chain:
            values = _applied(network, operation, values.astype(np.float64)).astype(np.float32)
        values = np.where(np.isnan(values), np.float32(-np.inf), values)
        return quantised(values, y).astype(np.uint8)


def _applied(network: Network, operation: Operation, values: Floats) -> Floats:
    if operation.operator == "Clip":
        low, high = clip_range(network, operation) or (-np.inf, np.inf)
        return np.minimum(np.maximum(values, low), high)
    if operation.operator in UNARY:
        return UNARY[operation.operator](values, operation.attributes)
    pair = [
        network.constants[name].reshape(-1)[0].astype(np.float64) if name in network.constants else values
        for name in operation.inputs
    ]
    return _WITH_A_NUMBER[operation.operator](*pair)
