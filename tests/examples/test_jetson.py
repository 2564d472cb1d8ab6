"""examples/jetson, as far as a machine that is no Jetson can tell: what it refuses, and what is not about TensorRT."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edgeline.tensorrt.install import is_jetson
from tests.examples.conftest import EXAMPLES

FOLDER = EXAMPLES / "jetson"

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="the example is for Linux")


def script(*arguments):
    return subprocess.run([FOLDER / "jetson.sh", *arguments], capture_output=True, text=True)


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "edgeline-0-py3-none-any.whl"
    path.touch()
    return path


@pytest.mark.skipif(is_jetson(), reason="this is a Jetson")
def test_another_machine_is_refused(wheel, exported):
    done = script(wheel, exported)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "jetson.sh: this is no Jetson: it has no /etc/nv_tegra_release\n"


def test_wrong_arguments_are_named(wheel, exported, tmp_path):
    for arguments, words in (
        ((), "usage: jetson.sh EDGELINE.whl ARTEFACT"),
        ((tmp_path / "none.whl", exported), "there is no wheel"),
        ((wheel, tmp_path), f"there is no artefact at {tmp_path}: export-model writes it"),
    ):
        done = script(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr


def test_the_page_and_the_script_name_the_same_packages():
    page, text = ((FOLDER / name).read_text() for name in ("README.md", "jetson.sh"))
    for version in (">=12.6,<13", ">=13,<14"):
        assert version in page
        assert f"cuda-bindings{version}" in text
    assert "NEVER RUN on a Jetson" in text
    assert "Never run on a Jetson" in page


def test_latency(exported, tmp_path):
    def run(artefact: Path):
        argv = [sys.executable, FOLDER / "latency.py", artefact, "--seconds", "0.05"]
        return subprocess.run(argv, capture_output=True, text=True)

    done = run(exported)
    assert done.returncode == 0, done.stderr
    assert " inferences of batch 1 on onnxruntime (cpu): p50 " in done.stdout
    done = run(tmp_path / "nothing")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no artefact at" in done.stderr
