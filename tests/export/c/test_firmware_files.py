"""What lies beside the network in an artefact for a board, and what is read from a compiler's files."""

import re
import struct

import numpy as np
import pytest

from edgeline.emulator import TICK_PS
from edgeline.manifest import Preprocessing
from edgeline.preprocessing import input_from_pixels
from edgeline_export.c.boards import BOARDS
from edgeline_export.c.budgets import Budgets
from edgeline_export.c.firmware import sections_of
from edgeline_export.c.firmware_files import Selftest, fixed_files, linker_script, pixels_of, selftest_files
from edgeline_export.c.stack import EXTERNAL_BYTES, stack_bytes
from edgeline_export.c.targets import TARGETS

M4 = TARGETS["cortex-m4"]


@pytest.mark.parametrize(
    ("shape", "preprocessing"),
    [
        ((1, 8, 8), Preprocessing(None, 1 / 255, (0.1307,), (0.3081,))),
        ((1, 8, 8), Preprocessing(None, 1 / 255, (0.1307,), (0.3081,), pad=(2, 1))),
        ((3, 8, 8), Preprocessing(None, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        ((2, 8, 8), Preprocessing(None, 1.0, (127.5, 3.0), (-1.0, 0.1))),  # falls as the pixel grows
    ],
)
def test_pixels_are_found_again(shape, preprocessing):
    rows, columns = (8 - 2 * pad for pad in preprocessing.pad or (0, 0))
    images = np.random.default_rng(0).integers(0, 256, (5, rows, columns, shape[0])).astype(np.uint8)
    images[0].reshape(-1)[:4] = (0, 255, 1, 254)
    inputs = input_from_pixels(images, preprocessing, shape)
    np.testing.assert_array_equal(pixels_of(inputs, preprocessing, shape), images)


def test_what_are_no_pixels():
    grey = Preprocessing(None, 1 / 255, (0.1307,), (0.3081,))
    inputs = input_from_pixels(np.zeros((1, 8, 8), np.uint8), grey, (1, 8, 8))
    inputs[0, 0, 3, 3] = np.nextafter(inputs[0, 0, 3, 3], np.float32(1))
    assert pixels_of(inputs, grey, (1, 8, 8)) is None
    inputs[0, 0, 3, 3] = 1e6
    assert pixels_of(inputs, grey, (1, 8, 8)) is None


def selftest(outputs, tolerance=None):
    return Selftest("infer_u8", np.arange(6, dtype=np.uint8).reshape(2, 3), outputs, 1, 64, tolerance)


def test_the_bits_of_what_is_expected():
    data = selftest_files("net", selftest(np.float32([[1.0, -2.5], [0.0, -0.0]])))["selftest_data.h"].decode()
    assert re.findall(r"0x[0-9a-f]{8}u", data) == ["0x3f800000u", "0xc0200000u", "0x00000000u", "0x80000000u"]
    assert "#define SELFTEST_INFER net_infer_u8" in data
    assert "SELFTEST_CALLS = 2, SELFTEST_SAMPLES_PER_CALL = 1, SELFTEST_OUTPUTS = 2 " in data
    assert "TOLERANCE" not in data


def test_a_tolerance_and_whole_numbers():
    data = selftest_files("net", selftest(np.float32([[1.0], [2.0]]), 0.25))["selftest_data.h"].decode()
    assert "#define SELFTEST_TOLERANCE 0.25f" in data
    data = selftest_files("net", selftest(np.int64([[1], [-1]])))["selftest_data.h"].decode()
    assert "#define SELFTEST_INTEGERS" in data
    assert "0xffffffffffffffffull" in data


def test_fewer_calls():
    whole = selftest(np.float32([[1.0], [2.0]]))
    assert whole.bytes_per_call == 3 + 4
    assert len(whole.first(1).inputs) == len(whole.first(1).outputs) == 1


@pytest.mark.parametrize("name", BOARDS)
def test_nothing_is_left_to_fill_in(name):
    target = TARGETS[name]
    files = fixed_files("net", target, target.board)
    files |= selftest_files("net", selftest(np.float32([[1.0], [2.0]])))
    files["board.ld"] = linker_script("net", target.board, Budgets(1000, 2000), 512)
    for file, content in files.items():
        assert not re.search(r"@\w+@", content.decode()), file
    assert b"LENGTH = 1000\n" in files["board.ld"]
    assert b"LENGTH = 2000\n" in files["board.ld"]
    assert f'"-mcpu={name} -mthumb'.encode() in files[f"{name}.cmake"]
    assert target.board.machine in TICK_PS


GRAPH = """graph: { title: "x.c"
node: { title: "main" label: "main\\nx.c:1:5\\n24 bytes (static)\\n0 dynamic objects" }
node: { title: "x.c:deep" label: "deep\\nx.c:2:5\\n100 bytes (static)\\n0 dynamic objects" }
node: { title: "x.c:wide" label: "wide\\nx.c:3:5\\n40 bytes (dynamic,bounded)\\n1 dynamic objects" }
node: { title: "memset" label: "memset\\nstring.h:3:3" shape : ellipse }
edge: { sourcename: "main" targetname: "x.c:deep" label: "x.c:9:9" }
edge: { sourcename: "main" targetname: "x.c:wide" label: "x.c:9:9" }
%s}
"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", 24 + 100),
        ('edge: { sourcename: "x.c:wide" targetname: "memset" label: "" }\n', 24 + 40 + EXTERNAL_BYTES),
        ('edge: { sourcename: "x.c:deep" targetname: "main" label: "" }\n', None),
        ('edge: { sourcename: "x.c:wide" targetname: "__indirect_call" label: "" }\n', 24 + 40 + 100),
        ('node: { title: "v" label: "v\\nx.c:1:1\\n8 bytes (dynamic)" }\n'
         'edge: { sourcename: "main" targetname: "v" label: "" }\n', None),
    ],
)  # fmt: skip
def test_the_deepest_stack(more, expected):
    assert stack_bytes([GRAPH % more], "main", "x.c:deep") == expected


def test_a_root_that_is_not_there():
    assert stack_bytes([], "main", "f") is None


def test_sections_by_hand():
    rows = [(1, 6, 0x40, 100), (1, 2, 0x100, 40), (1, 3, 0x20000000, 8), (8, 3, 0x20000040, 500), (1, 0, 0, 999)]
    table = b"".join(struct.pack("<10I", 0, kind, flags, at, 0, size, 0, 0, 0, 0) for kind, flags, at, size in rows)
    head = bytearray(52)
    struct.pack_into("<I", head, 32, 52)
    struct.pack_into("<HH", head, 46, 40, len(rows))
    found = sections_of(bytes(head) + table)
    assert (found.code, found.constants, found.data, found.zeros) == (100, 40, 8, 500)
    assert found.flash == 0x100 + 40 - 0x40 + 8
    assert found.ram == 0x40 + 500
