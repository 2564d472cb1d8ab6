"""`ncnn`: Tencent's ncnn, converted by its own pnnx from the ONNX graph; the weights stay float32.

The bytes are the same for the same graph and version of pnnx.

There is no int8. ncnn runs it, but what makes it are the programs ncnn2table and ncnn2int8, which none of the packages
on PyPI holds; pnnx converts float networks only.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgeline import interrupts
from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.backends.ncnn import PARAM_FILE, WEIGHTS_FILE, NcnnSession
from edgeline.command import note
from edgeline.errors import GateError, InputError, MissingCapabilityError, ResourceError
from edgeline_export.formats.interface import Availability, ExportRequest
from edgeline_export.formats.packages import missing_packages
from edgeline_export.subject import Subject

if TYPE_CHECKING:
    from edgeline_export.assemble import Compiled

_BYTES_PER_WEIGHT = 4
_THREADS = 1  # for the gate: OpenMP's threads wait by spinning, and stall where other programs compute too
# The parameter of a layer that counts its weights, as ncnn's "operators" page has it.
_WEIGHTS_OF = {"Convolution": "6", "ConvolutionDepthWise": "6", "Convolution1D": "6", "InnerProduct": "2"}


class NcnnFormat:
    """Writes model.ncnn.param, the layers as text, and model.ncnn.bin, their weights."""

    name = "ncnn"
    summary = "ncnn network for CPUs, by pnnx"
    precisions: tuple[str, ...] = ("fp32", "bf16")
    options: frozenset[str] = frozenset()

    def availability(self) -> Availability:
        """Say whether pnnx and ncnn are installed."""
        return missing_packages("pnnx", "ncnn") or Availability(True)

    def export(self, subject: Subject, request: ExportRequest) -> Artefact:
        """Convert, verify, and put in place."""
        with interrupts.held():
            from edgeline_export.assemble import assemble

        return assemble(subject, request, self.name, "integer", lambda graph, _: _compile(graph, subject))


def _compile(graph: bytes, subject: Subject) -> Compiled:
    """Convert a float32 graph. Raises InputError when pnnx or ncnn cannot, GateError when weights are not float32."""
    with interrupts.held():
        from edgeline_export.assemble import Compiled
        from edgeline_export.graph import inputs_of, outputs_of

    (given,), (made,) = inputs_of(subject.graph), outputs_of(subject.graph)
    if {given.dtype, made.dtype} != {"float32"} or len(given.shape) > 4:
        raise InputError(
            f"ncnn takes float32 samples of one to three dimensions and gives float32; {subject.name} has "
            f"{given.dtype} {list(given.shape)} and {made.dtype} {list(made.shape)}: take --format onnx"
        )
    note(f"converting with pnnx {version('pnnx')}")
    param, weights = _converted(graph, (max(given.shape[0], 1), *given.shape[1:]))
    layers = _layers(param)
    _check_layers(layers)
    _check_weights(layers, weights)
    return Compiled(
        files={PARAM_FILE: param, WEIGHTS_FILE: weights},
        compilation={
            "converter": "pnnx",
            "quantiser": None,
            "batches": "any",
            "settings": {"fp16": 0, "optlevel": 2},
            "layers": dict(Counter(layer[0] for layer in layers)),
        },
        versions={name: version(name) for name in ("pnnx", "ncnn")},
        open_session=lambda artefact: NcnnSession(artefact, "cpu", _THREADS),
    )


def _converted(graph: bytes, shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """Run pnnx in a folder of its own, where it leaves nine files, and return ncnn's two."""
    with tempfile.TemporaryDirectory(prefix="edgeline-pnnx-") as folder:
        (Path(folder) / GRAPH_FILE).write_bytes(graph)
        sizes = ",".join(map(str, shape))
        command = [str(_pnnx()), GRAPH_FILE, f"inputshape=[{sizes}]f32", "fp16=0", "optlevel=2"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        files = [Path(folder) / name for name in (PARAM_FILE, WEIGHTS_FILE)]
        if done.returncode != 0 or not all(file.is_file() for file in files):
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            words = lines[-1][:200] if lines else "it says nothing"
            raise InputError(f"pnnx cannot convert this network (exit {done.returncode}): {words}; take --format onnx")
        return files[0].read_bytes(), files[1].read_bytes()


def _pnnx() -> Path:
    """Return pnnx's program. Its Python package only calls it, and imports torch to do so."""
    found = find_spec("pnnx")
    places = [] if found is None else list(found.submodule_search_locations or [])
    programs = [Path(place) / ("pnnx.exe" if os.name == "nt" else "pnnx") for place in places]
    for program in programs:
        if program.is_file():
            return program
    raise MissingCapabilityError("pnnx's program is not installed: pip install 'edgeline[peers]'")


def _layers(param: bytes) -> list[list[str]]:
    """Return the layers of a .param file, each as its words: type, name, ... (ncnn's "param and model file structure").

    Raises ResourceError when it is not such a file.
    """
    lines = param.decode().splitlines()
    if lines[:1] != ["7767517"] or len(lines) < 3:
        raise ResourceError("pnnx wrote a .param file without ncnn's magic number; run the export again")
    return [line.split() for line in lines[2:] if line.strip()]


def _check_layers(layers: list[list[str]]) -> None:
    """Refuse what pnnx wrote down as it stood, because ncnn has no such layer."""
    import ncnn

    foreign = sorted({layer[0] for layer in layers if ncnn.layer_to_index(layer[0]) < 0})
    if foreign:
        raise InputError(f"ncnn has no layer {', '.join(foreign)}: take --format onnx")


def _check_weights(layers: list[list[str]], weights: bytes) -> None:
    """Raise GateError when the file is too small for float32 weights: pnnx halves them unless it is told not to."""
    count = 0
    for layer in layers:
        parameters = dict(word.split("=", 1) for word in layer if "=" in word)
        count += int(parameters.get(_WEIGHTS_OF.get(layer[0], ""), 0))
    if len(weights) < count * _BYTES_PER_WEIGHT:
        raise GateError(
            f"pnnx wrote {len(weights)} bytes for {count} weights, which is not float32; nothing was written"
        )
