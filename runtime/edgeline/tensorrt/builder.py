"""From an ONNX graph to a plan: one builder for TensorRT 10, 11 and RTX.

All precision stands in the graph, so networks are strongly typed, and fp32 means fp32: TF32, on by default, is cleared
unless asked for. What differs between the products is asked of their module (`hasattr`), never of their version.
Not here: calibration (the graph brings its Q/DQ), timing caches, DLA.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgeline import interrupts
from edgeline.command import note
from edgeline.errors import InputError, MissingCapabilityError, ResourceError
from edgeline.manifest import BatchRange
from edgeline.tensorrt.products import Product

if TYPE_CHECKING:
    import tensorrt as trt

# The flags that carry a precision where a network cannot be strongly typed (TensorRT 10.3 of JetPack 6).
_OUT_OF_MEMORY = re.compile(r"out ?of ?memory|cannot allocate", re.IGNORECASE)
_WEAK_FLAGS = {"fp32": (), "tf32": (), "fp16": ("FP16",), "int8": ("INT8",), "int8+fp16": ("INT8", "FP16")}


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How to build. `compute_capabilities` ("8.9", ...) choose the targets of TensorRT-RTX; empty is its default."""

    precision: str
    batch: BatchRange
    compute_capabilities: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return the settings as JSON types, for manifests and cache keys."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A plan, whether its network was strongly typed, and the warnings that came with it."""

    plan: bytes
    strongly_typed: bool
    warnings: tuple[str, ...]


def build_engine(product: Product, graph: bytes, settings: BuildSettings) -> BuiltEngine:
    """Build a plan from a serialised ONNX graph with one input. Ctrl-C ends it where the product can be stopped.

    Raises InputError, in the parser's or the builder's own words, when they refuse the graph or the settings,
    MissingCapabilityError when the build needs a GPU that is not there, ResourceError when memory is short.
    """
    mark = product.log.mark()
    try:
        plan = _build(product, graph, settings, strongly_typed=True)
        strongly_typed = True
    except _RefusedBuildError as error:
        # TensorRT before 10.12 offers strong typing but does not build every graph with it. The Q/DQ nodes and the
        # casts then still say what may run where, and the flags allow it; what does run, the engine must be asked.
        if not hasattr(product.module.BuilderFlag, "FP16"):
            raise
        note(f"{error}; built again without strong typing: the precision is now allowed, not demanded")
        plan = _build(product, graph, settings, strongly_typed=False)
        strongly_typed = False
    return BuiltEngine(plan, strongly_typed, tuple(product.log.warnings_since(mark)))


class _RefusedBuildError(InputError):
    """The builder, not the parser, refused a graph: without strong typing it may take it."""


def _build(product: Product, graph: bytes, settings: BuildSettings, *, strongly_typed: bool) -> bytes:
    mark = product.log.mark()
    builder: trt.Builder = _create(product, mark)
    network = builder.create_network(_network_flags(product.module, strongly_typed))
    parser: trt.OnnxParser = product.module.OnnxParser(network, product.log.handle)
    with interrupts.deferred():  # TensorRT calls our log from within, and swallows what is raised there
        parsed = parser.parse(graph)
    if not parsed:
        raise InputError(f"{product.title} refuses the graph: {_parser_words(parser)}")
    if network.num_inputs != 1:
        raise InputError(f"{product.title} finds {network.num_inputs} inputs in the graph; edgeline takes one")
    config = builder.create_builder_config()
    _set_flags(product, config, settings, strongly_typed)
    _set_targets(product, config, settings.compute_capabilities)
    _set_profile(product, builder, network, config, settings.batch)
    with interrupts.deferred() as came:
        monitor = _stopper(product.module, came)
        if monitor is not None:
            config.progress_monitor = monitor
        plan: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    if plan is None:
        words = "; ".join(product.log.errors_since(mark)) or "no reason given"
        if _OUT_OF_MEMORY.search(words):
            raise ResourceError(f"{product.title} runs out of memory while it builds: {words}; end what else uses it")
        raise _RefusedBuildError(f"{product.title} does not build the graph: {words}")
    return bytes(plan)


