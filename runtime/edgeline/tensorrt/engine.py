"""A deserialised engine and the runtime it lives in: opened, asked, and let go of in the right order.

TensorRT's own objects are handed out by property only, never kept by others: an error on its way up keeps the locals of
every function it passed, and with them an engine that was to be freed. Not here: running it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeline.errors import ArtefactError, EdgelineError, MissingCapabilityError, ResourceError
from edgeline.manifest import BatchRange, TensorSpec
from edgeline.tensorrt.products import Product

if TYPE_CHECKING:
    import tensorrt as trt

_OUT_OF_MEMORY = re.compile(r"out ?of ?memory", re.IGNORECASE)
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
}
# IRuntime.get_engine_validity's diagnostics, in words; what a newer release adds is given by its name.
_DIAGNOSTICS = {
    "VERSION_MISMATCH": "built with another version of TensorRT-RTX",
    "UNSUPPORTED_CC": "not built for this GPU's compute capability",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old",
    "INSUFFICIENT_GPU_MEMORY": "the GPU's memory does not suffice",
    "MALFORMED_ENGINE": "the file is not a well-formed engine",
    "CUDA_ERROR": "the CUDA driver or runtime is not installed rightly",
}
_CURED_BY_BUILDING = ("VERSION_MISMATCH", "UNSUPPORTED_CC", "MALFORMED_ENGINE")

# Mode ("INPUT" or "OUTPUT"), name, dtype, shape with -1 for the batch.
End = tuple[str, str, str, tuple[int, ...]]


class Engine:
    """An engine of TensorRT or TensorRT-RTX. `what` names its file in messages, `cure` is the command that rebuilds it.

    The runtime's `engine_host_code_allowed` stays off, as it is from the start: a plan may carry code.
    """

    def __init__(self, product: Product, what: str, cure: str) -> None:
        self.product = product
        self.warning = ""
        self._what = what
        self._cure = cure
        mark = product.log.mark()
        self._engine: trt.ICudaEngine
        try:
            self._runtime: trt.Runtime = product.module.Runtime(product.log.handle)
        except (TypeError, RuntimeError) as error:  # pybind11: "factory function returned nullptr" without a driver
            raise MissingCapabilityError(
                f"{product.title} does not start: {self._words(mark, str(error))}; edgeline doctor says what is missing"
            ) from None

    def deserialise(self, plan: bytes) -> None:
        """Turn a plan into the engine. `warning` then says why it may run slower than it could, or is empty.

        Raises ArtefactError when another plan must be built, ResourceError when memory is short, MissingCapabilityError
        when driver or CUDA do not fit.
        """
        mark = self.product.log.mark()
        self._ask_validity(plan, mark)
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            words = self._words(mark)
            if _OUT_OF_MEMORY.search(words):
                raise self.refusal("deserialising the engine", mark)
            raise ArtefactError(f"{self.product.title} does not load {self._what}: {words}: {self._cure}")
        self._engine = engine

    def free(self) -> None:
        """Let go of the engine, then of its runtime; no context may live."""
        for name in ("_engine", "_runtime"):
            if hasattr(self, name):
                delattr(self, name)

    @property
    def handle(self) -> trt.ICudaEngine:
        """TensorRT's own object, for one expression: do not keep it."""
        return self._engine

    @property
    def activation_bytes(self) -> int:
        """The working memory of one context."""
        # TensorRT 11 and RTX have the first alone, TensorRT before 10.1 the second.
        name = "device_memory_size_v2" if hasattr(self._engine, "device_memory_size_v2") else "device_memory_size"
        return int(getattr(self._engine, name))

    def ends(self) -> list[End]:
        """List the inputs and outputs, the inputs first."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return sorted(self._end(name) for name in names)

    def batch(self, input_: TensorSpec) -> BatchRange:
        """Return the batch sizes that the engine takes: its first profile's, or its one fixed size."""
        if input_.shape[0] != -1:
            return BatchRange(input_.shape[0], input_.shape[0], input_.shape[0])
        smallest, usual, largest = self._engine.get_tensor_profile_shape(input_.name, 0)
        return BatchRange(smallest[0], usual[0], largest[0])

    def refusal(
        self, what: str, mark: int, needed: int = 0, free: int = 0, otherwise: str = "no reason given"
    ) -> EdgelineError:
        """Make the error for what TensorRT refused since `mark`; ResourceError where memory was the reason.

        `otherwise` is what it says where the log has no words.
        """
        words = self._words(mark, otherwise)
        if needed > free or _OUT_OF_MEMORY.search(words):
            sizes = f" ({needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free)" if needed else ""
            return ResourceError(
                f"{self.product.title}: {what}: the GPU's memory does not suffice{sizes}: {words}; end what else uses "
                "the GPU, or export again with a smaller --batch"
            )
        return EdgelineError(f"{self.product.title}: {what} failed: {words}")

    def _end(self, name: str) -> End:
        mode, dtype = self._engine.get_tensor_mode(name), self._engine.get_tensor_dtype(name)
        shape: tuple[int, ...] = tuple(self._engine.get_tensor_shape(name))  # type: ignore[arg-type]  # Dims can be iterated
        return mode.name, name, _DTYPES.get(dtype.name, dtype.name), shape

    def _ask_validity(self, plan: bytes, mark: int) -> None:
        """TensorRT-RTX says whether a plan will run here; TensorRT cannot be asked."""
        if not hasattr(self._runtime, "get_engine_validity"):
            return
        module = self.product.module
        validity, diagnostics = self._runtime.get_engine_validity(plan)
        members = module.EngineInvalidityDiagnostics.__members__
        names = [name for name, bit in members.items() if int(diagnostics) & int(bit)]
        # Seen: INVALID with no diagnostic at all, and the reason in the log.
        words = "; ".join(_DIAGNOSTICS.get(name, name) for name in names) or self._words(mark)
        if validity == module.EngineValidity.SUBOPTIMAL:
            self.warning = words
        elif validity != module.EngineValidity.VALID:
            message = f"{self.product.title} cannot run {self._what} here: {words}"
            if "INSUFFICIENT_GPU_MEMORY" in names:
                raise ResourceError(f"{message}; end what else uses the GPU")
            if any(name in _CURED_BY_BUILDING for name in names):
                raise ArtefactError(f"{message}: {self._cure}")
            raise MissingCapabilityError(f"{message}; edgeline doctor says what is missing")

    def _words(self, mark: int, otherwise: str = "no reason given") -> str:
        return "; ".join(self.product.log.errors_since(mark)) or otherwise
