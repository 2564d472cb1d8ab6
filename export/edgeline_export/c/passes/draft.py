"""A network while a pass changes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline_export.c.ir import Network, Operation, Tensor


@dataclass(slots=True)
class Draft:
    """Lists that a pass may change; `network()` is what it has become, in the order of the operations."""

    given: Network
    operations: list[Operation] = field(init=False)
    tensors: dict[str, Tensor] = field(init=False)
    constants: dict[str, npt.NDArray[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.operations = list(self.given.operations)
        self.tensors = dict(self.given.tensors)
        self.constants = dict(self.given.constants)

    def network(self) -> Network:
        """Return the network, without the operations, tensors and constants that nobody reads any more."""
        while True:
            used = {self.given.output, *(name for operation in self.operations for name in operation.inputs)}
            kept = [operation for operation in self.operations if operation.output in used]
            if len(kept) == len(self.operations):
                break
            self.operations = kept
        # What is fused keeps what it reads: the numbers' grid is written there.
        inside = {name for operation in kept for fused in operation.fused for name in fused.inputs}
        made = {self.given.input, *(operation.output for operation in kept), *inside}
        return replace(
            self.given,
            operations=tuple(kept),
            tensors={name: tensor for name, tensor in self.tensors.items() if name in made},
            constants={name: values for name, values in self.constants.items() if name in used},
        )

    def producer(self, name: str) -> Operation | None:
        """Return the operation that makes a tensor."""
        return next((operation for operation in self.operations if operation.output == name), None)

    def sole_reader(self, name: str) -> Operation | None:
        """Return the one operation that reads a tensor, once; None where others do, or the caller of the network."""
        readers = [o for o in self.operations for read in o.inputs if read == name]
        return readers[0] if len(readers) == 1 and name != self.given.output else None

    def put(self, old: Operation, *new: Operation) -> None:
        """Replace an operation."""
        at = self.operations.index(old)
        self.operations[at : at + 1] = new

    def tensor(self, stem: str, shape: tuple[int, ...]) -> str:
        """Add a float32 tensor and return its name."""
        name = self._free(stem)
        self.tensors[name] = Tensor(name, shape)
        return name

    def constant(self, stem: str, values: npt.ArrayLike) -> str:
        """Add a constant and return its name."""
        name = self._free(stem)
        self.constants[name] = np.asarray(values)
        return name

    def is_float(self, operation: Operation) -> bool:
        """Whether an operation reads and makes float32, as far as it works on activations."""
        names = [name for name in (*operation.inputs, operation.output) if name in self.tensors]
        return all(self.tensors[name].dtype == "float32" for name in names)

    def _free(self, stem: str) -> str:
        name, number = stem, 2
        while name in self.tensors or name in self.constants:
            name, number = f"{stem} {number}", number + 1
        return name
