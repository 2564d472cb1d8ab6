"""Many digits through an artefact for a Linux target, under QEMU's user mode: its outputs, and what one image costs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeline.artefact import open_artefact
from edgeline.errors import GateError, MissingCapabilityError
from edgeline_bench.emulated.instructions import instructions
from edgeline_export.c.compiler import complaint_of, run_compiler
from edgeline_export.c.elf import code_bytes
from edgeline_export.c.targets import Target, Variant
from edgeline_export.c.toolchain import FLAGS, compiler_for

_MAIN = Path(__file__).with_name("linux_digits.c")
_SOURCES = (".c", ".h", ".bin")
_TIMEOUT_S = 1800.0
_FEW, _MORE = 1, 11  # images of the two counts that are subtracted


@dataclass(frozen=True, slots=True)
class Digits:
    """Outputs [n, ...] of images, the instructions of one image, and the bytes of the network's machine code."""

    outputs: npt.NDArray[np.float32]
    instructions: int
    code_bytes: int


def run_digits(
    artefact_folder: Path,
    target: Target,
    variant: Variant,
    pixels: npt.NDArray[np.uint8],
    qemu: str,
    cpu: str,
    replaced: Mapping[str, bytes] | None = None,
) -> Digits:
    """Run uint8 images [n, H, W] through the sources of an artefact, compiled for one instruction set of its target.

    `replaced` are files that take the place of the artefact's. Raises MissingCapabilityError without compiler or QEMU,
    GateError where the program does not end well.
    """
    artefact = open_artefact(artefact_folder)
    name = str((artefact.manifest.compilation or {})["prefix"])
    compiler = compiler_for(target)
    if shutil.which(qemu) is None:
        raise MissingCapabilityError(f"{qemu} is not installed: apt-get install qemu-user")
    classes = int(np.prod(artefact.manifest.outputs[0].shape[1:]))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for file in artefact.manifest.files:
            if file.endswith(_SOURCES):
                shutil.copy(artefact.file(file), folder / file)
        for file, content in (replaced or {}).items():
            (folder / file).write_bytes(content)
        defined = [
            f"-DNAME={name}", f'-DHEADER="{name}.h"', f"-DBYTES={name.upper()}_U8_ARENA_BYTES",
            f"-DPIXELS={pixels[0].size}", f"-DOUTPUTS={classes}",
        ]  # fmt: skip
        for words in (
            [*FLAGS, *variant.flags, "-ffunction-sections", "-I.", "-c", f"{name}.c", "-o", "network.o"],
            ["-O2", "-std=c99", *variant.flags, *defined, "-I.", "-c", str(_MAIN), "-o", "main.o"],
            ["-static", "-Wl,--gc-sections", "main.o", "network.o", "-lm", "-o", "digits"],
        ):
            answer = run_compiler([*compiler.command, *words], folder)
            if answer.returncode != 0:
                raise GateError(f"{compiler.version}: {complaint_of(answer)}")
        (folder / "images.bin").write_bytes(np.ascontiguousarray(pixels, np.uint8).tobytes())
        command: list[str | Path] = [folder / "digits", folder / "images.bin", folder / "outputs.bin"]
        done = subprocess.run(
            [qemu, "-cpu", cpu, *command, str(len(pixels))], capture_output=True, check=False, timeout=_TIMEOUT_S
        )
        if done.returncode != 0:
            raise GateError(f"{artefact.name} under {qemu} -cpu {cpu} ended with exit code {done.returncode}")
        outputs = np.fromfile(folder / "outputs.bin", np.float32).reshape(len(pixels), classes)
        few, more = (instructions([*command, str(n)], cpu) for n in (_FEW, _MORE))
        code = code_bytes((folder / "network.o").read_bytes())
    return Digits(outputs, round((more - few) / (_MORE - _FEW)), code or 0)
