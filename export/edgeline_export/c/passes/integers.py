"""DequantizeLinear -> operator -> QuantizeLinear becomes one operator on integers.

Names and arithmetic are ONNX Runtime's: QLinearConv, QLinearMatMul (for Gemm too), QLinearAveragePool,
QLinearGlobalAveragePool, QLinearAdd, QLinearMul, QLinearConcat; a chain of element-wise operators is a table of 256
entries under the name of its first (QLinearSigmoid, QLinearLeakyRelu ...); what moves numbers or compares them
(MaxPool, Reshape, Transpose) is itself, on integers. Activations are uint8: int8 ones are written 128 higher. Weights
are int8 with zero point 0. What fits no pattern computes in float32 between a DequantizeLinear and a QuantizeLinear,
and a note says so: nothing is refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeline_export.c.ir import Network, Operation, Tensor
from edgeline_export.c.passes.matrices import matrix_constants
from edgeline_export.c.passes.tables import clip_range, is_unary, quantised, table_of

_MOVES = ("MaxPool", "Reshape", "Transpose")
_MATRICES = {"Conv": "QLinearConv", "Gemm": "QLinearMatMul", "MatMul": "QLinearMatMul"}
_POOLS = ("AveragePool", "GlobalAveragePool")
_PAIRS = ("Add", "Mul")
_SATURATES = ("Relu", "Clip")
MAX_PARTS = 8  # EDGELINE_MOVE_PARTS of kernels/move_u8.c


def integers(network: Network) -> Network:
    """Return the network with integer operators wherever they fit; unchanged where nothing is quantised."""
    if not any(operation.operator == "DequantizeLinear" for operation in network.operations):
        return network
    return _Pass(_unsigned(network)).result()


def _unsigned(network: Network) -> Network:
    """Return the network with int8 activations as uint8, 128 higher, and every quantised tensor's grid in its record.

    An int8 tensor that is the network's input or output, or that other operators read, stays what it is.
    """
    tensors = dict(network.tensors)
    operations: list[Operation] = []
    for name in dict.fromkeys(n for o in network.operations for n in (*o.inputs, o.output) if n in tensors):
        tensor, producer, readers = tensors[name], network.producer(name), network.readers(name)
        made = producer is not None and producer.operator == "QuantizeLinear"
        inside = made and name != network.output
        plain = all(reader.operator == "DequantizeLinear" for reader in readers)
        linear = producer if made else next((o for o in readers if o.operator == "DequantizeLinear"), None)
        if linear is None or tensor.dtype not in ("int8", "uint8"):
            continue
        signed = tensor.dtype == "int8"
        if not signed or (inside and plain):
            zero = linear.attributes["zero_point"] + 128 * signed
            tensors[name] = replace(tensor, dtype="uint8", scale=linear.attributes["scale"], zero_point=zero)
    for operation in network.operations:
        attributes = dict(operation.attributes)
        quantised_name = {"QuantizeLinear": operation.output, "DequantizeLinear": operation.inputs[0]}
        name = quantised_name.get(operation.operator, "")
        if name and tensors[name].dtype != network.tensors[name].dtype:
            attributes["zero_point"] += 128
        operations.append(replace(operation, attributes=attributes))
    return replace(network, tensors=tensors, operations=tuple(operations))


class _Pass:
    """One walk over one network, in order; `behind` says which integers a float tensor was dequantised from."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._tensors = dict(network.tensors)
        self._constants = dict(network.constants)
        self._operations: list[Operation] = []
        self._behind: dict[str, str] = {}
        self._made: set[str] = set()
        self._in_float: list[str] = []
        self._patterns: dict[str, Callable[[Operation], bool]] = {
            **dict.fromkeys(_MOVES, self._move),
            **dict.fromkeys(_MATRICES, self._matrix),
            **dict.fromkeys(_POOLS, self._pool),
            **dict.fromkeys(_PAIRS, self._pair),
            "Concat": self._concat,
        }

    def result(self) -> Network:
        for operation in self._network.operations:
            self._visit(operation)
        kept: list[Operation] = []
        needed = {self._network.output}
        for operation in reversed(self._operations):
            if operation.output in needed:
                kept.append(operation)
                needed.update(operation.inputs)
        return replace(
            self._network,
            operations=tuple(reversed(kept)),
            tensors=self._tensors,
            constants=self._constants,
            notes=(*self._network.notes, *self._notes()),
        )

    def _visit(self, operation: Operation) -> None:
        name = operation.inputs[0] if operation.inputs else ""
        if operation.output in self._made:
            return
        if operation.operator == "DequantizeLinear":
            tensor = self._tensors[name]
            grid = (operation.attributes["scale"], operation.attributes["zero_point"])
            if tensor.dtype == "uint8" and (tensor.scale, tensor.zero_point) == grid:
                self._behind[operation.output] = name
        elif operation.operator == "QuantizeLinear":
            if name in self._behind and self._tensors[operation.output].dtype == "uint8":
                self._table(operation, (), operation)
                return
        elif self._reads_integers(operation):
            unary = is_unary(self._network, operation)
            pattern = self._chain if unary else self._patterns.get(operation.operator)
            if pattern is not None and pattern(operation):
                return
            self._note(operation)
        elif operation.operator != "Softmax":
            self._note(operation)
        self._operations.append(operation)

    def _note(self, operation: Operation) -> None:
        self._in_float.append(f"{operation.operator} '{operation.nodes[0]}'")

    def _notes(self) -> tuple[str, ...]:
        """Return what there is to say of operations that compute in float, a sentence for all of them."""
        if not self._in_float:
            return ()
        shown = ", ".join(self._in_float[:3]) + (", ..." if len(self._in_float) > 3 else "")
        one = len(self._in_float) == 1
        return (
            f"{len(self._in_float)} operation{'' if one else 's'} between the integer layers compute"
            f"{'s' if one else ''} in float32, for want of integers on both sides: {shown}",
        )

    def _reads_integers(self, operation: Operation) -> bool:
        names = [tensor.name for tensor in self._network.activations(operation)]
        return bool(names) and all(name in self._behind for name in names)

    def _end(self, operation: Operation, *, saturating: bool = True) -> tuple[Operation | None, tuple[Operation, ...]]:
        """Return the QuantizeLinear that alone reads an operator's result, and the Relu and Clip on the way there."""
        between: list[Operation] = []
        at = operation
        while at.output != self._network.output:
            readers = self._network.readers(at.output)
            if len(readers) != 1:
                break
            at = readers[0]
            if at.operator == "QuantizeLinear" and self._tensors[at.output].dtype == "uint8":
                return at, tuple(between)
            if not saturating or at.operator not in _SATURATES or clip_range(self._network, at) is None:
                break
            between.append(at)
        return None, ()

    def _range(self, between: tuple[Operation, ...], y: Tensor) -> tuple[int, int]:
        """Return the numbers between which Relu and Clip keep the result: rounding keeps the order, so they commute."""
        low, high = 0, 255
        for operation in between:
            bounds = clip_range(self._network, operation) or (-np.inf, np.inf)
            least, most = (int(n) for n in quantised(np.asarray(bounds, np.float32), y))
            low, high = min(max(low, least), most), min(max(high, least), most)
        return low, high

    def _nodes(self, operation: Operation, between: tuple[Operation, ...], end: Operation | None) -> tuple[str, ...]:
        """Return the ONNX nodes that become one: the operator, then what dequantises for it, then what follows."""
        before: list[str] = []
        for name in operation.inputs:
            producer = self._network.producer(name) if name in self._network.tensors else None
            if producer is not None and producer.operator == "DequantizeLinear":
                before += producer.nodes
            elif name in self._network.levels:
                before.append(self._network.levels[name].node)
        behind = [node for o in (*between, end) if o is not None for node in o.nodes]
        return tuple(dict.fromkeys((*operation.nodes, *before, *behind)))

    def _add(self, operation: Operation, *absorbed: Operation | None) -> bool:
        self._operations.append(operation)
        self._made.update(o.output for o in absorbed if o is not None)
        return True

    def _matrix(self, operation: Operation) -> bool:
        x = self._tensors[self._behind[operation.inputs[0]]]
        end, between = self._end(operation)
        y = self._tensors[end.output if end else operation.output]
        found = matrix_constants(self._network, operation, x, y)
        if found is None:
            return False
        names = [f"{operation.inputs[1]} for {operation.nodes[0]}: {what}" for what in ("int8", "scale", "bias")]
        self._constants.update(zip(names, found, strict=True))
        range_ = self._range(between, y) if end else (0, 255)
        made = Operation(
            _MATRICES[operation.operator],
            self._nodes(operation, between, end),
            (x.name, *names),
            y.name,
            {**operation.attributes, "range": range_},
        )
        return self._add(made, *between, end)

    def _move(self, operation: Operation) -> bool:
        """An operator that changes no number keeps the grid; another grid behind it is a table of its own."""
        x = self._tensors[self._behind[operation.inputs[0]]]
        end, _ = self._end(operation, saturating=False)
        y = self._tensors[end.output] if end else None
        if y is not None and (y.scale, y.zero_point) == (x.scale, x.zero_point):
            moved = replace(operation, inputs=(x.name, *operation.inputs[1:]), output=y.name)
            return self._add(replace(moved, nodes=self._nodes(operation, (), end)), end)
        name = f"{operation.output} in integers"
        self._tensors[name] = replace(x, name=name, shape=self._tensors[operation.output].shape)
        self._add(replace(operation, inputs=(x.name, *operation.inputs[1:]), output=name))
        grid = {"scale": x.scale, "zero_point": x.zero_point}
        self._operations.append(Operation("DequantizeLinear", operation.nodes, (name,), operation.output, grid))
        self._behind[operation.output] = name
        return True

    def _chain(self, operation: Operation) -> bool:
        chain = [operation]
        while True:
            end, _ = self._end(chain[-1], saturating=False)
            if end is not None:
                break
            readers = self._network.readers(chain[-1].output)
            if len(readers) != 1 or chain[-1].output == self._network.output or not is_unary(self._network, readers[0]):
                return False
            chain.append(readers[0])
        return self._table(operation, tuple(chain), end)

    def _table(self, operation: Operation, chain: tuple[Operation, ...], end: Operation) -> bool:
        source = next(tensor.name for tensor in self._network.activations(operation))
        x, y = self._tensors[self._behind[source]], self._tensors[end.output]
        named = next((o.operator for o in chain if o.operator not in ("Add", "Sub", "Mul", "Div")), "Identity")
        made = Operation(
            f"QLinear{named}",
            self._nodes(operation, chain[1:], end),
            (x.name,),
            y.name,
            {"table": table_of(self._network, chain, x, y)},
        )
        return self._add(made, *chain[1:], end)

    def _pool(self, operation: Operation) -> bool:
        return self._with_grids(operation, f"QLinear{operation.operator}")

    def _pair(self, operation: Operation) -> bool:
        tensors = list(self._network.activations(operation))
        if len(tensors) != 2 or tensors[0].shape != tensors[1].shape:
            return False
        return self._with_grids(operation, f"QLinear{operation.operator}")

    def _concat(self, operation: Operation) -> bool:
        if len(operation.inputs) > MAX_PARTS or any(name in self._constants for name in operation.inputs):
            return False
        return self._with_grids(operation, "QLinearConcat", saturating=False)

    def _with_grids(self, operation: Operation, name: str, *, saturating: bool = True) -> bool:
        """Take an operator whose arithmetic follows from the grids of what it reads and writes."""
        end, between = self._end(operation, saturating=saturating)
        if end is None:
            return False
        y = self._tensors[end.output]
        inputs = tuple(self._behind.get(given, given) for given in operation.inputs)
        attributes = {**operation.attributes, "range": self._range(between, y)}
        made = Operation(name, self._nodes(operation, between, end), inputs, y.name, attributes)
        return self._add(made, *between, end)
