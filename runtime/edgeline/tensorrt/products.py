"""The two products: TensorRT and TensorRT-RTX. Their Python API is nearly one; their engines are not interchangeable.

Looking is cheap: `product_state` imports nothing. `load_product` imports the package and hands its module on, so that
the builder and the session are written once, ask the module for what it has, and compare no versions.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeline.cuda import gpu
from edgeline.errors import MissingCapabilityError, UnknownNameError
from edgeline.tensorrt.install import install_line
from edgeline.tensorrt.log import Log, log_of

# The wheel from PyPI that ships the RTX library beside an execution provider; importing it loads the library.
_RTX_LIBRARY = "onnxruntime_ep_nv_tensorrt_rtx"
_RTX_BINDINGS = "tensorrt_rtx_bindings"


@dataclass(frozen=True, slots=True)
class ProductInfo:
    """What is known of a product without importing it. `modules` are tried in order; `name` is how people call it."""

    name: str
    format: str
    plan_file: str
    modules: tuple[str, ...]
    install: str


PRODUCTS: Mapping[str, ProductInfo] = {
    "trt": ProductInfo("TensorRT", "trt", "model.plan", ("tensorrt",), "pip install 'edgeline[trt]'"),
    "trt-rtx": ProductInfo(
        "TensorRT-RTX",
        "trt-rtx",
        "model.rtxplan",
        ("tensorrt_rtx", _RTX_BINDINGS),
        "pip install 'edgeline[trt-rtx]'",
    ),
}


@dataclass(frozen=True, slots=True)
class ProductState:
    """Whether a product is installed here: the module to import, its version, and if neither, why."""

    module: str | None
    version: str | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """A product whose module is imported. `module` is `tensorrt` or one with the same API; `log` collects its words."""

    info: ProductInfo
    module: Any
    version: str
    log: Log

    @property
    def title(self) -> str:
        """Name and version, for messages."""
        return f"{self.info.name} {self.version}"


def product_state(format_name: str) -> ProductState:
    """Say whether the product of a format is installed, without importing it. Raises UnknownNameError."""
    info = _info(format_name)
    for module in info.modules:
        if not _is_installed(module):
            continue
        if module == _RTX_BINDINGS:
            return _rtx_state(module)
        return ProductState(module, _version(module))
    return ProductState(None, None, f"{info.name} is not installed")


def load_product(format_name: str) -> Product:
    """Import the product of a format: "trt" or "trt-rtx".

    Raises MissingCapabilityError when it is not installed, when the two halves of TensorRT-RTX do not fit each other,
    or when its library does not load.
    """
    info = _info(format_name)
    state = product_state(format_name)
    if state.module is None:
        raise MissingCapabilityError(f"{state.why}: {install_line(info, gpu())}")
    try:
        if state.module == _RTX_BINDINGS:
            importlib.import_module(_RTX_LIBRARY)  # loads libtensorrt_rtx, which the bindings need
        module = importlib.import_module(state.module)
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingCapabilityError(f"{info.name} does not load: {error}: {install_line(info, gpu())}") from None
    return Product(info, module, str(module.__version__), log_of(module))


def _info(format_name: str) -> ProductInfo:
    if format_name not in PRODUCTS:
        raise UnknownNameError("TensorRT format", format_name, PRODUCTS)
    return PRODUCTS[format_name]


def _is_installed(module: str) -> bool:
    """A folder of type stubs alone is found as a namespace package: that is no installation."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def _version(module: str) -> str | None:
    names = importlib.metadata.packages_distributions().get(module, [module])
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _rtx_state(module: str) -> ProductState:
    """The bindings come without the library, and the library's wheel without a dependency on the bindings."""
    bindings = _version(module)
    spec = importlib.util.find_spec(_RTX_LIBRARY)
    if spec is None or spec.origin is None:
        return ProductState(None, None, f"TensorRT-RTX's bindings are installed, its library ({_RTX_LIBRARY}) is not")
    libraries = sorted(Path(spec.origin).parent.glob("libtensorrt_rtx.so.*.*.*"))
    library = libraries[-1].name.removeprefix("libtensorrt_rtx.so.") if libraries else None
    if bindings is None or library is None or bindings.split(".")[:3] != library.split(".")[:3]:
        return ProductState(
            None,
            None,
            f"the two halves of TensorRT-RTX do not fit: bindings {bindings or 'of unknown version'}, "
            f"library {library or 'missing'}",
        )
    return ProductState(module, bindings)
