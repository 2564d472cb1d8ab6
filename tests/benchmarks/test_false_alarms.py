"""The experiment on false alarms: what it counts, from reports made by hand; a real run is the experiment's own."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from edgeline_bench import slowdown
from edgeline_bench.compare import compare
from edgeline_bench.report import write_report
from tests.benchmarks.made import changed, made_report, rounds_scaled
from tests.conftest import one_line

PATH = Path(__file__).parents[2] / "benchmarks" / "experiments" / "false_alarms.py"
ARTEFACT = "lenet-mnist-10k.fp32.onnx"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("false_alarms", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pair(seed, factor=1.0, rows=None):
    first, second = made_report(seed), rounds_scaled(made_report(seed + 100), factor, rows)
    return first, second, compare(first, second)


def test_alarms_are_counted_by_comparison_and_by_row(experiment):
    """Of three pairs one says slower in two rows."""
    pairs = [pair(0), pair(1, 1.3, rows=(0, 1)), pair(2)]
    text = experiment.text_of(pairs, ARTEFACT, 0.0, "--pairs 3")
    assert "**1 of 3 comparisons said faster or slower in any row** (2 of 12 rows)." in text
    assert "In 3 of the 3 pairs both reports were VALID" in text
    assert "| settings | --pairs 3 |" in text
    assert "| cpu | A CPU, 2 of 2 cores usable |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| eager | lenet-mnist-10k | 1 |")]
    assert row.split(" | ")[-2:] == ["0", "1 |"]


def test_a_slowdown_is_counted_in_the_slowed_rows_alone(experiment):
    """Both pairs are slowed by 30 %, one of them in one of the two rows; in one an eager row moved as well."""
    pairs = [pair(0, 1.3, rows=(2, 3)), pair(1, 1.3, rows=(0, 2))]
    text = experiment.text_of(pairs, ARTEFACT, 0.3, "--inject 30%")
    assert "**3 of 4 slowed rows were called slower; 2 of 2 comparisons would end" in text
    assert "Of the rows that were not slowed, 1 of 4 were called faster or slower." in text


def fake_benchmark(monkeypatch, experiment, calls):
    """Stands for benchmark-model: writes a report with the settings that it was called with."""

    def run(argv, **_):
        given = [part for part in argv[4:] if part != "--no-roofline"]
        options = dict(zip(given[::2], given[1::2], strict=True))
        calls.append(options)
        report = made_report(len(calls), rounds=int(options["--rounds"]))
        slot_s = float(options["--seconds"]) / int(options["--rounds"])
        report = changed(report, "protocol", "slot_s", value=slot_s)
        write_report(
            Path(options["--out"]), changed(report, "protocol", "slowdown", value=float(options["--slowdown"]))
        )
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(experiment.subprocess, "run", run)


def test_it_goes_on_where_it_stopped(experiment, monkeypatch, command, tmp_path):
    calls = []
    fake_benchmark(monkeypatch, experiment, calls)
    argv = ("--folder", tmp_path / "reports", "--out", tmp_path / "out.md", "--inject", "10%")
    assert command(experiment.main, "--pairs", 1, *argv)[0] == 0
    assert [call["--slowdown"] for call in calls] == ["0.0", "0.1"]
    assert command(experiment.main, "--pairs", 2, *argv)[0] == 0
    assert len(calls) == 4
    assert "of 2 comparisons would end" in (tmp_path / "out.md").read_text()
    assert str(tmp_path) not in (tmp_path / "out.md").read_text()


def test_reports_of_other_settings_are_not_mixed_in(experiment, monkeypatch, command, tmp_path):
    fake_benchmark(monkeypatch, experiment, [])
    argv = ("--pairs", 1, "--folder", tmp_path / "reports", "--out", tmp_path / "out.md")
    assert command(experiment.main, *argv)[0] == 0
    code, _, err = command(experiment.main, *argv, "--seconds", 4)
    assert code == 2
    assert "was measured with other settings" in one_line(err.splitlines()[-1] + "\n")


def test_a_failed_run_is_told(experiment, monkeypatch, command, tmp_path):
    monkeypatch.setattr(
        experiment.subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 3, "", "no engine here\n")
    )
    code, _, err = command(experiment.main, "--folder", tmp_path, "--out", tmp_path / "out.md")
    assert code == 4
    assert err.endswith("benchmark-model ended with 3: no engine here\n")


@pytest.mark.parametrize("argv", [("--pairs", 0), ("--rounds", 19), ("--inject", "much")])
def test_wrong_calls(experiment, command, tmp_path, argv):
    assert command(experiment.main, "--out", tmp_path / "out.md", *argv)[0] == 2


def test_a_slowed_call_takes_its_share_longer(monkeypatch):
    """On a clock that the test moves: the call takes 1 ms, each look at the clock 1 us."""
    now = [0]

    def clock():
        now[0] += 1_000
        return now[0]

    def call():
        now[0] += 1_000_000
        return "output"

    monkeypatch.setattr(slowdown.time, "perf_counter_ns", clock)
    assert slowdown.slowed(call, 0.10)() == "output"
    assert now[0] == pytest.approx(1_100_000, abs=5_000)


@pytest.mark.slow
def test_a_report_of_a_slowed_run_says_so(artefact, command, tmp_path):
    import edgeline_bench.cli

    argv = (artefact, "--baseline", "none", "--batch", 1, "--rounds", 1, "--seconds", 0.02, "--slowdown", "10%")
    assert command(edgeline_bench.cli.main, *argv, "--out", tmp_path / "r.json")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["protocol"]["slowdown"] == 0.1
