"""Conv and the poolings: one or two spatial dimensions, attributes without auto_pad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation
from edgeline_export.c.nodes.given import Given, need_constants


def read_conv(given: Given) -> Operation:
    """Conv with constant weights, of any groups."""
    x, weight = given.shape(0), given.shape(1)
    _check_rank(x)
    need_constants(given, 1)
    group = int(given.attributes.get("group", 1))
    declared = tuple(given.attributes.get("kernel_shape", weight[2:]))
    if declared != weight[2:]:
        raise InputError(f"its kernel_shape is {list(declared)}, its weights have {list(weight[2:])}")
    if x[1] != group * weight[1] or weight[0] % group:
        raise InputError(f"{x[1]} channels, {group} groups and weights {list(weight)} do not go together")
    return given.operation({"group": group, **_window(given.attributes, x, weight[2:])})


def read_pool(given: Given) -> Operation:
    """MaxPool and AveragePool; ceil_mode is in the output's shape, storage_order is of the Indices alone."""
    x, attributes = given.shape(0), given.attributes
    _check_rank(x)
    window = _window(attributes, x, tuple(attributes["kernel_shape"]))
    counted = bool(attributes.get("count_include_pad", 0))
    _check_windows(window, x[2:], given.shapes[given.node.output[0]][2:])
    return given.operation({**window, "count_include_pad": counted})


def read_global_pool(given: Given) -> Operation:
    """GlobalAveragePool; GlobalMaxPool becomes a MaxPool of one window."""
    x = given.shape(0)
    _check_rank(x)
    ones, sizes = (1,) * len(x[2:]), x[2:]
    window = {"kernel_shape": sizes, "strides": ones, "dilations": ones, "pads": (0,) * (2 * len(sizes))}
    operator = "MaxPool" if given.node.op_type == "GlobalMaxPool" else given.node.op_type
    return given.operation({**window, "count_include_pad": False}, operator)


def _check_rank(x: tuple[int, ...]) -> None:
    if len(x) not in (3, 4):
        raise InputError(f"{len(x) - 2} spatial dimensions, where 1 or 2 are taken")


def _window(attributes: Mapping[str, Any], x: tuple[int, ...], window: tuple[int, ...]) -> dict[str, Any]:
    """Return kernel_shape, strides, dilations and pads (all begins, then all ends), without auto_pad."""
    count = len(window)
    strides = tuple(attributes.get("strides", (1,) * count))
    dilations = tuple(attributes.get("dilations", (1,) * count))
    pads = tuple(attributes.get("pads", (0,) * (2 * count)))
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(x[2:], window, strides, dilations, upper=auto == "SAME_UPPER")
    elif auto == "VALID":
        pads = (0,) * (2 * count)
    elif auto != "NOTSET":
        raise InputError(f"its auto_pad is {auto}, where NOTSET, VALID, SAME_UPPER and SAME_LOWER are taken")
    if any(len(numbers) != count for numbers in (strides, dilations)) or len(pads) != 2 * count:
        raise InputError(f"its strides, dilations or pads are not those of {count} spatial dimensions")
    if min(pads) < 0 or min((*strides, *dilations, *window)) < 1:
        raise InputError("a negative padding, or a stride, dilation or window below 1")
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


def _check_windows(window: Mapping[str, Any], sizes: tuple[int, ...], results: tuple[int, ...]) -> None:
    """Raise InputError where a pooling's window lies in the padding alone: there is nothing to pool."""
    for i, (size, count) in enumerate(zip(sizes, results, strict=True)):
        kernel, stride, dilation = (window[name][i] for name in ("kernel_shape", "strides", "dilations"))
        for place in range(count):
            first = place * stride - window["pads"][i]
            if not any(0 <= first + k * dilation < size for k in range(kernel)):
                raise InputError(f"its window {place} of dimension {i} lies in the padding alone")
