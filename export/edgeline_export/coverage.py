"""Which share of a graph's arithmetic and weights is in which precision, read from the graph itself.

A multiply-accumulate counts as int8 where both operands of a Conv, Gemm or MatMul come straight from an int8
DequantizeLinear: that is what a compiler can turn into integer arithmetic. Whether a device then does so, only its
engine can say.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto

from edgeline.errors import GateError, InputError
from edgeline_export.graph import attributes_of

_PRECISION_OF: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
    TensorProto.INT32: "int32",
}
_MATRIX_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Operators that do arithmetic, which is not counted here: of recurrent networks, and of graphs quantised elsewhere.
_UNCOUNTED = {"Attention", "DeformConv", "Einsum", "GRU", "LSTM", "RNN"}
_INTEGER = {
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear",
}  # fmt: skip
# The precision that multiply-accumulates must have in the graph, by the precision that was asked for: in tf32 and bf16
# an engine rounds what it multiplies, and the graph stays float32.
MACS_IN = {"fp32": "fp32", "tf32": "fp32", "bf16": "fp32", "fp16": "fp16", "int8": "int8", "int8+fp16": "int8"}
# An engine tells in bf16 that it rounds.
_ENGINE_MACS_IN = MACS_IN | {"bf16": "bf16"}
FLOAT32_GRAPHS = ("fp32", "tf32", "bf16")
_LEAST_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class NodeCoverage:
    """One Conv, Gemm or MatMul: its precision, its multiply-accumulates for one sample, its weights."""

    name: str
    operator: str
    precision: str
    macs: int
    weights: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """The share (0 to 1) of multiply-accumulates and of stored weights (biases included) in each precision.

    `source` is "graph" or "engine": which of them says so.
    """

    source: str
    macs: dict[str, float]
    weights: dict[str, float]
    nodes: tuple[NodeCoverage, ...]

    def to_record(self) -> dict[str, object]:
        """Return the manifest's record."""
        return {"source": self.source, "macs": self.macs, "weights": self.weights}


