"""The ONNX operators that the generator takes: one function each, from a node to an Operation with whole attributes.

A function raises InputError with the reason alone; read.py says the operator and the node. Adding an operator: its
function here and its line in OPERATORS, its kernel in kernels/, its lowering in lower/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation


@dataclass(frozen=True, slots=True)
class Given:
    """A node, and what is known of its graph: shapes of all tensors (batch 1 where it is free), constants."""

    node: onnx.NodeProto
    attributes: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, npt.NDArray[Any]]
    free_batch: bool

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an input."""
        return self.shapes[self.node.input[index]]

    def operation(self, attributes: Mapping[str, Any], operator: str = "", inputs: int | None = None) -> Operation:
        """Return the operation with these attributes, of the first `inputs` inputs, or all."""
        node = self.node
        name = (node.name or node.output[0],)
        return Operation(operator or node.op_type, name, tuple(node.input[:inputs]), node.output[0], dict(attributes))


Read = Callable[[Given], Operation]


def _plain(given: Given) -> Operation:
    return given.operation(given.attributes)


def _conv(given: Given) -> Operation:
    x, weight = given.shape(0), given.shape(1)
    if len(x) != 4:
        raise InputError(f"{len(x) - 2} spatial dimensions, where 2 are taken")
    _need_constants(given, 1)
    group = int(given.attributes.get("group", 1))
    return given.operation({"group": group, **_window(given.attributes, x, weight[2:])})


def _window(attributes: Mapping[str, Any], x: tuple[int, ...], window: tuple[int, ...]) -> dict[str, Any]:
    """Return kernel_shape, strides, dilations and pads (top, left, bottom, right), without auto_pad."""
    strides = tuple(attributes.get("strides", (1, 1)))
    dilations = tuple(attributes.get("dilations", (1, 1)))
    pads = tuple(attributes.get("pads", (0, 0, 0, 0)))
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if auto.startswith("SAME"):
        pads = _same_pads(x[2:], window, strides, dilations, upper=auto == "SAME_UPPER")
    elif auto == "VALID":
        pads = (0, 0, 0, 0)
    return {"kernel_shape": window, "strides": strides, "dilations": dilations, "pads": pads}


def _same_pads(
    sizes: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...], upper: bool
) -> tuple[int, ...]:
    """Return pads so that the output is ceil(input / stride); an odd one goes to the end with SAME_UPPER."""
    begins, ends = [], []
    for size, kernel, stride, dilation in zip(sizes, window, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        small = total // 2
        begins.append(small if upper else total - small)
        ends.append(total - small if upper else small)
    return (*begins, *ends)


def _pool(given: Given) -> Operation:
    x, attributes = given.shape(0), given.attributes
    if len(x) != 4:
        raise InputError(f"{len(x) - 2} spatial dimensions, where 2 are taken")
    if _has_second_output(given.node):
        raise InputError("its second output, Indices, is used")
    window = _window(attributes, x, tuple(attributes["kernel_shape"]))
    return given.operation({**window, "count_include_pad": bool(attributes.get("count_include_pad", 0))})


def _gemm(given: Given) -> Operation:
    attributes = given.attributes
    return given.operation(
        {
            "alpha": float(attributes.get("alpha", 1.0)),
            "beta": float(attributes.get("beta", 1.0)),
            "transA": bool(attributes.get("transA", 0)),
            "transB": bool(attributes.get("transB", 0)),
        }
    )


def _reshape(given: Given) -> Operation:
    """Flatten, Reshape, Squeeze, Unsqueeze, Identity, Dropout: the numbers stay, the shape is that of the output."""
    if given.node.op_type == "Dropout" and _has_second_output(given.node):
        raise InputError("its second output, the mask, is used")
    return given.operation({}, "Reshape", inputs=1)


def _has_second_output(node: onnx.NodeProto) -> bool:
    return len(node.output) > 1 and bool(node.output[1])


def _need_constants(given: Given, first: int) -> None:
    for name in given.node.input[first:]:
        if name and name not in given.constants:
            raise InputError(f"its input '{name}' is computed, where a constant is taken")


OPERATORS: dict[str, Read] = {
    "AveragePool": _pool,
    "Conv": _conv,
    "Dropout": _reshape,
    "Flatten": _reshape,
    "Gemm": _gemm,
    "Identity": _reshape,
    "MaxPool": _pool,
    "Relu": _plain,
    "Reshape": _reshape,
    "Sigmoid": _plain,
    "Squeeze": _reshape,
    "Tanh": _plain,
    "Unsqueeze": _reshape,
}
