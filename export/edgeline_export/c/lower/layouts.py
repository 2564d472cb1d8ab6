"""Where each tensor's numbers lie.

Between Conv and pooling the channels of a pixel lie beside each other, and the padding of the Conv behind is part of
the buffer. Everything else has ONNX's own order. Only neighbours that read through strides get another.
"""

from __future__ import annotations

from dataclasses import replace

from edgeline_export.c.ir import Network, Operation
from edgeline_export.c.program import Layout, channels_last, contiguous
from edgeline_export.c.targets import Target

POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
# Operators that read and write [n, c, h, w] by strides.
_SPATIAL = ("Conv", *POOLS)


def choose_layouts(network: Network, target: Target) -> dict[str, Layout]:
    """Return the layout of each activation."""
    layouts = {network.input: contiguous(network.tensors[network.input].shape)}
    for operation in network.operations:
        layouts[operation.output] = _layout_of(network, target, operation, layouts)
    return layouts


def _layout_of(network: Network, target: Target, operation: Operation, layouts: dict[str, Layout]) -> Layout:
    tensor = network.tensors[operation.output]
    if operation.operator == "Reshape":
        return reshaped(network, operation, layouts[operation.inputs[0]], tensor.shape)
    if operation.output == network.output or operation.operator not in _SPATIAL:
        return contiguous(tensor.shape)
    readers = network.readers(operation.output)
    if not all(reader.operator in _SPATIAL or _feeds_matrices(network, reader) for reader in readers):
        return contiguous(tensor.shape)
    if runs_planar(network, target, operation):
        return contiguous(tensor.shape)
    pads = [reader.attributes["pads"] for reader in readers if reader.operator == "Conv"]
    widest = tuple(max(pad[i] for pad in pads) for i in range(4)) if pads else (0, 0, 0, 0)
    if any(widest) and any(reader.operator == "Reshape" for reader in readers):
        return contiguous(tensor.shape)
    return channels_last(tensor.shape, widest, tensor.zero_point if tensor.dtype == "uint8" else 0)


def reshaped(network: Network, operation: Operation, source: Layout, shape: tuple[int, ...]) -> Layout:
    """Return the layout of a Reshape's output: its input's memory where that can be, else a copy in ONNX's order."""
    plain = contiguous(shape)
    if source.contiguous or (source.dense and _feeds_matrices(network, operation)):
        return replace(plain, source=source)
    return plain


def _feeds_matrices(network: Network, operation: Operation) -> bool:
    """Whether only Gemm and MatMul with constant weights read a flattened tensor: their rows can change places."""
    if operation.operator != "Reshape" or operation.output == network.output:
        return False
    shape = network.tensors[operation.output].shape
    readers = network.readers(operation.output)
    return len(shape) == 2 and shape[0] == 1 and all(takes_any_order(network, reader) for reader in readers)


def takes_any_order(network: Network, operation: Operation) -> bool:
    """Whether an operation multiplies its input, as one row, by constant weights."""
    return (
        operation.operator in ("Gemm", "MatMul")
        and operation.inputs[1] in network.constants
        and network.constants[operation.inputs[1]].ndim == 2
        and not operation.attributes.get("transA", False)
    )


def runs_planar(network: Network, target: Target, operation: Operation) -> bool:
    """Whether a float Conv puts the pixels of a row into the lanes, and not its channels.

    That pays where channels would leave many lanes empty. Its input is copied into phases, so it must be small; its
    output has ONNX's order, which only a Conv without padding reads.
    """
    if operation.operator != "Conv" or network.tensors[operation.inputs[0]].dtype != "float32":
        return False
    if operation.attributes["group"] != 1:
        return False
    readers = network.readers(operation.output)
    if not all(reader.operator == "Conv" and not any(reader.attributes["pads"]) for reader in readers):
        return False
    channels, in_channels = network.constants[operation.inputs[1]].shape[:2]
    columns = network.tensors[operation.output].shape[3]
    lanes = target.block if target.vectors else 1
    by_channels = -(-channels // target.block) * target.block * columns
    by_pixels = channels * -(-columns // lanes) * lanes
    return bool(in_channels <= 4 and by_pixels < by_channels)
