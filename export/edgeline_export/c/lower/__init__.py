"""Network -> Program: layouts, one kernel call a step, memory.

layouts.py   where each tensor's numbers lie
operators.py which function lowers which operator; integers*.py those on bytes
memory.py    which steps run for each sample and which for a block of them, and the arena
"""

from __future__ import annotations

from edgeline_export.c.ir import Network
from edgeline_export.c.lower.context import Lowering
from edgeline_export.c.lower.layouts import choose_layouts
from edgeline_export.c.lower.memory import program_from_steps
from edgeline_export.c.lower.operators import lower_operation
from edgeline_export.c.program import Program, Step
from edgeline_export.c.targets import Target


def lower(network: Network, target: Target) -> Program:
    """Return the program of a network that all passes have seen."""
    lowering = Lowering(network, target, choose_layouts(network, target))
    steps: list[Step] = []
    for operation in network.operations:
        steps += lower_operation(operation, lowering)
    return program_from_steps(lowering, steps)
