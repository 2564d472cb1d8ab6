"""The network as emx-onnx-cgen writes it, where that is installed: C behind our function, to be counted alike.

emx-onnx-cgen (PyPI) takes floats; the function around it makes them from the image, which costs it some 1 % more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from edgeline.artefact import Artefact
from edgeline.errors import GateError, MissingCapabilityError
from edgeline.preprocessing import input_from_pixels

PROGRAM = "emx-onnx-cgen"
_CALL = re.compile(r"^void model\(([^)]*)\)", re.MULTILINE)


def version() -> str:
    """Return its version. Raises MissingCapabilityError where it is not installed."""
    if shutil.which(PROGRAM) is None:
        raise MissingCapabilityError(
            f"{PROGRAM} is not on the path: pip install {PROGRAM}, in an environment of its own"
        )
    python = Path(str(shutil.which(PROGRAM))).with_name("python")
    words = "import importlib.metadata as m; print(m.version('emx-onnx-cgen'))"
    return subprocess.run([python, "-c", words], capture_output=True, text=True, check=True).stdout.strip()


def source_of(artefact: Artefact) -> bytes:
    """Return what stands in the place of NAME.c: the same graph for one sample, all its memory on the stack.

    Raises GateError where it does not take the graph.
    """
    name = str((artefact.manifest.compilation or {})["prefix"])
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "model.c"
        options = ("--model-name", "model", "--input-dim", "batch=1", "--large-temp-threshold", "0",
                   "--large-weight-threshold", "0")  # fmt: skip
        done = subprocess.run(
            [PROGRAM, "compile", artefact.file("model.onnx"), made, *options],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0 or not made.is_file():
            words = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise GateError(f"{PROGRAM} does not take the graph of {artefact.name}: {words[-1]}")
        text = made.read_text(encoding="utf-8")
    if _CALL.search(text) is None:
        raise GateError(f"{PROGRAM} wrote no function model")
    preprocessing = artefact.manifest.preprocessing
    if preprocessing is None:
        raise GateError(f"{artefact.name} does not say how images become its input")
    _, channels, rows, columns = artefact.manifest.inputs[0].shape
    every = np.arange(256, dtype=np.uint8)[:, None, None, None]
    table = input_from_pixels(every, preprocessing, (1, 1, 1))[:, 0, 0, 0]
    numbers = ", ".join(f"{value!r}f" for value in table.astype(float).round(9).tolist())
    shim = f"""
#include "{name}.h"

size_t {name}_arena_bytes(size_t n) {{ (void)n; return 1; }}
size_t {name}_u8_arena_bytes(size_t n) {{ (void)n; return 1; }}
const char *{name}_isa(void) {{ return "emx"; }}

int {name}_infer(const float *input, float *output, size_t n, void *arena, size_t bytes)
{{
    (void)n, (void)arena, (void)bytes;
    model((const void *)input, (void *)output);
    return 0;
}}

int {name}_infer_u8(const uint8_t *pixels, float *output, size_t n, void *arena, size_t bytes)
{{
    static const float table[256] = {{{numbers}}};
    float input[{channels * rows * columns}];
    for (int i = 0; i < {channels * rows * columns}; i++) input[i] = table[pixels[i]];
    return {name}_infer(input, output, n, arena, bytes);
}}
"""
    return (text + shim).encode()
