"""The cross tools of the tests for boards, and what is done with an artefact's sources.

What is not installed skips a test by the name of its package.
"""

import shutil

import pytest

from edgeline.emulator import run_image
from edgeline_export.c.boards import BOARDS
from edgeline_export.c.firmware import board_compiler, compile_objects, link
from edgeline_export.c.targets import TARGETS

PACKAGES = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "cmake": "cmake",
}
INT8 = ("--precision", "int8", "--calibration-samples", "20")


def need(*programs):
    """Skip the test where one of these is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {PACKAGES[program]}")


def argv_of(graph_file, out, target, *options):
    """The arguments that export a graph, judged on inputs.npz beside it, for a target."""
    samples = graph_file.with_name("inputs.npz")
    more = ["--calibration", samples] if "int8" in options else []
    argv = [graph_file, "--format", "c", "--samples", samples, *more, "--out", out, "--target", target, *options]
    return [str(arg) for arg in argv]


def sources_in(folder):
    """The sources of an artefact by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".c", ".h", ".ld")}


def linked(files, target, script=None):
    """An image of an artefact's sources."""
    compiler = board_compiler(TARGETS[target], None)
    objects = compile_objects("tiny", files, TARGETS[target], compiler)
    return link(objects.files, script or files["board.ld"], TARGETS[target], compiler)


def run(elf, target, folder):
    (folder / "image.elf").write_bytes(elf)
    return run_image(folder / "image.elf", BOARDS[target].machine)
