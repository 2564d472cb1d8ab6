"""From the operators that eager PyTorch called, in order, to the ONNX nodes of the same network.

torch's exporter writes a graph in the order in which the network calls its operators, so the two sequences are aligned
by kind (their longest common subsequence). Modules and functional calls look alike here: only operators are seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeline_bench.layers.graph import Node

# What a top-level aten operator becomes in a graph; the first operator that a decomposed one begins with.
_BECOMES: dict[str, tuple[str, ...]] = {
    "abs": ("Abs",),
    "chunk": ("Split",),
    "cos": ("Cos",),
    "log": ("Log",),
    "neg": ("Neg",),
    "pow": ("Pow", "Mul"),
    "sin": ("Sin",),
    "split": ("Split",),
    "sqrt": ("Sqrt",),
    "square": ("Pow", "Mul"),
    "stack": ("Concat", "Unsqueeze"),
    "sum": ("ReduceSum",),
    "adaptive_avg_pool2d": ("GlobalAveragePool", "AveragePool", "ReduceMean"),
    "adaptive_max_pool2d": ("GlobalMaxPool", "MaxPool"),
    "add": ("Add",),
    "addmm": ("Gemm", "MatMul"),
    "avg_pool2d": ("AveragePool",),
    "batch_norm": ("BatchNormalization",),
    "bmm": ("MatMul",),
    "cat": ("Concat",),
    "clamp": ("Clip",),
    "clamp_min": ("Clip", "Relu", "Max"),
    "concat": ("Concat",),
    "constant_pad_nd": ("Pad",),
    "conv1d": ("Conv",),
    "conv2d": ("Conv",),
    "conv_transpose2d": ("ConvTranspose",),
    "convolution": ("Conv", "ConvTranspose"),
    "div": ("Div",),
    "elu": ("Elu",),
    "exp": ("Exp",),
    "gelu": ("Gelu", "Div", "Mul"),
    "group_norm": ("InstanceNormalization", "GroupNormalization", "Reshape"),
    "hardsigmoid": ("HardSigmoid",),
    "hardswish": ("HardSwish", "HardSigmoid"),
    "hardtanh": ("Clip",),
    "layer_norm": ("LayerNormalization", "ReduceMean"),
    "leaky_relu": ("LeakyRelu",),
    "linear": ("Gemm", "MatMul"),
    "log_softmax": ("LogSoftmax",),
    "matmul": ("MatMul", "Gemm"),
    "max_pool2d": ("MaxPool",),
    "mean": ("ReduceMean", "GlobalAveragePool"),
    "mm": ("MatMul", "Gemm"),
    "mul": ("Mul",),
    "pad": ("Pad",),
    "permute": ("Transpose",),
    "prelu": ("PRelu",),
    "relu": ("Relu",),
    "relu6": ("Clip",),
    "sigmoid": ("Sigmoid",),
    "silu": ("Sigmoid", "Swish"),
    "softmax": ("Softmax",),
    "softplus": ("Softplus",),
    "sub": ("Sub",),
    "tanh": ("Tanh",),
    "transpose": ("Transpose",),
    "upsample_nearest2d": ("Resize",),
    "upsample_bilinear2d": ("Resize",),
}
_SHAPES = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
# They need no node: they do nothing in inference, change a shape, or were folded into weights at export.
_PASSIVE = {
    "alias", "alpha_dropout", "batch_norm", "clone", "contiguous", "detach", "dropout", "expand", "feature_dropout",
    "flatten", "permute", "reshape", "select", "slice", "squeeze", "t", "to", "transpose", "unflatten", "unsqueeze",
    "view",
}  # fmt: skip


def align(called: Sequence[str], nodes: Sequence[Node]) -> list[tuple[tuple[str, ...], bool]]:
    """Return for each operator the nodes that it carried out, and whether it may have none.

    `called` are names such as "aten::conv2d", in order; `nodes` those of the float graph in topological order. Of an
    operator that was decomposed (a linear layer may be a MatMul and an Add) the first node is found.
    """
    kinds = [name.removeprefix("aten::").rstrip("_") for name in called]
    found: list[list[str]] = [[] for _ in kinds]
    for operator, node in _common(kinds, nodes):
        found[operator].append(nodes[node].name)
    return [(tuple(names), kind in _PASSIVE) for names, kind in zip(found, kinds, strict=True)]


def _common(kinds: Sequence[str], nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Return the longest common subsequence as pairs of indices, ascending."""
    longest = [[0] * (len(nodes) + 1) for _ in range(len(kinds) + 1)]
    for i in reversed(range(len(kinds))):
        for j in reversed(range(len(nodes))):
            longest[i][j] = (
                longest[i + 1][j + 1] + 1 if _alike(kinds[i], nodes[j]) else max(longest[i + 1][j], longest[i][j + 1])
            )
    pairs, i, j = [], 0, 0
    while i < len(kinds) and j < len(nodes):
        if _alike(kinds[i], nodes[j]) and longest[i][j] == longest[i + 1][j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _alike(kind: str, node: Node) -> bool:
    return node.operator in _BECOMES.get(kind, ()) or (kind in _PASSIVE and node.operator in _SHAPES)