def coverage_of(model: onnx.ModelProto) -> Coverage:
    """Read the coverage of a graph whose shapes are inferred; the batch counts as 1."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.input, *graph.output]
    } | {tensor.name: tensor.data_type for tensor in graph.initializer}
    shapes = _shapes(model)
    nodes = []
    for node in graph.node:
        if node.op_type not in _MATRIX_OPERATORS:
            continue
        operands = [_operand(name, producers, kinds) for name in node.input[:2]]
        # The type of what an operator of another domain makes is not known; the other operand has the same.
        plain = [p for p in operands if p not in ("int8", "other")] or [p for p in operands if p != "int8"]
        nodes.append(
            NodeCoverage(
                name=node.name or node.output[0],
                operator=node.op_type,
                precision=plain[0] if plain else "int8",
                macs=macs_of(node, shapes),
                weights=math.prod(shapes.get(node.input[1], [0])),
            )
        )
    return Coverage("graph", _shares((n.precision, n.macs) for n in nodes), _weights(graph), tuple(nodes))


def coverage_of_engine(graph: Coverage, precisions: Mapping[str, str]) -> Coverage:
    """Return the coverage as an engine tells it: `precisions` by node name, the counts those of the graph."""
    nodes = tuple(replace(node, precision=precisions[node.name]) for node in graph.nodes)
    macs = _shares((n.precision, n.macs) for n in nodes)
    return Coverage("engine", macs, _shares((n.precision, n.weights) for n in nodes), nodes)


def coverage_with(coverage: Coverage, precision: str, instead: str) -> Coverage:
    """Return the coverage with nodes of one precision counted in another."""
    named = {n.name: instead if n.precision == precision else n.precision for n in coverage.nodes}
    return coverage_of_engine(coverage, named)


def refuse_uncounted(model: onnx.ModelProto, asked: str) -> None:
    """Raise InputError for operators whose arithmetic cannot be told to be in the precision that was asked for."""
    for node in [*model.graph.node, *(inner for function in model.functions for inner in function.node)]:
        foreign = node.domain not in ("", "ai.onnx") and not any(
            (f.domain, f.name) == (node.domain, node.op_type) for f in model.functions
        )
        if node.op_type in _INTEGER or (node.domain == "com.microsoft" and node.op_type.startswith("QLinear")):
            raise InputError(
                f"{node.op_type} (node '{node.name}') is quantised already; export the float network it was made from"
            )
        if asked not in FLOAT32_GRAPHS and (foreign or node.op_type in _UNCOUNTED):
            domain = f" of {node.domain}" if foreign else ""
            raise InputError(
                f"{node.op_type}{domain} (node '{node.name}') is not supported in {asked}: what it does there is not "
                "known; export this network in fp32"
            )


def macs_of(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> int:
    """Count the multiply-accumulates of a Conv, Gemm or MatMul for one sample, from shapes whose batch is 1."""
    output, weight = shapes.get(node.output[0]), shapes.get(node.input[1])
    if output is None or weight is None:
        return 0
    positions = math.prod(output[1:])
    if node.op_type == "ConvTranspose":
        data = shapes.get(node.input[0])
        return 0 if data is None else math.prod(data[1:]) * math.prod(weight[1:])
    if node.op_type == "Conv":
        return positions * math.prod(weight[1:])
    if node.op_type == "Gemm":
        return positions * weight[1 if attributes_of(node).get("transB", 0) else 0]
    return positions * (weight[-2] if len(weight) > 1 else weight[0])


def check_precision(coverage: Coverage, asked: str) -> None:
    """Raise GateError unless the arithmetic is in the precision that was asked for, naming what is not."""
    wanted = (_ENGINE_MACS_IN if coverage.source == "engine" else MACS_IN)[asked]
    found = coverage.macs.get(wanted, 0.0)
    if coverage.macs and found >= (_LEAST_SHARE if wanted == "int8" else 1.0):
        return
    if not coverage.macs:
        if wanted == "int8":
            raise GateError("the network has no Conv, Gemm or MatMul: nothing in it runs in int8; export it in fp32")
        return
    total = sum(node.macs for node in coverage.nodes) or 1
    others = [
        f"{n.name} ({n.operator}, {n.precision}, {n.macs / total:.1%})" for n in coverage.nodes if n.precision != wanted
    ]
    graph_only = wanted == "int8" and coverage.source == "graph"
    why = "; int8 is for Conv, Gemm and MatMul with constant weights: take fp16" if graph_only else ""
    raise GateError(
        f"{asked} was asked for, but {found:.1%} of the multiply-accumulates are in {wanted}; "
        f"not: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}{why}; nothing was written"
    )


def _operand(name: str, producers: dict[str, onnx.NodeProto], kinds: dict[str, int]) -> str:
    node = producers.get(name)
    if node is not None and node.op_type == "DequantizeLinear":
        return _PRECISION_OF.get(kinds.get(node.input[0], 0), "other")
    return _PRECISION_OF.get(kinds.get(name, 0), "other")


def _weights(graph: onnx.GraphProto) -> dict[str, float]:
    """Count stored numbers by type, without shapes, and without the scales and zero points of Q/DQ."""
    helpers = {
        name for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear") for name in node.input[1:]
    }
    counts: defaultdict[str, int] = defaultdict(int)
    for tensor in graph.initializer:
        if tensor.name not in helpers and tensor.data_type != TensorProto.INT64:
            counts[_PRECISION_OF.get(tensor.data_type, "other")] += math.prod(tensor.dims)
    return _shares(counts.items())


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    graph = model.graph
    shapes = {
        value.name: [max(d.dim_value, 1) for d in value.type.tensor_type.shape.dim]
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
    return shapes | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _shares(counts: Iterable[tuple[str, int]]) -> dict[str, float]:
    sums: defaultdict[str, int] = defaultdict(int)
    for name, count in counts:
        sums[name] += count
    total = sum(sums.values())
    return {name: count / total for name, count in sorted(sums.items())} if total else {}
