# ruff: noqa: N802 - the real names of the driver's functions
"""gpu_double: the doubles put where the program looks for the real things, and held to account at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.machinery
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from edgeline.cuda import Gpu
from tests.doubles import builder, rtx, runtime, values
from tests.doubles.context import IExecutionContext
from tests.doubles.cudart import make_cudart
from tests.doubles.inspector import EngineInspector
from tests.doubles.profiler import IProfiler
from tests.doubles.world import FLAVOURS, Faults, World

GPU = Gpu(name="NVIDIA Double", compute_capability="8.9", driver="13.0", memory_bytes=1 << 30)
_MAJOR, _MINOR = 75, 76  # CUdevice_attribute


@contextlib.contextmanager
def gpu_double(
    flavour: str = "trt10",
    *,
    version: str | None = None,
    gpu: Gpu | None = GPU,
    faults: Faults | None = None,
    activation_bytes: int = 4096,
) -> Iterator[World]:
    """Play a machine with `gpu` and one product ("trt10", "trt11", "rtx"); yield what goes on in it.

    `version` (four numbers) replaces the flavour's own; `activation_bytes` is what its engines need to work in.

    At the end of the block AssertionError tells what was misused or not given back. An exception from within the block
    goes through as it is.
    """
    chosen = FLAVOURS[flavour]
    if version is not None:
        chosen = dataclasses.replace(chosen, version=version)
    world = World(chosen, gpu, faults or Faults(), activation_bytes)
    module = make_module(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(sys.modules, "cuda.bindings.runtime", make_cudart(world))
        patch.setattr("edgeline.cuda._driver", lambda: None if world.gpu is None else Driver(world.gpu))
        patch.setattr("edgeline.tensorrt.log._LOGS", {})
        patch.setattr("edgeline.tensorrt.products._version", lambda _module: world.flavour.version)
        yield world
    world.finish()


def make_module(world: World) -> ModuleType:
    """Make a module that stands for tensorrt or tensorrt_rtx."""
    module = ModuleType(world.flavour.module)
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None, origin="double")
    for name, thing in names(world).items():
        setattr(module, name, thing)
    vars(module)["__version__"] = world.flavour.version
    return module


def names(world: World) -> dict[str, Any]:
    """Return what the module offers: classes by their real names."""
    flags, network_flags = values.builder_flags(world.flavour), values.network_flags(world.flavour)
    made = {"_world": world, "_flags": flags, "_network_flags": network_flags}
    flavour = world.flavour
    offered = {
        "BuilderFlag": flags,
        "NetworkDefinitionCreationFlag": network_flags,
        "Builder": type("Builder", (builder.Builder,), made),
        "IBuilderConfig": builder.RtxBuilderConfig if flavour.rtx else builder.IBuilderConfig,
        "INetworkDefinition": builder.INetworkDefinition,
        "IOptimizationProfile": builder.IOptimizationProfile,
        "ITensor": builder.ITensor,
        "OnnxParser": builder.OnnxParser,
        "ParserError": builder.ParserError,
        "Runtime": type("Runtime", (runtime.RtxRuntime if flavour.rtx else runtime.Runtime,), made),
        "ICudaEngine": _engine_class(world),
        "IExecutionContext": IExecutionContext,
        "EngineInspector": EngineInspector,
        "IProfiler": IProfiler,
        "LayerInformationFormat": values.LayerInformationFormat,
        "IHostMemory": values.IHostMemory,
        "ILogger": values.ILogger,
        "Dims": values.Dims,
        "DataType": values.DataType,
        "TensorIOMode": values.TensorIOMode,
        "ProfilingVerbosity": values.ProfilingVerbosity,
        "ExecutionContextAllocationStrategy": values.ExecutionContextAllocationStrategy,
    }
    if world.flavour.rtx:
        offered |= {
            "ComputeCapability": values.ComputeCapability,
            "CudaGraphStrategy": values.CudaGraphStrategy,
            "DynamicShapesKernelSpecializationStrategy": values.DynamicShapesKernelSpecializationStrategy,
            "EngineInvalidityDiagnostics": values.EngineInvalidityDiagnostics,
            "EngineValidity": values.EngineValidity,
            "IRuntimeCache": rtx.IRuntimeCache,
            "IRuntimeConfig": rtx.IRuntimeConfig,
        }
    elif not flavour.old_memory_size:
        offered["IRuntimeConfig"] = rtx.PlainRuntimeConfig
    return offered


def _engine_class(world: World) -> type[Any]:
    if world.flavour.rtx:
        return runtime.RtxCudaEngine
    return runtime.OldCudaEngine if world.flavour.old_memory_size else runtime.ICudaEngine


class Driver:
    """The few functions of libcuda that edgeline.cuda asks; each writes through its pointers and returns 0."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def cuDeviceGet(self, device: Any, _ordinal: int) -> int:
        device._obj.value = 0
        return 0

    def cuDeviceGetName(self, name: Any, length: int, _device: Any) -> int:
        name.value = self._gpu.name.encode()[: length - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, _device: Any) -> int:
        major, minor = self._gpu.compute_capability.split(".")
        value._obj.value = int({_MAJOR: major, _MINOR: minor}[attribute])
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        major, minor = self._gpu.driver.split(".")
        version._obj.value = int(major) * 1000 + int(minor) * 10
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, _device: Any) -> int:
        memory._obj.value = self._gpu.memory_bytes
        return 0
