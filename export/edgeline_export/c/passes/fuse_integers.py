"""Merges what follows an integer Conv or QLinearMatMul into it, as fuse.py does it for floats.

A table, and a pooling whose windows lie beside each other. Two tables in a row become one. A MaxPool trades places with
a table that keeps the order, so that fewer numbers are looked up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeline_export.c.ir import Network, Operation
from edgeline_export.c.passes.fuse import lies_side_by_side
from edgeline_export.c.passes.tables import TABLES

POOLS = ("MaxPool", "QLinearAveragePool")


def fuse_integers(network: Network) -> Network:
    """Return the network with tables and poolings merged into the integer operations before them."""
    operations: list[Operation] = []
    for operation in network.operations:
        before = next((o for o in operations if operation.inputs and o.output == operation.inputs[0]), None)
        merged = _merged(network, before, operation) if before is not None else None
        if before is None or merged is None:
            operations.append(operation)
        else:
            operations[operations.index(before)] = merged
    return replace(network, operations=tuple(operations))


def _merged(network: Network, before: Operation, operation: Operation) -> Operation | None:
    """Return both as one operation; None where they stay two."""
    if len(network.readers(before.output)) != 1 or before.output == network.output:
        return None
    if any(network.tensors[name].dtype != "uint8" for name in (before.output, operation.output)):
        return None
    nodes = (*before.nodes, *(node for node in operation.nodes if node not in before.nodes))
    if operation.operator in TABLES and before.operator in TABLES:
        table = operation.attributes["table"][before.attributes["table"]]
        return replace(before, nodes=nodes, output=operation.output, attributes={"table": table})
    fused = before.fused
    if not _fits(network, before, operation):
        return None
    if operation.operator == "MaxPool" and fused:
        fused = (replace(operation, inputs=fused[0].inputs), *fused)
    else:
        fused = (*fused, operation)
    return replace(before, nodes=nodes, output=operation.output, fused=fused)


def _fits(network: Network, before: Operation, operation: Operation) -> bool:
    if operation.operator in TABLES:
        plain = not before.fused or [o.operator for o in before.fused] == ["MaxPool"]
        return before.operator in ("QLinearConv", "QLinearMatMul") and plain
    if operation.operator not in POOLS or before.operator != "QLinearConv":
        return False
    if any(o.operator in POOLS or (operation.operator == "MaxPool" and not _keeps_order(o)) for o in before.fused):
        return False
    return lies_side_by_side(network, operation)


def _keeps_order(table: Operation) -> bool:
    return bool((np.diff(table.attributes["table"].astype(int)) >= 0).all())
