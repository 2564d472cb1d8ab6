"""From an ONNX graph to IREE's modules for this CPU: import, compile for each batch size, count what is integer.

Shapes are fixed, since IREE tiles and vectorises what it knows the sizes of. The weights leave the graph on import and
are one archive for all sizes, which is mapped into memory; what a module computes from them, it does when it loads.

IREE has no quantiser and needs none: its importer fuses Q/DQ around a Conv or Gemm into a product of int8 with sums in
int32. How many it fused is counted in its own form of the network. The same graph gives the same bytes on the same CPU.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import onnx

from edgeline.architecture import architecture_here
from edgeline.backends.iree import FUNCTION, PARAMETERS_FILE, SCOPE, IreeSession, cpu_flags, module_file
from edgeline.command import note
from edgeline.errors import GateError, InputError
from edgeline_export.assemble import Compiled
from edgeline_export.coverage import Coverage, coverage_of_engine
from edgeline_export.formats.interface import ExportRequest
from edgeline_export.graph import inputs_of
from edgeline_export.precision import GraphInPrecision

# iree.dev, "CPU deployment" (target and CPU), "Optimization options" (level). Not --iree-opt-data-tiling: each module
# would then keep a copy of all weights in another order (AlexNet: 164 MB a batch size, where now the archive is mapped
# once for all). Debug symbols and source maps would put the names of temporary files into the modules.
FLAGS = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
    "--iree-opt-level=O3",
    "--iree-llvmcpu-debug-symbols=false",
    "--iree-vm-bytecode-module-strip-source-map=true",
)
_LEAST_ELEMENTS = 1024  # of a weight that goes into the archive; smaller ones are constants in the code
_THREADS = 1  # for the gate
# LLVM's names of instruction sets where Linux has others; the rest differ in '_', '.' and '-' alone.
_LINUX_NAMES = {
    "sse3": "pni",
    "bmi": "bmi1",
    "lzcnt": "abm",
    "neon": "asimd",
    "dotprod": "asimddp",
    "fullfp16": "asimdhp",
}
_GENERIC = re.compile(r"linalg\.generic \{.*?\n\s*\} -> [^\n]*", re.DOTALL)


def compile_network(graph: bytes, prepared: GraphInPrecision, request: ExportRequest) -> Compiled:
    """Compile a graph for each batch size.

    Raises InputError in IREE's words when it cannot, GateError when less became integer than the graph quantises.
    """
    model = onnx.load_from_string(graph)
    fixed = inputs_of(model)[0].shape[0]
    sizes = request.sizes if fixed == -1 else (fixed,)
    with tempfile.TemporaryDirectory(prefix="edgeline-iree-") as name:
        folder = Path(name)
        files = {}
        for size in sizes:
            note(f"compiling with IREE for batch {size}")
            _import(folder, _with_batch(model, size), size, save=size == sizes[0])
            _iree(folder, "compile", f"b{size}.mlir", *FLAGS, "-o", module_file(size))
            files[module_file(size)] = (folder / module_file(size)).read_bytes()
        if (folder / PARAMETERS_FILE).is_file():
            files[PARAMETERS_FILE] = (folder / PARAMETERS_FILE).read_bytes()
        _iree(folder, "compile", f"b{sizes[0]}.mlir", *FLAGS, "--compile-to=dispatch-creation", "-o", "form.mlir")
        form = (folder / "form.mlir").read_text()
    cpu, features = _target_of(form)
    coverage = None
    if request.precision == "int8":
        coverage = _check_integers(form, prepared.coverage)
    return Compiled(
        files=files,
        target={"architecture": architecture_here(), "cpu": cpu, "cpu_flags": sorted(_linux_flags(features))},
        compilation={
            "converter": "iree-import-onnx",
            "quantiser": None,
            "batches": list(sizes),
            "settings": list(FLAGS),
            "cpu_features": features,
        },
        versions={name: version(name) for name in ("iree-base-compiler", "iree-base-runtime")},
        coverage=coverage,
        open_session=lambda artefact: IreeSession(artefact, "cpu", _THREADS),
    )


def _with_batch(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """Return a copy whose input and output have one batch size; IREE infers the shapes between.

    The importer calls the function as the graph is called.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.name = FUNCTION
    del copy.graph.value_info[:]
    for value in [*copy.graph.input, *copy.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = size
    return copy


def _import(folder: Path, model: onnx.ModelProto, size: int, save: bool) -> None:
    """Bring a graph into MLIR; the weights are the same for each size and are saved once."""
    (folder / f"b{size}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    _iree(
        folder, "import-onnx", f"b{size}.onnx", "-o", f"b{size}.mlir", "--externalize-params",
        "--num-elements-threshold", str(_LEAST_ELEMENTS), "--params-scope", SCOPE,
        *(("--save-params-to", PARAMETERS_FILE) if save else ("--no-save-params",)),
    )  # fmt: skip
    (folder / f"b{size}.onnx").unlink()


def _iree(folder: Path, tool: str, *arguments: str) -> None:
    """Run one of IREE's programs in a folder. Raises InputError with its first error."""
    module = {"import-onnx": "iree.compiler.tools.import_onnx", "compile": "iree.compiler.tools.scripts.iree_compile"}[
        tool
    ]
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error:" in line.lower()] or lines[-1:] or ["it says nothing"]
        raise InputError(f"iree-{tool} cannot take this network: {errors[0].strip()[:300]}; take --format onnx")


def _target_of(form: str) -> tuple[str, str]:
    """Return the CPU and its features, as LLVM names them, from the target that stands in a compiled form."""
    cpu, features = (re.search(rf'\b{key} = "([^"]*)"', form) for key in ("cpu", "cpu_features"))
    return (cpu[1] if cpu else "unknown"), (features[1] if features else "")


def _linux_flags(features: str) -> set[str]:
    """Return which of this CPU's flags, by Linux's names, LLVM was allowed to use; the last word on each counts."""
    on: dict[str, bool] = {}
    for feature in filter(None, features.split(",")):
        on[feature[1:]] = feature[0] == "+"
    here = {_plain(flag): flag for flag in cpu_flags()}
    names = [_plain(_LINUX_NAMES.get(name, name)) for name, enabled in on.items() if enabled]
    return {here[name] for name in names if name in here}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]", "", name)


def _check_integers(form: str, graph: Coverage) -> Coverage:
    """Hold IREE's own form of a network against its graph, and return the coverage as read from there.

    Before dispatches are shared, each Conv and Gemm is one linalg.generic with a reduction that multiplies.
    """
    integers, floats = _products(form)
    quantised = [node for node in graph.nodes if node.precision == "int8"]
    if integers < len(quantised) or floats > len(graph.nodes) - len(quantised):
        raise GateError(
            f"IREE computes {integers} of {len(quantised)} quantised matrix products in integers and {floats} in "
            "floats; nothing was written: take fp32, or --format onnx or c"
        )
    return coverage_of_engine(graph, {node.name: node.precision for node in graph.nodes})


def _products(form: str) -> tuple[int, int]:
    """Count the matrix products of int8 with int32 sums, and those of floats."""
    integers = floats = 0
    for match in _GENERIC.finditer(form):
        text = match[0]
        if '"reduction"' not in text:
            continue
        head = text.partition("\n")[
            0
        ]  # its operands, as tensor<8x400xi8> or, with a layout of IREE's, tensor<8x400xi8, ...
        integers += bool(re.search(r"xi8[,>]", head) and re.search(r"arith\.muli [^\n]*: i32", text))
        floats += "arith.mulf " in text
    return integers, floats
