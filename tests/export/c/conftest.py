"""The tiny network as an artefact for boards, exported once for the tests of this folder."""

import numpy as np
import onnx
import pytest

import edgeline_export.cli
from tests.export.c.board_tools import argv_of, need
from tests.export.c.tiny import tiny_batch, tiny_graph


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """The tiny network as a file of somebody's, with inputs to judge it on."""
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(tiny_graph(), folder / "tiny.onnx")
    np.savez(folder / "inputs.npz", inputs=tiny_batch(count=20))
    return folder / "tiny.onnx"


@pytest.fixture(scope="session")
def on_board(tiny_file, tmp_path_factory):
    """Its artefact's folder for a target and options. Read-only."""
    made = {}

    def of(target, *options):
        need("arm-none-eabi-gcc", "qemu-system-arm")
        if (target, options) not in made:
            made[target, options] = tmp_path_factory.mktemp("out")
            assert edgeline_export.cli.main(argv_of(tiny_file, made[target, options], target, *options)) == 0
        (folder,) = made[target, options].iterdir()
        return folder

    return of
