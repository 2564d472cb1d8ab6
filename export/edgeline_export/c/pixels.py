"""uint8 images as a library's input: NAME_infer_u8 preprocesses each sample as the manifest says, and then infers.

A pixel has 256 values, so a table holds what each becomes: the same bits as edgeline.preprocessing computes, since that
made the table, and no rounding of C's own. Where the network's first step only quantises its input, the table holds
quantised numbers, and no float is computed. Images are not resized here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeline.manifest import Preprocessing
from edgeline.preprocessing import input_from_pixels
from edgeline_export.c.program import Parameter, Program, QuantisedInput

NO_PIXELS = "nothing says how images become this input"


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What the kernel needs: the sizes of the images, and what pixels become, [channels, 256].

    `table` holds float32 for the kernel pixels.c, bytes for pixels_u8.c; None: pixels are quantised as they are.
    """

    images: int
    channels: int
    rows: int
    columns: int
    pad: tuple[int, int]
    free_batch: bool
    table: Parameter | None
    quantised: QuantisedInput | None
    what: str

    @property
    def bytes(self) -> int:
        """The pixels of one sample of the program."""
        return self.images * self.rows * self.columns * self.channels

    @property
    def kernel(self) -> str:
        """The stem of the kernel's file."""
        return "pixels" if self.quantised is None else "pixels_u8"

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
    floats = input_from_pixels(every, replace(preprocessing, pad=None), (channels, 1, 1))[:, :, 0, 0].T
    quantised = program.quantised_input
    table = np.ascontiguousarray(floats) if quantised is None else quantised_table(floats, quantised)
    what = "what pixels become" if quantised is None else f"what pixels become in {quantised.name}"
    as_they_are = quantised is not None and bool((table == np.arange(256)).all())
    return Pixels(
        images=images,
        channels=channels,
        rows=height - 2 * rows,
        columns=width - 2 * columns,
        pad=(rows, columns),
        free_batch=program.free_batch,
        table=None if as_they_are else Parameter(table, f"{what}: [{channels} channels][256 values]"),
        quantised=quantised,
        what=_in_words(preprocessing),
    )


def quantised_table(floats: npt.NDArray[np.float32], grid: QuantisedInput) -> npt.NDArray[np.uint8]:
    """Return the bytes that the kernel quantise of walk_u8.c makes of floats; those of int8 as uint8 holds them.

    The quotient is a float32, clamped, rounded half to even; NaN becomes the lowest.
    """
    low = np.iinfo(grid.dtype).min - grid.zero_point
    steps = np.asarray(floats, np.float32) / np.float32(grid.scale)
    steps = np.clip(np.where(np.isnan(steps), low, steps), low, low + 255)
    return np.ascontiguousarray((np.rint(steps).astype(np.int64) + grid.zero_point).astype(np.uint8))


def _in_words(preprocessing: Preprocessing) -> str:
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    pad = preprocessing.pad
    padded = f", with {pad[0]} rows and {pad[1]} columns of pixel 0 added on each side" if pad else ""
    return f"(pixel * {preprocessing.scale:.8g} - {mean}) / {std} for each channel{padded}"


def pixel_lines(program: Program, pixels: Pixels, name: str) -> Sequence[str]:
    """Return the C lines that make a sample's input of its image: `run` is the block, `pixels` its first image."""
    quantised = pixels.quantised
    members = {
        "images": pixels.images,
        "channels": pixels.channels,
        "rows": pixels.rows,
        "columns": pixels.columns,
        "pad_rows": pixels.pad[0],
        "pad_columns": pixels.pad[1],
    }
    if quantised is not None:
        strides = zip(("out_image", "out_channel", "out_row", "out_column"), quantised.layout.strides, strict=True)
        members |= dict(strides)
    table = "NULL" if pixels.table is None else f"{name}_pixels"
    return [
        f"            static const edgeline_{pixels.kernel} image = {{",
        *(f"                .{member} = {value}," for member, value in members.items()),
        "            };",
        f"            const uint8_t *from = pixels + (done + run.row) * {pixels.bytes};",
        *(_as_floats(program, table) if quantised is None else _as_bytes(program, quantised, table)),
    ]


def _as_floats(program: Program, table: str) -> Sequence[str]:
    row = f" + run.row * {program.input.bytes}" if program.pixel_rows else ""
    return [
        f"            float *sample = (float *)(run.arena + {program.pixel_offset}{row});",
        f"            edgeline_pixels_f32(&image, from, {table}, sample);",
        "            run.sample = (const unsigned char *)sample;",
    ]


def _as_bytes(program: Program, quantised: QuantisedInput, table: str) -> Sequence[str]:
    buffer, offset = program.buffers[quantised.name], quantised.layout.offset
    row = f" + run.row * {buffer.bytes}" if buffer.per_row else ""
    at = f"run.arena + {buffer.offset}{row}"
    fill = f"            memset({at}, {int(buffer.fill or 0)}, {buffer.bytes}); /* the padding */"
    return [
        *([fill] if buffer.fill is not None else []),
        f"            edgeline_pixels_bytes(&image, from, {table}, {at}{f' + {offset}' if offset else ''});",
    ]
