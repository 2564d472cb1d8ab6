"""The readable parts of what is generated for LeNet, as people read them: golden/ holds them.

A change there is a change for whoever embeds the C. UPDATE_GOLDEN=1 writes them anew; look at the difference.
"""

import os
from pathlib import Path

import pytest

from edgeline.manifest import Preprocessing
from edgeline_export.c.dispatch import dispatch_source
from edgeline_export.c.emit import Heading, sources
from edgeline_export.c.pixels import pixels_for
from edgeline_export.c.targets import TARGETS
from tests.export.c.harness import program_of
from tests.export.c.test_float_networks import graph_of

GOLDEN = Path(__file__).with_name("golden")
PREPROCESSING = Preprocessing(None, 1 / 255, (0.1313,), (0.3089,))


def between(text, begin, end):
    """The text from the last `begin` up to the next `end`, which may be the end of all."""
    start = text.rindex(begin)
    stop = text.find(end, start) if end else len(text)
    assert stop > start
    return text[start:stop].rstrip() + "\n"


@pytest.fixture(scope="module")
def parts():
    """The parts by the name of their file; no weights, and no kernels, which are files of their own."""
    graph, heading, found = graph_of("lenet"), Heading("0" * 64, "edgeline", "fp32"), {}
    for name in ("generic", "x86-64"):
        target, program = TARGETS[name], program_of(graph, name, "lenet")
        pixels = pixels_for(program, PREPROCESSING)
        files = {file: content.decode() for file, content in sources(program, target, heading, pixels).items()}
        source = files["lenet.c"]
        found[f"lenet.{name}.opening.c"] = between(source, "/* lenet: ", "/* The instruction set")
        found[f"lenet.{name}.layer.c"] = between(source, "/* 2. ", "/* 3. ")
        found[f"lenet.{name}.entry.c"] = between(source, "size_t lenet_arena_bytes", "")
        found[f"lenet.{name}.h"] = files["lenet.h"]
        found[f"lenet.{name}.dispatch.c"] = dispatch_source(program, target, True) if name != "generic" else ""
    return {name: text for name, text in found.items() if text}


def test_the_readable_parts_of_lenet(parts):
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for name, text in parts.items():
            (GOLDEN / name).write_text(text)
    assert {path.name for path in GOLDEN.iterdir()} == set(parts)
    for name, text in parts.items():
        assert text == (GOLDEN / name).read_text(), f"{name} is another: UPDATE_GOLDEN=1 writes it anew"


def test_no_line_is_too_long_to_read(parts):
    for name, text in parts.items():
        for number, line in enumerate(text.splitlines(), 1):
            assert len(line) <= 120, f"{name}:{number}"
