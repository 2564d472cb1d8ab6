"""AOTInductor: torch.export, for int8 torchao's quantiser for x86, and Inductor's C++ code compiled for this machine.

Freezing needs autograd off: with it on, torch leaves it out and says nothing, and int8 stays arithmetic in floats. Two
exports of the same weights give packages of other bytes: archives hold times, and autotuning measures.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeline.backends.aot_inductor import AotInductorSession, package_file, target_here
from edgeline.command import note
from edgeline.errors import GateError, InputError, MissingCapabilityError
from edgeline_export.assemble import Compiled
from edgeline_export.coverage import Coverage, check_precision, coverage_of_engine
from edgeline_export.formats.interface import ExportRequest
from edgeline_export.graph import inputs_of, one_line
from edgeline_export.precision import GraphInPrecision
from edgeline_export.quiet import quiet
from edgeline_export.runner import THREADS
from edgeline_export.writer import versions_of

# "PyTorch 2 Export Quantization with X86 Backend through Inductor" (docs.pytorch.org) freezes, which packs weights and
# makes integer kernels. "Using Max-Autotune Compilation on CPU for Better Performance" adds autotuning: on a busy
# machine LeNet was 1.6 and AlexNet 1.2 times as fast with it. Not for int8: a kernel of Inductor's own could take the
# place of those of oneDNN that are counted. Without `dynamic_threads` the compiler's number of threads is fixed in the
# code.
_SETTINGS: Mapping[str, Mapping[str, bool]] = {
    "fp32": {"freezing": True, "max_autotune": True, "cpp.dynamic_threads": True},
    "int8": {"freezing": True, "cpp.dynamic_threads": True},
}
_KERNELS = {"Conv": "qconv", "Gemm": "qlinear", "MatMul": "qlinear"}  # oneDNN's, as torch names them


def compile_packages(module: nn.Module, prepared: GraphInPrecision, request: ExportRequest) -> Compiled:
    """Compile a module in evaluation mode for each batch size.

    One package a size: freezing packs weights for fixed shapes only, and a frozen int8 package of a free batch size
    computes wrong numbers where images have one channel (torch 2.14). Raises InputError in torch's words,
    MissingCapabilityError without a C++ compiler that works, GateError where int8 does not run on integers.
    """
    shape = inputs_of(prepared.graph)[0].shape
    sizes = request.sizes if shape[0] == -1 else (shape[0],)
    coverage = None
    files: dict[str, bytes] = {}
    with quiet(), torch.no_grad():
        network = module if prepared.calibration is None else _quantised(module, prepared, shape[1:])
    with workspace():
        for size in sizes:
            note(f"compiling with AOTInductor for batch {size}")
            content = compile_package(network, (size, *shape[1:]), request.precision)
            if request.precision == "int8":
                coverage = _check_integer(content, prepared.coverage)
            files[package_file(size)] = content
    return Compiled(
        files=files,
        target=target_here(),
        versions=versions_of("torch", *(["torchao"] if request.precision == "int8" else [])),
        coverage=coverage,
        compilation={
            "converter": "torch._inductor.aoti_compile_and_package",
            "quantiser": _quantiser(prepared),
            "batches": list(sizes),
            "settings": dict(_SETTINGS[request.precision]),
        },
        open_session=lambda artefact: AotInductorSession(artefact, "cpu", THREADS),
    )


def _quantiser(prepared: GraphInPrecision) -> Mapping[str, Any] | None:
    if prepared.calibration is None:
        return None
    return {
        "tool": "torchao PT2E, X86InductorQuantizer",
        "version": versions_of("torchao").get("torchao"),
        "scheme": "default static: uint8 activations, int8 weights by channel",
        "samples": len(prepared.calibration.data),
    }


def _quantised(module: nn.Module, prepared: GraphInPrecision, tail: tuple[int, ...]) -> nn.Module:
    """Quantise with torchao, calibrated on our samples."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    assert prepared.calibration is not None
    data = prepared.calibration.data
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    try:
        watched = prepare_pt2e(_exported(module, (2, *tail), free=True).module(), quantizer)
        for batch in data.batches():
            watched(torch.from_numpy(data.network_input(batch)))
        converted: nn.Module = convert_pt2e(watched)
    except Exception as error:
        raise InputError(f"torchao does not quantise this network: {one_line(error)}; take fp32") from error
    return converted


def _exported(module: nn.Module, shape: tuple[int, ...], free: bool = False) -> torch.export.ExportedProgram:
    dynamic = ({0: torch.export.Dim("batch", min=1)},) if free else None
    return torch.export.export(module, (torch.zeros(shape),), dynamic_shapes=dynamic)


def compile_package(module: nn.Module, shape: tuple[int, ...], precision: str) -> bytes:
    """Return the package for inputs of one shape, tuned for one thread. Call it in a workspace()."""
    from torch._inductor import exc

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
        try:
            path = torch._inductor.aoti_compile_and_package(
                _exported(module, shape),
                package_path=str(Path(folder) / "model.pt2"),
                inductor_configs=dict(_SETTINGS[precision]),  # torch adds to it
            )
        except (exc.InvalidCxxCompiler, exc.CppCompileError) as error:
            raise MissingCapabilityError(
                f"torch's C++ compiler does not work ({one_line(error)}): apt install g++, or name another with CXX="
            ) from None
        except Exception as error:
            raise InputError(f"AOTInductor does not compile this network: {one_line(error)}") from error
        finally:
            torch.set_num_threads(threads)
        return Path(path).read_bytes()


def _check_integer(package: bytes, graph: Coverage) -> Coverage:
    """Count oneDNN's integer kernels in the code of a package against the layers that the graph has."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        text = "\n".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".cpp"))
    calls = re.findall(r"aoti_torch_cpu__(qconv|qlinear)\w*\(", text)
    for kernel in ("qconv", "qlinear"):
        wanted = sum(_KERNELS.get(node.operator) == kernel for node in graph.nodes)
        if calls.count(kernel) < wanted:
            raise GateError(
                f"int8 was asked for, but AOTInductor made {calls.count(kernel)} integer kernels ({kernel}) of "
                f"{wanted} layers; nothing was written"
            )
    told = coverage_of_engine(graph, {n.name: "int8" if n.operator in _KERNELS else "fp32" for n in graph.nodes})
    check_precision(told, "int8")
    return told


@contextlib.contextmanager
def workspace() -> Iterator[None]:
    """Let Inductor keep what it writes, its caches included, in a folder that vanishes."""
    from torch._inductor.utils import fresh_cache

    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder, fresh_cache(dir=folder):
        yield
    if before is None:
        os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
