"""What TensorRT-RTX adds at run time: the runtime configuration and the cache of compiled kernels."""

from __future__ import annotations

import json
from typing import Any

from tests.doubles.values import (
    CudaGraphStrategy,
    DynamicShapesKernelSpecializationStrategy,
    ExecutionContextAllocationStrategy,
    IHostMemory,
    Severity,
)
from tests.doubles.world import World


class PlainRuntimeConfig:
    """IRuntimeConfig of TensorRT, which has neither graphs nor caches."""

    def get_execution_context_allocation_strategy(self) -> ExecutionContextAllocationStrategy:
        return ExecutionContextAllocationStrategy.STATIC


class IRuntimeCache:
    """Holds the batch sizes that kernels were compiled for, and the environment that they fit."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._compiled: set[int] = set()
        world.born(self)

    def deserialize(self, blob: bytes) -> bool:
        self._world.on_first_device("a runtime cache is deserialised")
        try:
            record = json.loads(bytes(blob))
        except ValueError:
            return False
        if record["environment"] != self._environment() or self._world.faults.runtime_cache == "deserialise":
            return False
        self._compiled = set(record["kernels"])
        return True

    def serialize(self) -> IHostMemory:
        self._world.on_first_device("a runtime cache is serialised")
        record = {"environment": self._environment(), "kernels": sorted(self._compiled)}
        return IHostMemory(json.dumps(record).encode())

    def _environment(self) -> list[str]:
        gpu = self._world.gpu
        return [self._world.flavour.version, gpu.name if gpu else "", gpu.driver if gpu else ""]


class IRuntimeConfig:
    """IRuntimeConfig of TensorRT-RTX."""

    def __init__(self, world: World, logger: Any) -> None:
        self._world = world
        self._logger = logger
        self._cache: IRuntimeCache | None = None
        self._graphs = CudaGraphStrategy.DISABLED
        self._kernels = DynamicShapesKernelSpecializationStrategy.LAZY
        world.born(self)

    @property
    def cuda_graph_strategy(self) -> CudaGraphStrategy:
        return self._graphs

    @cuda_graph_strategy.setter
    def cuda_graph_strategy(self, strategy: CudaGraphStrategy) -> None:
        # The real setter drops the answer of the C++ function below it: a refusal shows by reading back alone.
        if self._world.faults.setting != "cuda_graph_strategy":
            self._graphs = strategy

    @property
    def dynamic_shapes_kernel_specialization_strategy(self) -> DynamicShapesKernelSpecializationStrategy:
        return self._kernels

    @dynamic_shapes_kernel_specialization_strategy.setter
    def dynamic_shapes_kernel_specialization_strategy(self, how: DynamicShapesKernelSpecializationStrategy) -> None:
        if self._world.faults.setting != "dynamic_shapes_kernel_specialization_strategy":
            self._kernels = how

    def create_runtime_cache(self) -> IRuntimeCache | None:
        if self._world.faults.runtime_cache == "create":
            self._logger.log(Severity.ERROR, "IRuntimeConfig::createRuntimeCache: no memory for it")
            return None
        return IRuntimeCache(self._world)

    def set_runtime_cache(self, cache: IRuntimeCache | None = None) -> bool:
        if self._world.faults.runtime_cache == "set":
            return False
        self._cache = cache
        return True

    def get_runtime_cache(self) -> IRuntimeCache | None:
        return self._cache
