"""The engines: one module and one Session class each. An engine's packages are imported only when asked for.

Adding an engine: its module here, its line in ENGINES, its test.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeline.errors import InputError, MissingCapabilityError, UnknownNameError

if TYPE_CHECKING:
    from edgeline.session import Session


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine's Session class is, and what it runs and needs.

    `formats` are those that it is chosen for. One that `runs_graphs` also runs any other artefact that keeps its graph
    (model.onnx). `packages` are imported whatever the format, TensorRT's product besides where it `needs_product`:
    the format says which one, edgeline.tensorrt.products how it is installed. `libraries_of` is the format of a product
    that is imported where it is installed, for the libraries that come with it; else they are the system's.
    `distribution` is what pip calls the package that holds the engine. `reads` are patterns of the files of an artefact
    that it opens; the rest (graph, sources, self-test) is for rebuilding and checking.
    """

    session: str
    formats: tuple[str, ...]
    packages: tuple[str, ...]
    install: str
    runs_graphs: bool = False
    needs_product: bool = False
    libraries_of: str = ""
    distribution: str = ""
    reads: tuple[str, ...] = ()


_PEERS = "pip install 'edgeline[peers]'"

ENGINES = {
    "onnxruntime": Engine(
        session="edgeline.backends.onnxruntime:OnnxRuntimeSession",
        formats=("onnx",),
        packages=("onnxruntime",),
        install="pip install 'edgeline[onnx]'",
        runs_graphs=True,
        distribution="onnxruntime",
        reads=("model.onnx",),
    ),
    "onnxruntime-tensorrt": Engine(
        session="edgeline.backends.onnxruntime_tensorrt:OnnxRuntimeTensorRtSession",
        formats=(),
        packages=("onnxruntime",),
        install="pip install 'edgeline[gpu]'",
        runs_graphs=True,
        libraries_of="trt",
        reads=("model.onnx",),
    ),
    "native": Engine(
        session="edgeline.backends.native:NativeSession",
        formats=("c",),
        packages=(),
        install="export-model writes the library it needs into the artefact",
        reads=("*.so",),
    ),
    "tensorrt": Engine(
        session="edgeline.backends.tensorrt:TensorRtSession",
        formats=("trt", "trt-rtx"),
        packages=("cuda.bindings.runtime",),
        install="pip install 'edgeline[trt]'",
        needs_product=True,
        reads=("model.plan", "model.rtxplan"),
    ),
    "openvino": Engine(
        session="edgeline.backends.openvino:OpenVinoSession",
        formats=("openvino",),
        packages=("openvino",),
        install=_PEERS,
        distribution="openvino",
        reads=("*.xml", "*.bin"),
    ),
    "litert": Engine(
        session="edgeline.backends.litert:LiteRtSession",
        formats=("litert",),
        packages=("ai_edge_litert.interpreter",),
        install=_PEERS,
        distribution="ai-edge-litert",
        reads=("*.tflite",),
    ),
    "ncnn": Engine(
        session="edgeline.backends.ncnn:NcnnSession",
        formats=("ncnn",),
        packages=("ncnn",),
        install=_PEERS,
        distribution="ncnn",
        reads=("*.param", "*.bin"),
    ),
    "aot-inductor": Engine(
        session="edgeline.backends.aot_inductor:AotInductorSession",
        formats=("aot-inductor",),
        packages=("torch",),
        install=_PEERS,
        distribution="torch",
        reads=("*.pt2",),
    ),
    "iree": Engine(
        session="edgeline.backends.iree:IreeSession",
        formats=("iree",),
        packages=("iree.runtime",),
        install=_PEERS,
        distribution="iree-base-runtime",
        reads=("*.vmfb", "*.irpa"),
    ),
}


def session_class(engine: str) -> type[Session]:
    """Import and return the Session class of `engine`. Raises UnknownNameError when there is no such engine."""
    module, _, name = _engine(engine).session.partition(":")
    found: type[Session] = getattr(importlib.import_module(module), name)
    return found


def engine_of_format(format_name: str) -> str:
    """Return the engine that artefacts of a format are made for. Raises UnknownNameError when there is none."""
    for name, engine in ENGINES.items():
        if format_name in engine.formats:
            return name
    raise UnknownNameError("artefact format", format_name, [f for e in ENGINES.values() for f in e.formats])


def choose_engine(format_name: str, asked: str | None) -> str:
    """Return `asked` where it can run artefacts of a format, and the format's own engine where nothing is asked.

    Raises UnknownNameError for an unknown engine or format, InputError for an engine that runs other formats only.
    """
    own = engine_of_format(format_name)
    if asked is None:
        return own
    engine = _engine(asked)
    if format_name not in engine.formats and not engine.runs_graphs:
        raise InputError(
            f"{asked} runs {' and '.join(engine.formats)} artefacts, not {format_name}: leave --engine out, or export "
            f"with --format {engine.formats[0]}"
        )
    return asked


def import_packages(engine: str, format_name: str) -> None:
    """Import what `engine` needs to run artefacts of a format, and nothing else.

    Raises MissingCapabilityError with the line that installs it, UnknownNameError for an unknown engine.
    """
    from edgeline.tensorrt.products import load_product, product_state

    needs = _engine(engine)
    if needs.needs_product:
        load_product(format_name)
    if needs.libraries_of and product_state(needs.libraries_of).module is not None:
        load_product(needs.libraries_of)
    for package in needs.packages:
        try:
            if package == "openvino":
                _import_openvino()
            importlib.import_module(package)
        except ImportError as error:
            line = _bindings_line() if package.startswith("cuda.") else needs.install
            raise MissingCapabilityError(f"{engine} needs {package} ({error}): {line}") from None


def _import_openvino() -> None:
    """Import it without its telemetry, which a plain import would send."""
    from edgeline.backends.openvino import import_openvino

    import_openvino()


def _bindings_line() -> str:
    from edgeline.cuda import gpu
    from edgeline.tensorrt.install import fitting_bindings

    return f"pip install '{fitting_bindings(gpu())}'"


def _engine(name: str) -> Engine:
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES)
    return ENGINES[name]
