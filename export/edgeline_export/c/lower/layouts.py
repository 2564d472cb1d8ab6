"""Where each tensor's numbers lie.

Between Conv and pooling the channels of a pixel lie beside each other, and the padding of the Conv behind is part of
the buffer; what lies between them keeps that, since all but Reshape and matrices read and write by strides. Everything
else has ONNX's own order.
"""

from __future__ import annotations

from dataclasses import replace

from edgeline_export.c.ir import Network, Operation, Tensor
from edgeline_export.c.passes.fuse import ACTIVATIONS, ARITHMETIC, REDUCTIONS, is_depthwise
from edgeline_export.c.program import Layout, channels_last, contiguous
from edgeline_export.c.targets import Target

POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
# Operators that are fastest with the channels of a pixel beside each other.
_SPATIAL = ("Conv", *POOLS)
# Those that read and write any layout as it is.
_FOLLOW = (*ACTIVATIONS, *ARITHMETIC, *REDUCTIONS, "Concat", "Pad", "Slice", "Softmax", "Transpose")


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
    plain = contiguous(tensor.shape)
    if tensor.dtype == "uint8" and operation.output != network.output:
        return _of_integers(network, tensor)
    if operation.output == network.output or operation.operator not in (*_SPATIAL, *_FOLLOW) or len(tensor.shape) != 4:
        return plain
    readers = network.readers(operation.output)
    if not all(_reads_strides(network, reader) for reader in readers) or runs_planar(network, target, operation):
        return plain
    pads = [reader.attributes["pads"] for reader in readers if reader.operator == "Conv"]
    widest = tuple(max(pad[i] for pad in pads) for i in range(4)) if pads else (0, 0, 0, 0)
    if any(widest) and any(reader.operator == "Reshape" for reader in readers):
        return plain
    if operation.operator in _FOLLOW and not any(widest) and not _gains(network, operation, readers, layouts):
        return plain
    return channels_last(tensor.shape, widest, 0)


def _of_integers(network: Network, tensor: Tensor) -> Layout:
    """Return the layout of bytes: channels beside each other, with the padding of the QLinearConv that reads them."""
    if len(tensor.shape) != 4:
        return contiguous(tensor.shape)
    readers = network.readers(tensor.name)
    pads = [reader.attributes["pads"] for reader in readers if reader.operator == "QLinearConv"]
    widest = tuple(max(pad[i] for pad in pads) for i in range(4)) if pads else (0, 0, 0, 0)
    if any(reader.operator == "Reshape" for reader in readers):
        widest = (0, 0, 0, 0)
    return channels_last(tensor.shape, widest, tensor.zero_point)


def _reads_strides(network: Network, reader: Operation) -> bool:
    return reader.operator in (*_SPATIAL, *_FOLLOW, "ArgMax") or _feeds_matrices(network, reader)


def _gains(network: Network, operation: Operation, readers: tuple[Operation, ...], layouts: dict[str, Layout]) -> bool:
    """Whether an operator that takes any layout is to have its channels last.

    Where what it reads has, so that both go through memory in one order; and where a reader would copy otherwise.
    """
    read = [layouts[tensor.name] for tensor in network.activations(operation) if len(tensor.shape) == 4]
    if operation.operator == "Transpose" or not read:
        read = []
    wants = any(reader.operator in POOLS or _is_depthwise(network, reader) for reader in readers)
    return wants or any(layout.strides[1] == 1 and layout.shape[1] > 1 for layout in read)


def _is_depthwise(network: Network, operation: Operation) -> bool:
    return operation.operator == "Conv" and is_depthwise(network, operation)


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
    """Whether an operation multiplies its input, row by row, by one constant matrix."""
    return (
        operation.operator in ("Gemm", "MatMul", "QLinearMatMul")
        and operation.inputs[0] in network.tensors
        and operation.inputs[1] in network.constants
        and network.constants[operation.inputs[1]].ndim == 2
        and not operation.attributes.get("transA", False)
    )


def runs_planar(network: Network, target: Target, operation: Operation) -> bool:
    """Whether a float Conv puts the pixels of a row into the lanes, and not its channels.

    That pays where channels would leave many lanes empty. Its input is copied into phases, so it must be small; its
    output has ONNX's order, which a Conv without padding reads and what takes any layout.
    """
    if operation.operator != "Conv" or network.tensors[operation.inputs[0]].dtype != "float32":
        return False
    if operation.attributes["group"] != 1 or network.tensors[operation.output].shape[0] != 1:
        return False
    readers = network.readers(operation.output)
    if not all(_reads_plain(network, reader) for reader in readers):
        return False
    channels, in_channels = network.constants[operation.inputs[1]].shape[:2]
    columns = network.tensors[operation.output].shape[3]
    lanes = target.block if target.vectors else 1
    by_channels = -(-channels // target.block) * target.block * columns
    by_pixels = channels * -(-columns // lanes) * lanes
    return bool(in_channels <= 4 and by_pixels < by_channels)


def _reads_plain(network: Network, reader: Operation) -> bool:
    """Whether an operation reads ONNX's order as it is."""
    if reader.operator == "Conv":
        return not any(reader.attributes["pads"]) and not is_depthwise(network, reader)
    return reader.operator in _FOLLOW
