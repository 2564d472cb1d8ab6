"""Merges what follows a layer into it, so that its numbers are finished before they are stored.

Activations go into the operation that makes their input, and a pooling whose windows lie beside each other goes into
the Conv before it. A MaxPool comes before an activation that never falls: fewer numbers pass through it. Nothing is
merged whose result somebody else reads.
"""

from __future__ import annotations

from dataclasses import replace

from edgeline_export.c.ir import Network, Operation
from edgeline_export.c.passes.draft import Draft

# Each computes a number from one number; Scale is a * x + b, Square is x * x.
ACTIVATIONS = (
    "Abs", "Clip", "Elu", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Scale", "Sigmoid", "Sqrt", "Square",
    "Tanh",
)  # fmt: skip
MAX_ACTIVATIONS = 4  # EDGELINE_MAX_ACTIVATIONS of kernels/activation_f32.c
ARITHMETIC = ("Add", "Affine", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub")
REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
_TAKE_ACTIVATIONS = (
    "Conv", "Gemm", "MatMul", "AveragePool", "MaxPool", "GlobalAveragePool", *ARITHMETIC, *REDUCTIONS, *ACTIVATIONS,
)  # fmt: skip
_MAX_WINDOW = 9  # pixels of a pooling window: each needs a register


def fuse(network: Network) -> Network:
    """Return the network with activations and poolings merged into the operations before them."""
    network = _maximum_first(network)
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


def _maximum_first(network: Network) -> Network:
    draft = Draft(network)
    while any(_swapped(draft, operation) for operation in draft.operations if operation.operator == "MaxPool"):
        pass
    return draft.network()


def _swapped(draft: Draft, pool: Operation) -> bool:
    before = draft.producer(pool.inputs[0])
    if before is None or draft.sole_reader(before.output) is not pool or not _never_falls(before):
        return False
    if not (draft.is_float(before) and draft.is_float(pool)):
        return False
    between = draft.tensor(f"{pool.output}, before '{before.nodes[-1]}'", draft.tensors[pool.output].shape)
    draft.put(before, replace(pool, inputs=before.inputs, output=between))
    draft.put(pool, replace(before, inputs=(between,), output=pool.output))
    return True


def _never_falls(operation: Operation) -> bool:
    """Whether an activation of a larger number is never smaller."""
    a = operation.attributes
    slopes = {"LeakyRelu": "alpha", "HardSigmoid": "alpha", "Elu": "alpha", "Scale": "a"}
    if operation.operator in slopes:
        return bool(a[slopes[operation.operator]] >= 0)
    return operation.operator in ("Relu", "Clip", "Sigmoid", "Tanh")


def _fits(network: Network, before: Operation, operation: Operation) -> bool:
    if len(network.readers(before.output)) != 1 or before.output == network.output:
        return False
    if any(network.tensors[name].dtype != "float32" for name in (before.output, operation.output)):
        return False
    if operation.operator in ACTIVATIONS:
        return before.operator in _TAKE_ACTIVATIONS and _activations_in_a_row(before) < MAX_ACTIVATIONS
    pooled = any(o.operator in ("MaxPool", "AveragePool") for o in before.fused)
    return (
        before.operator == "Conv"
        and not pooled
        and not is_depthwise(network, before)
        and lies_side_by_side(network, operation)
    )


def is_depthwise(network: Network, conv: Operation) -> bool:
    """Whether each channel of a Conv's output comes from the one channel at its place."""
    channels, of_group = network.constants[conv.inputs[1]].shape[:2]
    return bool(conv.attributes["group"] == channels > 1 and of_group == 1)


def _activations_in_a_row(operation: Operation) -> int:
    count = 0
    for fused in reversed(operation.fused):
        if fused.operator not in ACTIVATIONS:
            return count
        count += 1
    return count + (operation.operator in ACTIVATIONS)


def lies_side_by_side(network: Network, pool: Operation) -> bool:
    """Whether a pooling's windows neither overlap nor leave gaps nor reach beyond the border."""
    if pool.operator not in ("MaxPool", "AveragePool", "QLinearAveragePool"):
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
