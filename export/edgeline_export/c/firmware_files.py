"""What lies beside NAME.c in an artefact for a board: start-up code, linker script, self-test, and their build."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.emulator import COUNTING, OPTIONS, PROGRAM
from edgeline.manifest import Preprocessing
from edgeline.preprocessing import input_from_pixels
from edgeline_export.c.boards import Board
from edgeline_export.c.budgets import Budgets
from edgeline_export.c.firmware import optimisation
from edgeline_export.c.ir import C_TYPES
from edgeline_export.c.targets import Target
from edgeline_export.c.text import array_lines, float_literal

_TEMPLATES = Path(__file__).parent / "templates" / "firmware"
_FIXED = ("startup.c", "semihosting.c", "semihosting.h")


@dataclass(frozen=True, slots=True, eq=False)
class Selftest:
    """The self-test as a board runs it.

    `inputs` [calls, ...] as `infer` ("infer" or "infer_u8") takes them, `outputs` [calls, ...]; `batch` samples a call.
    `tolerance` is absolute; None: every bit must be as expected.
    """

    infer: str
    inputs: npt.NDArray[Any]
    outputs: npt.NDArray[Any]
    batch: int
    arena_bytes: int
    tolerance: float | None

    @property
    def bytes_per_call(self) -> int:
        """The flash that a call takes."""
        return int(self.inputs[0].nbytes + self.outputs[0].nbytes)

    def first(self, calls: int) -> Selftest:
        """Return the self-test with fewer calls."""
        return replace(self, inputs=self.inputs[:calls], outputs=self.outputs[:calls])


def pixels_of(
    inputs: npt.NDArray[Any], preprocessing: Preprocessing, shape: tuple[int, ...]
) -> npt.NDArray[np.uint8] | None:
    """Return the images, uint8 [n, H, W, C], that preprocessing makes float32 [n, C, height, width] from.

    None where there are none: another one of the 256 values a pixel has would be needed.
    """
    channels, height, width = shape
    rows, columns = preprocessing.pad or (0, 0)
    every = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 1, 1, channels))
    table = input_from_pixels(every, replace(preprocessing, pad=None), (channels, 1, 1))[:, :, 0, 0]
    inner = inputs[:, :, rows : height - rows, columns : width - columns]
    planes = []
    for channel in range(channels):
        order = np.argsort(table[:, channel], kind="stable")
        at = np.searchsorted(table[order, channel], inner[:, channel]).clip(max=255)
        planes.append(order[at].astype(np.uint8))
    images = np.stack(planes, axis=-1)
    return images if np.array_equal(input_from_pixels(images, preprocessing, shape), inputs) else None


def fixed_files(name: str, target: Target, board: Board) -> dict[str, bytes]:
    """Return what does not depend on the self-test or on figures."""
    run = shlex.join([PROGRAM, "-M", board.machine, *OPTIONS, *COUNTING])
    words: dict[str, object] = {
        "name": name,
        "target": target.name,
        "what": board.what,
        "packages": target.packages,
        "flags": shlex.join(target.variants[0].flags),
        "optimise": shlex.join(word for word in optimisation(target) if not word.startswith("-std=")),
        "compiler": target.compiler,
        "machine": board.machine,
        "run": run,
        "qemu": shlex.join([*OPTIONS, *COUNTING]),
    }
    files = {file: (_TEMPLATES / file).read_bytes() for file in _FIXED}
    files["CMakeLists.txt"] = _filled("CMakeLists.txt", words)
    files[f"{target.name}.cmake"] = _filled("toolchain.cmake", words)
    return files


def linker_script(name: str, board: Board, budgets: Budgets, stack_bytes: int) -> bytes:
    """Return board.ld, with the budgets as the lengths of the memories."""
    words: dict[str, object] = {
        "name": name,
        "what": board.what,
        "flash_origin": f"0x{board.flash.origin:08X}",
        "ram_origin": f"0x{board.ram.origin:08X}",
        "flash_bytes": budgets.flash,
        "ram_bytes": budgets.ram,
        "stack_bytes": stack_bytes,
    }
    return _filled("board.ld", words)


def selftest_files(name: str, selftest: Selftest) -> dict[str, bytes]:
    """Return selftest.c and selftest_data.h."""
    calls = len(selftest.inputs)
    made = selftest.outputs.dtype
    tolerance = ""
    if made.kind in "iu":
        tolerance = "#define SELFTEST_INTEGERS"
    elif selftest.tolerance is not None:
        tolerance = f"#define SELFTEST_TOLERANCE {float_literal(selftest.tolerance)}"
    word = np.dtype(f"uint{8 * made.itemsize}")
    inputs, outputs = selftest.inputs.reshape(calls, -1), selftest.outputs.reshape(calls, -1)
    words: dict[str, object] = {
        "name": name,
        "infer": selftest.infer,
        "given": C_TYPES[selftest.inputs.dtype.name],
        "made": C_TYPES[made.name],
        "calls": calls,
        "batch": selftest.batch,
        "outputs": outputs.shape[1] // selftest.batch,
        "numbers": inputs.shape[1],
        "arena": selftest.arena_bytes,
        "tolerance": tolerance,
        "allowed": "as expected, bit for bit" if selftest.tolerance is None else f"within {selftest.tolerance:.3g}",
        "word": f"{word.name}_t",
        "inputs": "\n".join(_rows("{", row, "},") for row in inputs),
        "expected": "\n".join(_bits(row.view(word)) for row in outputs),
    }
    return {file: _filled(file, words) for file in ("selftest.c", "selftest_data.h")}


def _rows(begin: str, row: npt.NDArray[Any], end: str) -> str:
    return "\n".join([f"    {begin}", *(f"        {line}" for line in array_lines(row)), f"    {end}"])


def _bits(row: npt.NDArray[Any]) -> str:
    suffix = "ull" if row.dtype.itemsize == 8 else "u"
    numbers = [f"0x{int(number):0{2 * row.dtype.itemsize}x}{suffix}" for number in row]
    lines = [", ".join(numbers[i : i + 8]) + "," for i in range(0, len(numbers), 8)]
    return "\n".join(["    {{", *(f"        {line}" for line in lines), "    }},"])


def _filled(template: str, words: Mapping[str, object]) -> bytes:
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    for key, value in words.items():
        text = text.replace(f"@{key}@", str(value))
    return text.encode()
