"""Digits through the boards: the same logits, bit for bit, as the library of this machine gives in int8."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeline
import edgeline_export.cli
from edgeline.errors import InputError
from edgeline_export.c.boards import BOARDS
from edgeline_train.data import DATASETS, load_split
from tests.export.c.board_tools import need

PATH = Path(__file__).parents[2] / "benchmarks" / "experiments" / "devices" / "board_digits.py"
DIGITS = 64


@pytest.fixture(scope="module")
def run_digits():
    specification = importlib.util.spec_from_file_location("board_digits", PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # where dataclasses look their annotations up
    specification.loader.exec_module(module)
    return module.run_digits


@pytest.fixture(scope="module")
def exported(weights_folder, tmp_path_factory):
    """LeNet's artefact for a target and precision, exported once."""
    made = {}

    def of(target, precision):
        if (target, precision) not in made:
            out = made[target, precision] = tmp_path_factory.mktemp("out")
            argv = ["lenet", "--weights", str(weights_folder), "--format", "c", "--precision", precision]
            assert edgeline_export.cli.main([*argv, "--target", target, "--require-engine", "--out", str(out)]) == 0
        (folder,) = made[target, precision].iterdir()
        return folder

    return of


def outputs_here(folder, images):
    with edgeline.load(folder) as session:
        return session.infer_all(session.preprocess(images))


@pytest.fixture(scope="module")
def images():
    return np.asarray(load_split(DATASETS["mnist-10k"], "test").images)[:DIGITS]


@pytest.mark.cross
@pytest.mark.parametrize("target", BOARDS)
def test_int8_on_a_board_is_int8_here_bit_for_bit(run_digits, exported, images, target):
    need("arm-none-eabi-gcc", "qemu-system-arm")
    folder = exported(target, "int8")
    digits = run_digits(folder, target, images)
    expected = outputs_here(exported("native", "int8"), images)
    assert digits.outputs.view(np.uint32).tolist() == expected.view(np.uint32).tolist()
    record = json.loads((folder / "manifest.json").read_text())["compilation"]
    assert digits.instructions == record["network"]["instructions"]
    assert record["image"]["exact"]
    assert run_digits(folder, target, images[:1]).instructions == digits.instructions


@pytest.mark.cross
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m55"])
def test_floats_on_a_board_are_near_those_here(run_digits, exported, images, target):
    need("arm-none-eabi-gcc", "qemu-system-arm")
    found = run_digits(exported(target, "fp32"), target, images).outputs
    np.testing.assert_allclose(found, outputs_here(exported("native", "fp32"), images), rtol=0, atol=1e-4)


@pytest.mark.cross
def test_an_artefact_of_another_target(run_digits, exported, images):
    need("arm-none-eabi-gcc", "qemu-system-arm")
    with pytest.raises(InputError, match="is not for the board of cortex-m7: export it with --target cortex-m7"):
        run_digits(exported("cortex-m4", "int8"), "cortex-m7", images)
