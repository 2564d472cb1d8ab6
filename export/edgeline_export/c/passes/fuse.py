"""Merges what follows a layer into it, so that its numbers are finished before they are stored.

Activations go into the operation that makes their input, and a pooling whose windows lie beside each other goes into
the Conv before it. Nothing is merged whose result somebody else reads.
"""

from __future__ import annotations

from dataclasses import replace

from edgeline_export.c.ir import Network, Operation

ACTIVATIONS = ("Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish")
MAX_ACTIVATIONS = 4  # EDGELINE_MAX_ACTIVATIONS of kernels/activation_f32.c
_TAKE_ACTIVATIONS = ("Conv", "Gemm", "MatMul", "AveragePool", "MaxPool", "GlobalAveragePool")
_MAX_WINDOW = 9  # pixels of a pooling window: each needs a register


def fuse(network: Network) -> Network:
    """Return the network with activations and poolings merged into the operations before them."""
    operations: list[Operation] = []
    for operation in network.operations:
        before = next((o for o in operations if o.output == operation.inputs[0]), None)
        if before is None or not _fits(network, before, operation):
            operations.append(operation)
            continue
        merged = replace(
            before,
            nodes=(*before.nodes, *operation.nodes),
            output=operation.output,
            fused=(*before.fused, replace(operation, fused=())),
        )
        operations[operations.index(before)] = merged
    return replace(network, operations=tuple(operations))


def _fits(network: Network, before: Operation, operation: Operation) -> bool:
    if len(network.readers(before.output)) != 1 or before.output == network.output:
        return False
    if any(network.tensors[name].dtype != "float32" for name in (before.output, operation.output)):
        return False
    if operation.operator in ACTIVATIONS:
        return before.operator in _TAKE_ACTIVATIONS and _activations_in_a_row(before) < MAX_ACTIVATIONS
    pooled = any(o.operator in ("MaxPool", "AveragePool") for o in before.fused)
    return before.operator == "Conv" and not pooled and _lies_side_by_side(network, operation)


def _activations_in_a_row(operation: Operation) -> int:
    count = 0
    for fused in reversed(operation.fused):
        if fused.operator not in ACTIVATIONS:
            break
        count += 1
    return count


def _lies_side_by_side(network: Network, pool: Operation) -> bool:
    """Whether a pooling's windows neither overlap nor leave gaps nor reach beyond the border."""
    if pool.operator not in ("MaxPool", "AveragePool"):
        return False
    a = pool.attributes
    (_, _, h, w), (_, _, oh, ow) = network.tensors[pool.inputs[0]].shape, network.tensors[pool.output].shape
    kernel = a["kernel_shape"]
    return (
        kernel == a["strides"]
        and not any(a["pads"])
        and kernel[0] * kernel[1] <= _MAX_WINDOW
        and all(d == 1 or k == 1 for d, k in zip(a["dilations"], kernel, strict=True))
        and oh * kernel[0] <= h
        and ow * kernel[1] <= w
    )
