"""examples/cortex-m: built as its README says for the three boards, and run."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgeline_export.cli
import edgeline_train.cli
from edgeline.emulator import run_image
from edgeline_export.c.boards import BOARDS
from edgeline_train.data import DATASETS, load_split
from tests.export.c.board_tools import need

EXAMPLE = Path(__file__).parents[2] / "examples" / "cortex-m"
TARGETS = ("cortex-m4", "cortex-m7", "cortex-m55")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """lenet-relu after two epochs: it knows most digits."""
    folder = tmp_path_factory.mktemp("weights")
    argv = ["lenet-relu", "--epochs", "2", "--weights", str(folder), "--device", "cpu"]
    assert edgeline_train.cli.main(argv) == 0
    return folder


def built(folder, weights, target, flash="96KB"):
    """Export and build; return what CMake said, and the image's place."""
    need("arm-none-eabi-gcc", "qemu-system-arm", "cmake")
    argv = ["lenet-relu", "--weights", str(weights), "--format", "c", "--precision", "int8", "--target", target]
    argv += ["--ram", "16KB", "--flash", flash, "--require-engine", "--out", str(folder / "out")]
    assert edgeline_export.cli.main(argv) == 0
    (artefact,) = (folder / "out").iterdir()
    options = (f"-DCMAKE_TOOLCHAIN_FILE={artefact / target}.cmake", f"-DARTEFACT={artefact}")
    subprocess.run(["cmake", "-S", EXAMPLE, "-B", folder / "build", *options], check=True, capture_output=True)
    done = subprocess.run(["cmake", "--build", folder / "build"], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, folder / "build" / "digits.elf"


@pytest.mark.cross
@pytest.mark.parametrize("target", TARGETS)
def test_the_example_on_its_boards(tmp_path, weights, target):
    code, text, image = built(tmp_path, weights, target)
    assert code == 0, text
    assert "warning" not in text
    done = run_image(image, BOARDS[target].machine)
    assert done.exit_code == 0, done.text
    assert [line for line in done.text.splitlines() if line.startswith("a ")] == [
        "a 7 is a 7",
        "a 2 is a 2",
        "a 1 is a 1",
    ]
    assert done.figures["passed"] > 0


@pytest.mark.cross
def test_without_an_artefact_it_says_which(tmp_path):
    need("cmake")
    done = subprocess.run(["cmake", "-S", EXAMPLE, "-B", tmp_path], capture_output=True, text=True)
    assert done.returncode != 0
    assert "-DARTEFACT= names no artefact for a board" in " ".join(done.stderr.split())


def test_the_readmes_table_is_the_table_of_boards():
    rows = re.findall(r"\| `(cortex-\w+)` \| `([\w-]+)` \|", (EXAMPLE / "README.md").read_text())
    assert dict(rows) == {target: BOARDS[target].machine for target in TARGETS}


def test_the_digits_are_what_they_are_said_to_be():
    """By the embedded test split: each is one of its images, with that label."""
    split = load_split(DATASETS["mnist-10k"], "test")
    known = {
        bytes(image.reshape(-1)): int(label)
        for image, label in zip(np.asarray(split.images), split.labels, strict=True)
    }
    text = (EXAMPLE / "digits.h").read_text()
    found = re.findall(r"\{(\d),\s+\{([\d,\s]+)\}\}", text)
    assert len(found) == 3
    for label, numbers in found:
        assert known[bytes(int(number) for number in re.findall(r"\d+", numbers))] == int(label)