def _stopper(module: Any, came: list[int]) -> Any:
    """Return a progress monitor that ends the build once an interrupt came; None where there are no monitors."""
    if not hasattr(module, "IProgressMonitor"):
        return None

    class Stopper(module.IProgressMonitor):  # type: ignore[misc]  # the base class is known at run time only
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, *_: Any) -> None:
            pass

        def phase_finish(self, *_: Any) -> None:
            pass

        def step_complete(self, *_: Any) -> bool:
            return not came

    return Stopper()


def _create(product: Product, mark: int) -> trt.Builder:
    try:
        builder: trt.Builder = product.module.Builder(product.log.handle)
    except (TypeError, RuntimeError) as error:  # pybind11: "factory function returned nullptr" without a driver
        words = "; ".join(product.log.errors_since(mark)) or str(error)
        raise MissingCapabilityError(f"{product.title} cannot build on this machine: {words}") from None
    return builder


def _network_flags(module: Any, strongly_typed: bool) -> int:
    """TensorRT 11 moved the flag's value and made it the only kind: ask for it by name, where there is one."""
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None or not strongly_typed else 1 << int(flag)


def _parser_words(parser: trt.OnnxParser) -> str:
    words = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        text = " ".join(str(error.desc()).split())
        name, operator = (getattr(error, part, str)() for part in ("node_name", "node_operator"))
        words.append(f"{text} (node '{name}', {operator})" if operator else text)
    return "; ".join(dict.fromkeys(words)) or "no reason given"


def _set_flags(product: Product, config: trt.IBuilderConfig, settings: BuildSettings, strongly_typed: bool) -> None:
    flags = product.module.BuilderFlag
    if settings.precision != "tf32":
        config.clear_flag(flags.TF32)
    if not strongly_typed:
        for name in _WEAK_FLAGS[settings.precision]:
            config.set_flag(getattr(flags, name))
    # The inspector tells types and ONNX layers only of engines that were built to tell them.
    config.profiling_verbosity = product.module.ProfilingVerbosity.DETAILED


def _set_targets(product: Product, config: Any, compute_capabilities: tuple[str, ...]) -> None:
    if not compute_capabilities:
        return
    if not hasattr(config, "set_compute_capability"):
        raise InputError(
            f"{product.info.name} builds for the GPU of this machine only; leave the compute capability out"
        )
    known = {
        f"{name[2:-1]}.{name[-1]}": member
        for name, member in product.module.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    unknown = [wanted for wanted in compute_capabilities if wanted not in known]
    if unknown:
        raise InputError(
            f"{product.title} has no compute capability {', '.join(unknown)}; it has "
            f"{', '.join(sorted(known, key=_order))}; --format trt is for all others"
        )
    config.num_compute_capabilities = len(compute_capabilities)
    for index, wanted in enumerate(compute_capabilities):
        if not config.set_compute_capability(known[wanted], index):
            raise InputError(f"{product.title} does not take compute capability {wanted} as target {index}")


def _order(compute_capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in compute_capability.split("."))


def _set_profile(
    product: Product,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    batch: BatchRange,
) -> None:
    """Give a free batch its range. A graph that fixes its batch needs no profile."""
    tensor = network.get_input(0)
    shape: tuple[int, ...] = tuple(tensor.shape)  # type: ignore[arg-type]  # the stubs do not know Dims as a sequence
    if shape[0] != -1:
        return
    profile = builder.create_optimization_profile()
    smallest, usual, largest = (product.module.Dims((size, *shape[1:])) for size in (batch.min, batch.opt, batch.max))
    try:
        profile.set_shape(tensor.name, smallest, usual, largest)
        accepted = config.add_optimization_profile(profile) >= 0
    except RuntimeError:  # how the bindings tell that TensorRT returned false
        accepted = False
    if not accepted:
        raise InputError(f"{product.title} does not take the batch range {batch.min}:{batch.opt}:{batch.max}")
