"""What every lowering of an operator sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Network, Tensor
from edgeline_export.c.program import Layout
from edgeline_export.c.targets import Target


@dataclass(frozen=True, slots=True)
class Lowering:
    """The network, its target, and where each tensor lies."""

    network: Network
    target: Target
    layouts: Mapping[str, Layout]

    def tensor(self, name: str) -> Tensor:
        """Return an activation."""
        return self.network.tensors[name]

    def layout(self, name: str) -> Layout:
        """Return where an activation lies."""
        return self.layouts[name]

    def constant(self, name: str) -> npt.NDArray[Any]:
        """Return a constant."""
        return self.network.constants[name]

    def is_constant(self, name: str) -> bool:
        """Whether a name is a constant's."""
        return name in self.network.constants


def blocked(count: int, block: int) -> int:
    """Return `count` rounded up to whole blocks."""
    return -(-count // block) * block


def filled(values: npt.NDArray[Any], count: int, axis: int) -> npt.NDArray[Any]:
    """Return an array with zeros behind it, so that `axis` has `count` entries."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, count - values.shape[axis])
    return np.pad(values, widths)


def plus(offset: int) -> str:
    """Return an offset as C adds it to a pointer: nothing for 0."""
    return f" + {offset}" if offset else ""
