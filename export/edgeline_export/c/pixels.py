"""uint8 images as a library's input: NAME_infer_u8 preprocesses each sample as the manifest says, and then infers.

A pixel has 256 values, so a table holds what each becomes: the same bits as edgeline.preprocessing computes, since that
made the table, and no rounding of C's own. Images are not resized here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeline.manifest import Preprocessing
from edgeline.preprocessing import input_from_pixels
from edgeline_export.c.program import Parameter, Program

NO_PIXELS = "nothing says how images become this input"


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What the kernel pixels.c needs: the sizes of the images, and what pixels become, float32 [channels, 256]."""

    images: int
    channels: int
    rows: int
    columns: int
    pad: tuple[int, int]
    free_batch: bool
    parameter: Parameter
    what: str

    @property
    def bytes(self) -> int:
        """The pixels of one sample of the program."""
        return self.images * self.rows * self.columns * self.channels

    @property
    def shape_text(self) -> str:
        """The shape as Session.classify takes it."""
        batch = "n" if self.free_batch else str(self.images)
        tail = [self.rows, self.columns] + ([self.channels] if self.channels > 1 else [])
        return f"[{', '.join([batch, *map(str, tail)])}]"


def pixels_for(program: Program, preprocessing: Preprocessing | None) -> Pixels | str:
    """Return how a program takes images; in words, why it takes none."""
    shape = program.input.shape
    if preprocessing is None or len(shape) != 4 or program.input.dtype != "float32":
        return NO_PIXELS
    if preprocessing.resize is not None:
        return "images are resized for this network, which is left to the caller"
    images, channels, height, width = shape
    rows, columns = preprocessing.pad or (0, 0)
    every = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 1, 1, channels))
    table = input_from_pixels(every, replace(preprocessing, pad=None), (channels, 1, 1))[:, :, 0, 0].T
    return Pixels(
        images=images,
        channels=channels,
        rows=height - 2 * rows,
        columns=width - 2 * columns,
        pad=(rows, columns),
        free_batch=program.free_batch,
        parameter=Parameter(np.ascontiguousarray(table), f"what pixels become: [{channels} channels][256 values]"),
        what=_in_words(preprocessing),
    )


def _in_words(preprocessing: Preprocessing) -> str:
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    pad = preprocessing.pad
    padded = f", with {pad[0]} rows and {pad[1]} columns of pixel 0 added on each side" if pad else ""
    return f"(pixel * {preprocessing.scale:.8g} - {mean}) / {std} for each channel{padded}"


def pixel_input(program: Program) -> Sequence[str]:
    """Return the C lines that say where a block's input lies: with the caller, or for images in the arena."""
    size = program.input.bytes
    return [
        f"            .input = pixels != NULL ? (const unsigned char *)arena + {program.pixel_offset}",
        f"                                    : (const unsigned char *)input + done * {size},",
    ]


def pixel_step(program: Program, pixels: Pixels, name: str) -> Sequence[str]:
    """Return the C lines that find a sample's input, and make it where images were given."""
    size = program.input.bytes
    members = {
        "images": pixels.images,
        "channels": pixels.channels,
        "rows": pixels.rows,
        "columns": pixels.columns,
        "pad_rows": pixels.pad[0],
        "pad_columns": pixels.pad[1],
    }
    place = f"{program.pixel_offset}{f' + run.row * {size}' if program.pixel_rows else ''}"
    return [
        "            if (pixels == NULL) {",
        f"                run.sample = run.input + run.row * {size};",
        "            } else {",
        "                static const edgeline_pixels image = {",
        *(f"                    .{member} = {value}," for member, value in members.items()),
        "                };",
        f"                float *sample = (float *)(run.arena + {place});",
        f"                const uint8_t *from = pixels + (done + run.row) * {pixels.bytes};",
        f"                edgeline_pixels_f32(&image, from, {name}_pixels, sample);",
        "                run.sample = (const unsigned char *)sample;",
        "            }",
    ]
