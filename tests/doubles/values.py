"""The small types of TensorRT's API: enumerations with the real values, Dims, host memory, the logger."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Any

from tests.doubles.world import Flavour


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class LayerInformationFormat(enum.IntEnum):
    ONELINE = 0
    JSON = 1


class ExecutionContextAllocationStrategy(enum.IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class EngineValidity(enum.IntEnum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(enum.IntEnum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    OLD_CUDA_RUNTIME = 8
    INSUFFICIENT_GPU_MEMORY = 16
    MALFORMED_ENGINE = 32
    CUDA_ERROR = 64


class CudaGraphStrategy(enum.IntEnum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(enum.IntEnum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class ComputeCapability(enum.IntEnum):
    NONE = 0
    CURRENT = 1
    SM75 = 75
    SM80 = 80
    SM86 = 86
    SM89 = 89
    SM120 = 120
    SM121 = 121


def builder_flags(flavour: Flavour) -> type[enum.IntEnum]:
    """Return BuilderFlag: TensorRT 11 and RTX have no flags for precisions but TF32."""
    weak = {"FP16": 0, "INT8": 1} if flavour.weak_flags else {}
    return enum.IntEnum("BuilderFlag", {**weak, "DEBUG": 2, "REFIT": 4, "TF32": 6})


def network_flags(flavour: Flavour) -> type[enum.IntEnum]:
    """Return NetworkDefinitionCreationFlag."""
    return enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": flavour.strongly_typed})


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """The base of loggers; TensorRT calls log()."""

    Severity = Severity

    def __init__(self) -> None:
        self._begun = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError("a logger overrides log()")


class Dims(Sequence[int]):
    """A shape."""

    def __init__(self, shape: Sequence[int] = ()) -> None:
        self._shape = tuple(int(size) for size in shape)

    def __getitem__(self, index: Any) -> Any:
        return self._shape[index]

    def __len__(self) -> int:
        return len(self._shape)

    def __iter__(self) -> Iterator[int]:
        return iter(self._shape)

    def __repr__(self) -> str:
        return str(self._shape)


class IHostMemory(bytes):
    """Bytes that TensorRT owns; the real one has the buffer protocol and nothing else of bytes."""

    @property
    def nbytes(self) -> int:
        return len(self)
