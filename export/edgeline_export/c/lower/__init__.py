"""Network -> Program: layouts, one kernel call a step, memory.

layouts.py   where each tensor's numbers lie
floats.py    the operators that compute in float32
memory.py    which steps run for each sample and which for a block of them, and the arena
"""

from __future__ import annotations

from edgeline_export.c.ir import Network
from edgeline_export.c.lower.context import Lowering
from edgeline_export.c.lower.layouts import choose_layouts
from edgeline_export.c.lower.memory import program_from_steps
from edgeline_export.c.lower.operators import LOWERINGS
from edgeline_export.c.program import Program, Step
from edgeline_export.c.targets import Target


def lower(network: Network, target: Target) -> Program:
    """Return the program of a network that all passes have seen."""
    lowering = Lowering(network, target, choose_layouts(network, target))
    steps: list[Step] = []
    for operation in network.operations:
        steps += LOWERINGS[operation.operator](operation, lowering)
    return program_from_steps(lowering, steps)
