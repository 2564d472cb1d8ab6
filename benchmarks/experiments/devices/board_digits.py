"""Many digits through an artefact for a board, under QEMU: its logits, and the instructions of one call.

The artefact's sources are compiled again, as the export compiled them, around board_digits.c; memory is the board's own
and not the artefact's budget, for what is asked is what the network computes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.artefact import open_artefact
from edgeline.emulator import failure_of, run_image
from edgeline.errors import GateError, InputError
from edgeline_export.c.budgets import budgets_of
from edgeline_export.c.firmware import board_compiler, compile_objects, link, sections_of
from edgeline_export.c.firmware_files import linker_script
from edgeline_export.c.targets import target_from_name

_MAIN = Path(__file__).with_name("board_digits.c")
_STACK_BYTES = 4096
_SOURCES = (".c", ".h", ".bin")


@dataclass(frozen=True, slots=True)
class BoardDigits:
    """Outputs [n, ...] of images, and of one call: its instructions, the bytes of its stack, those of its code."""

    outputs: npt.NDArray[Any]
    instructions: int
    stack_bytes: int
    code_bytes: int


def run_digits(
    artefact_folder: Path,
    target: str,
    pixels: npt.NDArray[np.uint8],
    cc: str | None = None,
    replaced: Mapping[str, bytes] | None = None,
    stack_bytes: int = _STACK_BYTES,
) -> BoardDigits:
    """Run uint8 images [n, H, W] or [n, H, W, C] through the sources of an artefact.

    `replaced` are files that take the place of the artefact's. Raises MissingCapabilityError without compiler or QEMU,
    InputError for an artefact of another target or one that takes no images, GateError where the image does not end
    well.
    """
    artefact = open_artefact(artefact_folder)
    chosen = target_from_name(target)
    if chosen.board is None or artefact.manifest.target.get("name") != target:
        raise InputError(f"{artefact.name} is not for the board of {target}: export it with --target {target}")
    record = artefact.manifest.compilation or {}
    name = str(record["prefix"])
    files = {f: artefact.file(f).read_bytes() for f in artefact.manifest.files if f.endswith(_SOURCES)}
    files |= replaced or {}
    files["artefact_selftest.c"] = files["selftest.c"]
    files["selftest.c"] = _MAIN.read_bytes()
    if f"#define SELFTEST_INFER {name}_infer_u8".encode() not in files["selftest_data.h"]:
        raise InputError(f"{artefact.name} takes no images: only networks with {name}_infer_u8 read digits")
    compiler = board_compiler(chosen, cc)
    objects = compile_objects(name, files, chosen, compiler)
    script = linker_script(name, chosen.board, budgets_of(None, None, chosen.board), stack_bytes)
    alone = link(objects.files, script, chosen, compiler, f"{name}_infer_u8")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "digits.elf").write_bytes(link(objects.files, script, chosen, compiler))
        (folder / "images.bin").write_bytes(np.ascontiguousarray(pixels, np.uint8).tobytes())
        run = run_image(folder / "digits.elf", chosen.board.machine)
        failure = failure_of(run)
        if failure is not None or run.instructions is None:
            raise GateError(f"{artefact.name} on {run.machine}: {failure}")
        made = np.frombuffer((folder / "outputs.bin").read_bytes(), artefact.manifest.outputs[0].dtype)
    return BoardDigits(
        made.reshape(len(pixels), *artefact.manifest.outputs[0].shape[1:]),
        run.instructions,
        run.figures["stack"],
        sections_of(alone).code,
    )
