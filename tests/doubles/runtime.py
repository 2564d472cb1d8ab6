"""The double's Runtime and engine: deserialise a plan, tell its ends, make contexts."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.doubles import plan as plans
from tests.doubles.context import IExecutionContext
from tests.doubles.inspector import EngineInspector
from tests.doubles.rtx import IRuntimeConfig
from tests.doubles.values import (
    DataType,
    Dims,
    EngineInvalidityDiagnostics,
    EngineValidity,
    ExecutionContextAllocationStrategy,
    Severity,
    TensorIOMode,
)
from tests.doubles.world import World

_DATA_TYPES = {
    "float32": DataType.FLOAT,
    "float16": DataType.HALF,
    "int8": DataType.INT8,
    "uint8": DataType.UINT8,
    "int32": DataType.INT32,
    "int64": DataType.INT64,
    "bool": DataType.BOOL,
}


class Runtime:
    """Subclassed by the module, which knows the world."""

    _world: World

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._allowed = False
        if self._world.faults.no_runtime:
            logger.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._world.born(self)

    @property
    def engine_host_code_allowed(self) -> bool:
        return self._allowed

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, allowed: bool) -> None:
        self._allowed = allowed
        if allowed:
            self._world.violation("engine_host_code_allowed was switched on")

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._world.on_first_device("deserialize_cuda_engine")
        reason = self._world.faults.deserialise or self._why_not(bytes(serialized_engine))
        if reason:
            self._logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: {reason}")
            return None
        record, graph = plans.unpack_plan(bytes(serialized_engine))
        kind = RtxCudaEngine if self._world.flavour.rtx else ICudaEngine
        if self._world.flavour.old_memory_size:
            kind = OldCudaEngine
        return kind(self, record, graph)

    def _why_not(self, plan: bytes) -> str:
        flavour, gpu = self._world.flavour, self._world.gpu
        if gpu is None:
            return "Error Code 1: Cuda Runtime (CUDA driver version is insufficient for CUDA runtime version)"
        if plans.tag_of(plan) != flavour.tag:
            return "Error Code 1: Serialization (Magic tag does not match)"
        if plans.version_of(plan) != flavour.version:
            return (
                f"Error Code 6: API Usage (expecting library version {plans.version_of(plan)}, got {flavour.version})"
            )
        try:
            record, _graph = plans.unpack_plan(plan)
        except ValueError as error:
            return f"Error Code 1: Serialization ({error})"
        if record.compute_capability not in (None, gpu.compute_capability):
            return (
                f"Error Code 6: API Usage (The engine plan file is generated on an incompatible device, expecting "
                f"compute {gpu.compute_capability} got compute {record.compute_capability}, please rebuild.)"
            )
        if flavour.rtx and gpu.compute_capability not in plans.targets_of(plan):
            return "Error Code 6: API Usage (no kernels for this compute capability)"
        if record.activation_bytes and len(plan) > self._world.free_bytes():
            return "Error Code 2: OutOfMemory (Requested size was not available)"
        return ""

    def __del__(self) -> None:
        if any(engine._runtime() in (None, self) for engine in _living(self._world, ICudaEngine)):
            self._world.violation("a runtime is freed before its engine")


class RtxRuntime(Runtime):
    """Runtime of TensorRT-RTX."""

    def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, int]:
        """Return the verdict, and the diagnostics as one number."""
        if self._world.faults.validity is not None:
            verdict, names = self._world.faults.validity
            return EngineValidity[verdict], sum(EngineInvalidityDiagnostics[name] for name in names)
        reason = self._why_not(bytes(buffer))
        if not reason:
            return EngineValidity.VALID, 0
        found = EngineInvalidityDiagnostics.MALFORMED_ENGINE if "Serialization" in reason else 0
        self._logger.log(Severity.ERROR, reason)
        return EngineValidity.INVALID, int(found)


class ICudaEngine:
    """An engine; it runs its graph on ONNX Runtime."""

    def __init__(self, runtime: Runtime, record: plans.PlanRecord, graph: bytes) -> None:
        self._runtime = weakref.ref(runtime)
        self._world = runtime._world
        self._logger = runtime._logger
        self._record = record
        self._graph = graph
        model = onnx.load_from_string(graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        constants = {t.name for t in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        self._ends = {value.name: (TensorIOMode.INPUT, *_dtype_and_shape(value)) for value in inputs}
        self._ends |= {value.name: (TensorIOMode.OUTPUT, *_dtype_and_shape(value)) for value in model.graph.output}
        self._contexts = 0
        self._world.born(self)

    @property
    def num_io_tensors(self) -> int:
        return len(self._ends)

    @property
    def num_optimization_profiles(self) -> int:
        return 1

    @property
    def device_memory_size_v2(self) -> int:
        return self._record.activation_bytes

    def get_tensor_name(self, index: int) -> str:
        return list(self._ends)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._ends[name][0] if name in self._ends else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        return _DATA_TYPES[str(self._ends[name][1])]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self._ends[name][2])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        shapes = self._record.profile or (self._ends[name][2],) * 3
        return [Dims(shape) for shape in shapes]

    def create_engine_inspector(self) -> EngineInspector:
        self._alive()
        return EngineInspector(self, self._graph, self._record.verbosity, self._world.faults.melted)

    def create_execution_context(self, *args: Any, **kwargs: Any) -> IExecutionContext | None:
        self._alive()
        self._world.on_first_device("create_execution_context")
        how = next(iter((*args, *kwargs.values())), ExecutionContextAllocationStrategy.STATIC)
        user_managed = how is ExecutionContextAllocationStrategy.USER_MANAGED
        needed = 0 if user_managed else self._record.activation_bytes
        if self._world.faults.context or needed > self._world.free_bytes():
            words = self._world.faults.context or "Error Code 2: OutOfMemory (Requested size was not available)"
            self._logger.log(Severity.ERROR, f"ICudaEngine::createExecutionContext: {words}")
            return None
        profile = 0 if self._contexts == 0 else self._world.flavour.profile_of_later_contexts
        self._contexts += 1
        return IExecutionContext(self, user_managed, profile, how if isinstance(how, IRuntimeConfig) else None)

    def _alive(self) -> None:
        if self._runtime() is None:
            self._world.violation("an engine is used after its runtime was freed")

    def __del__(self) -> None:
        if any(context._engine() in (None, self) for context in _living(self._world, IExecutionContext)):
            self._world.violation("an engine is freed before its context")


class OldCudaEngine(ICudaEngine):
    """ICudaEngine as it was before TensorRT 11 took device_memory_size away."""

    @property
    def device_memory_size(self) -> int:
        return self._record.activation_bytes


class RtxCudaEngine(ICudaEngine):
    """ICudaEngine of TensorRT-RTX."""

    def create_runtime_config(self) -> IRuntimeConfig:
        self._alive()
        return IRuntimeConfig(self._world, self._logger)


def _dtype_and_shape(value: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape


def _living(world: World, kind: type[Any]) -> list[Any]:
    return [thing for thing in world.living() if isinstance(thing, kind)]
