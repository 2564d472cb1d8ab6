"""docs/embedding.md: each of its console and Python blocks does what it shows, in its order, in one folder."""

import re
import shutil
from pathlib import Path

import pytest

import edgeline_train.cli
from tests.checks.readme_examples import BLOCK, run, steps
from tests.examples.conftest import EXAMPLES

GUIDE = EXAMPLES.parent / "docs" / "embedding.md"


@pytest.mark.slow
def test_its_commands_do_what_it_shows(tmp_path):
    for program in ("cc", "cmake", "ctest", "openssl", "arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(program) is None:
            packages = "gcc libc6-dev cmake openssl gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
            pytest.skip(f"{program} is not installed: apt-get install {packages}")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    argv = ["lenet-relu", "--epochs", "2", "--weights", str(tmp_path / "weights"), "--device", "cpu"]
    assert edgeline_train.cli.main(argv) == 0
    blocks = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    assert {kind for kind, _ in blocks} == {"console", "python"}
    for kind, text in blocks:
        if kind == "python":
            Path(tmp_path, "example.py").write_text(text, encoding="utf-8")
        for command, shown, code in steps(text) if kind == "console" else [("python example.py", [], 0)]:
            assert run(command, shown, code, str(tmp_path)) == [], command


def test_its_links_lead_somewhere():
    for page in (GUIDE, *EXAMPLES.glob("*/README.md")):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page}: {target}"
