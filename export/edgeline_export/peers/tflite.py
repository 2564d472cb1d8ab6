"""What a .tflite says of itself: operators, types and shapes, read with the schema that LiteRT's own package has.

It reads the main subgraph only, and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import GateError
from edgeline_export.coverage import Coverage, NodeCoverage, coverage_of_engine

_PRECISION_OF = {"FLOAT32": "fp32", "FLOAT16": "fp16", "INT8": "int8"}
_MATRIX_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")
_OTHERS = "other operators"
_REDUCED = "reduced_precision_support"  # metadata that let XNNPACK compute float32 in float16


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor: its name, its type in the schema's words (FLOAT32, INT8), its shape, its constant bytes or None."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator: its kind in the schema's words (CONV_2D), and its tensors but for optional inputs left out."""

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def constant(self, index: int) -> npt.NDArray[np.uint8] | None:
        """Return the bytes of an input where the file holds them; a view of the file's content."""
        return self.inputs[index].data

    @property
    def operands(self) -> tuple[Tensor, Tensor]:
        """What a matrix operator multiplies: its data and its filter."""
        return (self.inputs[2], self.inputs[1]) if self.kind == "TRANSPOSE_CONV" else (self.inputs[0], self.inputs[1])

    @property
    def precision(self) -> str:
        """The precision that it multiplies in: that of its two operands and its output, where they agree."""
        types = {tensor.type for tensor in (*self.operands, self.outputs[0])}
        return _PRECISION_OF.get(types.pop(), "other") if len(types) == 1 else "other"

    def macs(self) -> int:
        """Count the multiply-accumulates for one sample; 0 for what does not multiply matrices."""
        if self.kind not in _MATRIX_OPERATORS:
            return 0
        data, weights = self.operands
        places = math.prod(self.outputs[0].shape[1:])
        if self.kind == "DEPTHWISE_CONV_2D":  # its filter: [1, height, width, channels of the output]
            return places * math.prod(weights.shape[1:3])
        if self.kind == "TRANSPOSE_CONV":  # each input number meets [channels of the output, height, width, ...]
            return math.prod(data.shape[1:]) * math.prod(weights.shape[:3])
        if self.kind == "BATCH_MATMUL":
            return places * data.shape[-1]
        return places * math.prod(weights.shape[1:])


@dataclass(frozen=True, slots=True)
class Model:
    """The operators of the main subgraph, in order."""

    operators: tuple[Operator, ...]

    def coverage(self, graph: Coverage) -> Coverage:
        """Return the shares by precision, as the file tells them.

        Multiply-accumulates of the graph that none of its matrix operators does count as "other".
        """
        nodes = [
            NodeCoverage(op.outputs[0].name, op.kind, op.precision, op.macs(), math.prod(op.inputs[1].shape))
            for op in self.operators
            if op.kind in _MATRIX_OPERATORS
        ]
        missing = sum(node.macs for node in graph.nodes) - sum(node.macs for node in nodes)
        if missing > 0:
            nodes.append(NodeCoverage(_OTHERS, _OTHERS, "other", missing, 0))
        by_name: Mapping[str, str] = {node.name: node.precision for node in nodes}
        return coverage_of_engine(Coverage("engine", {}, {}, tuple(nodes)), by_name)


def read_model(content: bytes | bytearray) -> Model:
    """Read a .tflite; constants are views of `content`, which can be written where that is a bytearray.

    Raises GateError when it allows reduced precision, which no export asks for.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    names = [model.Metadata(index).Name() for index in range(model.MetadataLength())]
    if _REDUCED.encode() in names:
        raise GateError(f"the converter allows reduced precision ({_REDUCED}) in the model; nothing was written")
    kinds, types = _names(schema.BuiltinOperator), _names(schema.TensorType)
    graph = model.Subgraphs(0)

    def tensor(index: int) -> Tensor:
        found = graph.Tensors(index)
        buffer = model.Buffers(found.Buffer())
        shape = tuple(int(found.Shape(axis)) for axis in range(found.ShapeLength()))
        data = buffer.DataAsNumpy() if buffer.DataLength() else None
        return Tensor(found.Name().decode(), types[found.Type()], shape, data)

    operators = []
    for index in range(graph.OperatorsLength()):
        found = graph.Operators(index)
        code = model.OperatorCodes(found.OpcodeIndex())
        kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]  # the schema's rule for old files
        inputs = [found.Inputs(i) for i in range(found.InputsLength())]
        outputs = [found.Outputs(i) for i in range(found.OutputsLength())]
        # An optional input that is left out has the index -1, and stands behind those that are read here.
        operators.append(Operator(kind, tuple(tensor(i) for i in inputs if i >= 0), tuple(map(tensor, outputs))))
    return Model(tuple(operators))


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
