"""The double's Builder: takes an ONNX graph as the real one does, and packs it into a plan."""

from __future__ import annotations

from typing import Any

import onnx

from tests.doubles.plan import PlanRecord, pack_plan
from tests.doubles.values import ComputeCapability, Dims, IHostMemory, ProfilingVerbosity, Severity
from tests.doubles.world import World


class ITensor:
    def __init__(self, value: Any) -> None:
        self.name: str = value.name
        self.shape = Dims([d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim])


class INetworkDefinition:
    def __init__(self, strongly_typed: bool) -> None:
        self._strongly_typed = strongly_typed
        self._graph = b""
        self._inputs: list[ITensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]


class ParserError:
    def __init__(self, desc: str, node: Any = None) -> None:
        self._desc = desc
        self._node = node

    def desc(self) -> str:
        return self._desc

    def node_name(self) -> str:
        return self._node.name if self._node is not None else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node is not None else ""


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            found = onnx.load_from_string(bytes(model))
            onnx.checker.check_model(found)
        except Exception as error:  # protobuf and the checker have no base class in common
            self._errors.append(ParserError(f"Failed to parse the ONNX model: {error}"))
            return False
        integers = {t.name for t in found.graph.initializer if t.data_type == onnx.TensorProto.INT32}
        for node in found.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in integers:
                words = "input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8"
                self._errors.append(ParserError(words, node))
        constants = {t.name for t in found.graph.initializer}
        self._network._inputs = [ITensor(value) for value in found.graph.input if value.name not in constants]
        self._network._graph = bytes(model)
        return not self._errors


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None:  # noqa: A002 - the real names
        """Take sizes that are no sizes for an error, and any order: add_optimization_profile looks at that."""
        for name, shape in (("min", min), ("opt", opt), ("max", max)):
            if not all(0 <= size < 1 << 31 for size in shape):
                raise RuntimeError(f"Shape provided for {name} is inconsistent with other shapes.")
            self._shapes.setdefault(input, []).append(tuple(shape))


class IBuilderConfig:
    def __init__(self, world: World, flags: Any) -> None:
        self._world = world
        self._flags = {flags.TF32}  # on unless cleared
        self._profiles: list[IOptimizationProfile] = []
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        for shapes in profile._shapes.values():
            if len(shapes) < 3 or not all(a <= b <= c for a, b, c in zip(*shapes, strict=True)):
                return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1


class RtxBuilderConfig(IBuilderConfig):
    """IBuilderConfig of TensorRT-RTX, which builds for targets that it is told."""

    def __init__(self, world: World, flags: Any) -> None:
        super().__init__(world, flags)
        self.num_compute_capabilities = 0
        self._targets: dict[int, ComputeCapability] = {}

    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
        if index >= self.num_compute_capabilities:
            return False
        self._targets[index] = compute_capability
        return True


class Builder:
    """Made by make_builder, which knows the world."""

    _world: World
    _flags: Any
    _network_flags: Any

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        if self._world.gpu is None and not self._world.flavour.rtx:
            logger.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        strongly_typed = int(self._network_flags.STRONGLY_TYPED)
        if flags & ~(1 << strongly_typed):
            self._world.violation(f"create_network({flags}): STRONGLY_TYPED is {strongly_typed} here")
        always = not self._world.flavour.weak_flags
        return INetworkDefinition(always or bool(flags & 1 << strongly_typed))

    def create_builder_config(self) -> IBuilderConfig:
        kind = RtxBuilderConfig if self._world.flavour.rtx else IBuilderConfig
        return kind(self._world, self._flags)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        world = self._world
        if network._strongly_typed and world.faults.strong_typing:
            return self._refuse(world.faults.strong_typing)
        profile = None
        if -1 in network._inputs[0].shape:
            if not config._profiles:
                return self._refuse(
                    "Network has dynamic or shape inputs, but no optimization profile has been defined."
                )
            profile = tuple(config._profiles[0]._shapes[network._inputs[0].name])
        record = PlanRecord(
            profile=profile,  # type: ignore[arg-type]
            flags=tuple(sorted(flag.name for flag in config._flags)),
            strongly_typed=network._strongly_typed,
            compute_capability=None if world.gpu is None or world.flavour.rtx else world.gpu.compute_capability,
            activation_bytes=world.activation_bytes,
            verbosity=config.profiling_verbosity.name,
        )
        targets = tuple(f"{cc.name[2:-1]}.{cc.name[-1]}" for cc in getattr(config, "_targets", {}).values())
        return IHostMemory(pack_plan(world.flavour, record, network._graph, targets))

    def _refuse(self, words: str) -> None:
        self._logger.log(Severity.ERROR, words)
