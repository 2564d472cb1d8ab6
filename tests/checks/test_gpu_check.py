"""The report of `make gpu-check`: what it says of each way in which a test can end, and what a crash leaves of it."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import os, signal
import pytest

@pytest.fixture
def leaving():
    yield
    raise RuntimeError("what was held was not given back")

@pytest.fixture
def arriving():
    raise RuntimeError("nothing to work with")

def test_right():
    pass

def test_wrong():
    pytest.fail("one | two\\n" + "x" * 1000 + " to the end")

def test_absent():
    pytest.skip("there is none here")

def test_leaves(leaving):
    pass

def test_wrong_and_leaves(leaving):
    assert 1 == 2

def test_does_not_arrive(arriving):
    pass
"""
RUN = """
import sys
from pathlib import Path
import pytest
from tests.checks.gpu_check import Report
report = Report(Path(sys.argv[2]), ["# Head"])
raise SystemExit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]], plugins=[report]))
"""


@pytest.fixture
def check(tmp_path):
    """Run tests with the report as a plugin: (exit code, the rows as name -> (outcome, why), the report's text)."""

    def run(tests):
        program, path = tmp_path / "test_it.py", tmp_path / "reports" / "r.md"
        program.write_text(textwrap.dedent(tests))
        command = [sys.executable, "-c", RUN, str(program), str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
        text = path.read_text()
        cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
        return done.returncode, {cell[0]: (cell[1], " | ".join(cell[2:])) for cell in cells}, text

    return run


def test_each_way_in_which_a_test_can_end(check):
    code, rows, text = check(TESTS)
    assert code == 1
    assert rows == {
        "test_right": ("passed", ""),
        "test_wrong": ("failed", "Failed: one / two"),
        "test_absent": ("skipped", "there is none here"),
        "test_leaves": ("failed", "in its teardown: RuntimeError: what was held was not given back"),
        "test_wrong_and_leaves": ("failed", "assert 1 == 2"),
        "test_does_not_arrive": ("failed", "in its setup: RuntimeError: nothing to work with"),
    }
    assert text.startswith("# Head\n\n1 passed, 4 failed, 1 skipped; pytest ended with 1.\n")
    assert " to the end" in text.partition("## test_wrong\n")[2]
    both = text.partition("## test_wrong_and_leaves\n")[2].partition("## ")[0]
    assert "assert 1 == 2" in both
    assert "in its teardown: RuntimeError: what was held" in both


DIES = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("tests", "step"),
    [
        (f"@pytest.fixture\ndef it():\n    {DIES}\n\ndef test_dies(it):\n    pass", "set-up"),
        (f"def test_dies():\n    {DIES}", "call"),
        (f"@pytest.fixture\ndef it():\n    yield\n    {DIES}\n\ndef test_dies(it):\n    pass", "teardown"),
    ],
)
def test_a_crash_leaves_a_report_that_names_its_test(tests, step, check):
    code, rows, text = check(TESTS + "\n" + tests + "\n\ndef test_never_reached():\n    pass\n")
    assert code < 0
    assert rows["test_dies"] == ("running", step)
    assert rows["test_right"] == ("passed", "")
    assert "test_never_reached" not in rows
    assert "**Not finished:" in text


def test_a_file_that_cannot_be_read(check):
    code, rows, _text = check("import not_there_at_all")
    assert code == 2
    ((outcome, why),) = rows.values()
    assert outcome == "failed"
    assert "ModuleNotFoundError" in why or "ImportError" in why
