"""The page in a real browser: its script runs, draws every plot, and asks nobody for anything."""

import re
import shutil
import subprocess

import pytest

from edgeline_bench.page import page_from_report
from tests.benchmarks.made import made_report

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=8000", "--enable-logging=stderr", "--v=0",
)  # fmt: skip


@pytest.mark.browser
def test_it_draws_all_plots_without_an_error(tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed (Debian: chromium)")
    page = tmp_path / "report.html"
    page.write_text(page_from_report(made_report()))
    argv = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert not re.findall(r"CONSOLE.*(?:Uncaught|Error|Refused|Failed)", result.stderr)
    drawn = re.sub(r"<script>.*?</script>", "", result.stdout, flags=re.S)
    plots = re.split(r'id="plot\d"', drawn)[1:]
    assert len(plots) == 5
    lines = [len(re.findall(r'class="trace scatter', plot)) for plot in plots]
    bars = [len(re.findall(r'class="trace bars', plot)) for plot in plots]
    assert lines == [4, 2, 0, 0, 5]
    assert bars == [0, 0, 3, 3, 0]
