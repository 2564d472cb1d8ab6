"""infer_u8 of integer networks: a table of bytes in place of preprocessing and QuantizeLinear, and no float between."""

from dataclasses import replace

import numpy as np
import pytest

from edgeline.manifest import Preprocessing
from edgeline.preprocessing import input_from_pixels
from edgeline_export.c.pixels import pixels_for, quantised_table
from edgeline_export.c.program import QuantisedInput, contiguous
from tests.export.c.harness import SANITIZERS, build, program_of, run_executable
from tests.export.c.qdq import Qdq

GREY = Preprocessing(None, 1 / 255, (0.1313,), (0.3089,))
COLOURS = Preprocessing(None, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), pad=(1, 2))
CASES = {
    "one channel": (1, GREY, {}),
    "padding of the network": (1, GREY, {"pads": [2, 1, 0, 3]}),
    "padding of the images too": (3, COLOURS, {"pads": [1, 1, 1, 1]}),
    "beyond the grid": (1, replace(GREY, std=(0.01,)), {}),
    "as they are": (1, Preprocessing(None, 1.0, (0.0,), (1.0,)), {}),
    "a batch of two": (3, COLOURS, {"batch": 2}),
}


def network(channels, scale, zero, pads=None, batch="n"):
    """Q -> Conv -> Q -> Gemm: [n, channels, 10, 10] -> [n, 7]."""
    g = Qdq((channels, 10, 10), batch)
    extra = {} if pads is None else {"pads": pads}
    rows, columns = (8 + sum((pads or [0] * 4)[i::2]) for i in (0, 1))
    y = g.conv("c", g.quantised("x", scale, zero), scale, 5, channels, (3, 3), **extra)
    y = g.node("Flatten", [g.quantised(y, 1 / 30, 128)], "f")
    return g.model(g.gemm("d", y, 1 / 30, 5 * rows * columns, 7))


@pytest.mark.parametrize(
    ("case", "target"),
    [*((case, "generic") for case in CASES), ("a batch of two", "x86-64"), ("padding of the images too", "cortex-m4")],
)
def test_pixels_give_the_bits_of_preprocessed_floats(tmp_path, case, target):
    channels, preprocessing, options = CASES[case]
    scale, zero = (1.0, 0) if case == "as they are" else (1 / 40, 100)
    model = network(channels, scale, zero, **options)
    rows, columns = (10 - 2 * pad for pad in preprocessing.pad or (0, 0))
    count = options.get("batch", 11)
    images = np.random.default_rng(4).integers(0, 256, (count, rows, columns, channels)).astype(np.uint8)
    images[0, 0, 0], images[0, -1, -1] = 0, 255
    batch = input_from_pixels(images, preprocessing, (channels, 10, 10))
    expected = build(tmp_path, model, target, isa=(), preprocessing=preprocessing).run(batch)
    bytes_ = build(tmp_path, model, target, isa=(), preprocessing=preprocessing, flags=("-DPIXELS", *SANITIZERS))
    found = run_executable(bytes_.program, [bytes_.executable], images, np.uint8)
    assert found.tobytes() == expected.tobytes()
    assert (found[0] != found[1]).any()
    # No float is kept of an image: the arena is no larger than that of the floats, which are the caller's.
    assert bytes_.program.pixel_arena_bytes == bytes_.program.arena_bytes
    assert (pixels_for(bytes_.program, preprocessing).table is None) == (case == "as they are")


def test_other_readers_of_the_floats_keep_them():
    """The input is quantised twice, onto two grids: images become floats first."""
    g = Qdq((1, 10, 10))
    g.constant("s", np.float32(1 / 20)), g.constant("z", np.uint8(3))
    first = g.conv("c", g.quantised("x", 1 / 40, 100), 1 / 40, 5, 1, (3, 3))
    g.node("QuantizeLinear", ["x", "s", "z"], "x2_q")
    second = g.conv("e", g.node("DequantizeLinear", ["x2_q", "s", "z"], "x2"), 1 / 20, 5, 1, (3, 3))
    program = program_of(g.model(g.node("Add", [first, second], "a")))
    assert program.quantised_input is None
    assert pixels_for(program, GREY).table.values.dtype == np.float32


def test_the_table_is_quantize_linear():
    """ONNX's rule: x / scale rounded half to even, plus the zero point, saturated; int8 in the bits of uint8."""
    floats = np.array([[-1e9, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9, np.nan]], np.float32)
    layout = contiguous((1, 1, 2, 4))
    table = quantised_table(floats, QuantisedInput("x", 1.0, 10, "uint8", layout))
    assert table.tolist() == [[0, 8, 10, 10, 12, 12, 255, 0]]
    table = quantised_table(floats, QuantisedInput("x", 1.0, -10, "int8", layout))
    assert table.view(np.int8).tolist() == [[-128, -12, -10, -10, -8, -8, 127, -128]]
