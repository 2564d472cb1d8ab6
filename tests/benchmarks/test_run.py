"""A real run, as short as it can be: real workers, real engines, LeNet."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeline_bench.cli
from edgeline.artefact import open_artefact
from edgeline.errors import EdgelineError, InputError, ResourceError
from edgeline_bench import plots, points, procfs
from edgeline_bench.points import Point, PointOptions
from edgeline_bench.report import read_report
from edgeline_bench.worker_handle import WorkerHandle
from tests.conftest import one_line

MAIN = edgeline_bench.cli.main
SHORT = ("--rounds", 3, "--seconds", 0.06)
ONE_ROUND = ("--baseline", "none", "--batch", 1, "--rounds", 1, "--seconds", 0.02, "--no-roofline")


@pytest.fixture(autouse=True, scope="module")
def mark():
    """What tells this run's workers, their parents gone or not, from those of others on this machine."""
    os.environ["EDGELINE_TEST_RUN"] = f"run-{os.getpid()}"
    yield
    del os.environ["EDGELINE_TEST_RUN"]


def workers():
    """The worker processes that this test run started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            ours = f"EDGELINE_TEST_RUN=run-{os.getpid()}".encode() in (entry / "environ").read_bytes().split(b"\0")
            if ours and b"edgeline_bench.worker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def report_path(exported, weights_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("reports") / "a.json"
    argv = [exported, "--weights", weights_folder, "--out", path, "--batch", "1,4", *SHORT]
    assert MAIN([str(arg) for arg in argv]) == 0
    return path


def test_the_report_says_what_schemas_asks_for(report_path, exported):
    report = read_report(report_path)
    source_accuracy = json.loads((exported / "manifest.json").read_text())["source"]["accuracy"]
    assert {"schema_version", "valid", "invalid_reasons", "created", "protocol", "fingerprint", "reference_kernel",
            "roofline", "results", "samples_sha256"} <= report.keys()  # fmt: skip
    assert [(r["engine"], r["batch"]) for r in report["results"]] == [
        ("eager", 1), ("eager", 4), ("onnxruntime", 1), ("onnxruntime", 4),
    ]  # fmt: skip
    for result in report["results"]:
        assert {"engine", "artefact", "graph_sha256", "precision", "scenario", "batch", "latency_s", "throughput_per_s",
                "round_medians_s", "samples_s", "cold_start_s", "memory_bytes", "artefact_bytes", "accuracy", "layers",
                "speed_of_light_s"} <= result.keys()  # fmt: skip
        assert len(result["round_medians_s"]) == 3
        assert result["latency_s"]["p50"] == sorted(result["samples_s"])[(len(result["samples_s"]) + 1) // 2 - 1]
        start, memory = result["cold_start_s"], result["memory_bytes"]
        assert start["total"] == pytest.approx(start["import"] + start["load"] + start["first"])
        assert memory["weights"] == 4 * 61_706
        stages = [memory[stage] for stage in ("interpreter", "import", "load", "first", "peak")]
        assert 1e6 < stages[0] < stages[1] <= stages[2] <= stages[3] <= stages[4]
        for stage in memory["stages"].values():
            assert stage["anonymous"] + stage["file_backed"] <= stage["resident"] * 1.01 <= stage["peak"] * 1.02
        assert result["accuracy"] > 0.5
        assert result["accuracy_reference"] == source_accuracy
    assert len(report["reference_kernel"]["round_medians_s"]) == 3
    assert report["valid"] is False
    assert "3 rounds, intervals need at least 20" in report["invalid_reasons"][0]


def test_what_eager_costs_is_seen(report_path):
    """Not a race: torch takes a second and hundreds of megabytes where ONNX Runtime takes a fraction."""
    eager, _, engine, _ = read_report(report_path)["results"]
    assert eager["memory_bytes"]["peak"] > 3 * engine["memory_bytes"]["peak"]
    assert engine["memory_bytes"]["peak"] > 2e7


def test_markdown_and_page_stand_beside_it(report_path):
    text = report_path.with_suffix(".md").read_text()
    assert text.startswith("# Edgeline benchmark\n")
    titles = re.findall("^## (.*)$", text, re.M)
    assert titles == ["Latency and throughput", "Start, memory and size", "Memory and energy", "Speed of light",
                      "Layers of lenet-mnist-10k at batch 4", "Ceilings of this machine",
                      "Machine and protocol"]  # fmt: skip
    assert "**What dominates the memory of lenet-mnist-10k?** fc1 holds 78%" in text
    assert report_path.with_suffix(".html").stat().st_size > 1_000_000


def test_an_invalid_report_is_announced(exported, command, tmp_path):
    core = str(min(os.sched_getaffinity(0)))
    argv = (*ONE_ROUND, "--out", tmp_path / "r.json")
    code, out, err = command(MAIN, exported, *argv, "--threads", 2, "--pin", core)
    assert code == 0
    assert "this report will be INVALID: 1 round, intervals need at least 20" in err
    assert "this report will be INVALID: 2 threads on 1 core: lower --threads, or --pin more cores" in err
    assert "INVALID: 1 round, intervals need at least 20: leave --rounds out; 2 threads on 1 core" in out


def test_a_folder_of_traps_is_not_imported_from(exported, command, tmp_path, monkeypatch):
    """`python -m` would put the current folder first: a numpy.py that lies there must not run."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('trapped')")
    monkeypatch.chdir(tmp_path)
    argv = (*ONE_ROUND, "--out", tmp_path / "r.json")
    code, _, err = command(MAIN, exported, *argv)
    assert code == 0, err


def test_a_manifest_does_not_decide_what_code_runs(artefact, command, tmp_path, edit_manifest):
    edit_manifest(artefact, source={"kind": "factory", "factory": "os:abort", "weights_sha256": None})
    argv = ("--batch", 1, "--rounds", 1, "--seconds", 0.02, "--no-roofline", "--out", tmp_path / "r.json")
    code, _, err = command(MAIN, artefact, *argv)
    assert code == 0
    assert "was made from a factory: no eager baseline (name it with --factory package.module:factory)" in err
    assert [r["engine"] for r in read_report(tmp_path / "r.json")["results"]] == ["onnxruntime"]


def test_a_baseline_of_another_network_is_refused(artefact, command, tmp_path, edit_manifest):
    edit_manifest(artefact, source={"kind": "factory", "factory": "any:thing", "weights_sha256": None})
    argv = ("--batch", 2, "--rounds", 1, "--seconds", 0.02, "--no-roofline", "--out", tmp_path / "r.json")
    code, _, err = command(MAIN, artefact, *argv, "--factory", "edgeline_train.models.lenet:LeNet")
    assert code == 2
    assert "this is not the network that lenet-mnist-10k.fp32.onnx holds: its logits differ by" in one_line(err)
    assert not (tmp_path / "r.json").exists()


def test_two_artefacts_share_the_baseline_of_their_weights(exported, weights_folder, command, tmp_path):
    second = shutil.copytree(exported, tmp_path / "second.fp32.onnx")
    argv = (
        "--weights",
        weights_folder,
        "--batch",
        1,
        "--rounds",
        1,
        "--seconds",
        0.02,
        "--no-roofline",
        "--out",
        tmp_path / "r.json",
    )
    code, out, _ = command(MAIN, exported, second, *argv)
    assert code == 0
    report = read_report(tmp_path / "r.json")
    assert [r["engine"] for r in report["results"]] == ["eager", "onnxruntime", "onnxruntime"]
    ratios = [line.split()[-1] for line in out.splitlines() if line.startswith("onnxruntime")][:2]
    assert all(ratio.endswith("x") for ratio in ratios)
    views = plots.all_plots(report)["start"].views
    assert len({bar for trace in views[0].figure.data for bar in trace.y}) == 3


def test_the_same_network_from_other_weights_is_another_row(exported, weights_folder, tmp_path):
    first = open_artefact(exported)
    second = replace(
        first, manifest=replace(first.manifest, source={**first.manifest.source, "weights_sha256": "0" * 64})
    )
    other = tmp_path / "lenet-mnist-10k.safetensors"
    other.write_bytes(b"other")
    options = PointOptions((1,), 1, (), weights_folder, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(points, "_weights_of", lambda artefact, _given: other)
        names = [point.name for point in points.baseline_points([first, second, first], options)]
    assert names == ["lenet-mnist-10k", "lenet-mnist-10k@00000000"]


def test_no_worker_is_left(report_path):
    assert workers() == []


@pytest.mark.parametrize("baseline", ["eager", "none"])
def test_json_and_baseline(exported, weights_folder, tmp_path, command, baseline):
    code, out, _ = command(
        MAIN, exported, "--weights", weights_folder, "--out", tmp_path / "r.json", "--batch", 2, "--baseline", baseline,
        "--json", "--rounds", 1, "--seconds", 0.02, "--no-roofline", "--pin", "any",
    )  # fmt: skip
    assert code == 0
    report = json.loads(out)
    assert {r["engine"] for r in report["results"]} == {"onnxruntime"} | ({"eager"} if baseline == "eager" else set())
    assert "samples_s" not in report["results"][0]


def test_reports_do_not_overwrite_each_other_by_default(exported, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command(
        MAIN, exported, "--baseline", "none", "--batch", 1, "--rounds", 1, "--seconds", 0.02, "--no-roofline"
    )
    assert code == 0
    (path,) = (tmp_path / "reports").glob("*.json")
    assert path.name.startswith("lenet-mnist-10k.fp32.onnx-2")
    assert f"report: reports/{path.name}" in out


# --- workers ----------------------------------------------------------------------------------------------------------


def reference(**changes):
    return Point(**{"engine": "reference", "name": "kernel", "host": "reference", "precision": "fp32", "batch": 1,
                    "threads": 1, "pinned": (), **changes})  # fmt: skip


def state_of(pid):
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rpartition(")")[2].split()[0]


def test_a_worker_off_turn_is_stopped():
    with WorkerHandle(reference()) as worker:
        time.sleep(0.05)
        assert state_of(worker.pid) == "T"
        answer = worker.ask("turn", slot_s=0.02, seed=0, rate_per_s=None)
        assert answer["samples_s"]
        time.sleep(0.05)
        assert state_of(worker.pid) == "T"
        used = procfs.cpu_seconds_of(worker.pid)
        time.sleep(0.1)
        assert procfs.cpu_seconds_of(worker.pid) == used
    assert workers() == []


def test_a_worker_is_pinned():
    core = min(os.sched_getaffinity(0))
    with WorkerHandle(reference(pinned=(core,))) as worker:
        assert os.sched_getaffinity(worker.pid) == {core}


def test_a_worker_that_is_killed_is_named():
    with WorkerHandle(reference()) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(ResourceError, match="the worker of reference kernel batch 1 ended .*killed by SIGKILL"):
            worker.ask("turn", slot_s=0.02, seed=0, rate_per_s=None)


def test_an_error_in_a_worker_arrives_as_what_it_is(tmp_path):
    point = reference(host="session", engine="onnxruntime", folder=str(tmp_path))
    with pytest.raises(EdgelineError, match="is not an artefact: it has no manifest") as caught:
        WorkerHandle(point)
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="unknown engine host 'nothing'"):
        WorkerHandle(reference(host="nothing"))
    assert workers() == []


def started_benchmark(artefact, folder):
    """A benchmark of its own process that has reached its first round."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeline_bench", str(artefact), "--baseline", "none", "--out", "r.json"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and so would what it starts: this suite may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("round 1/"):
            break
    return process


def test_ctrl_c_ends_every_worker(exported, tmp_path):
    process = started_benchmark(exported, tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip().endswith("benchmark-model: interrupted")
    assert workers() == []
    assert list(tmp_path.iterdir()) == []


def test_killing_the_parent_ends_every_worker(exported, tmp_path):
    process = started_benchmark(exported, tmp_path)
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers() == []


def test_memory_of_a_process_is_its_own():
    """VmHWM and not ru_maxrss, which a child inherits from its parent."""
    ballast = np.ones(40_000_000)  # 320 MB in the parent
    with WorkerHandle(reference()) as worker:
        memory = procfs.memory_of(worker.pid)
    assert memory is not None
    assert memory.peak < ballast.nbytes / 2
    assert memory.anonymous + memory.file_backed <= memory.resident * 1.01


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere"], "there is no artefact at nowhere; export-model writes one"),
        (
            ["ARTEFACT"],
            "the eager baseline needs the weights that lenet-mnist-10k.fp32.onnx was exported from, and weights",
        ),
        (["ARTEFACT", "--rounds", "0"], "must be above 0"),
        (["ARTEFACT", "--batch", "0"], "expected batch sizes like 1,8,64, got '0'"),
        (["ARTEFACT", "--pin", "x"], "expected cores like 0,1, or 'any', got 'x'"),
        (["ARTEFACT", "--seconds", "inf"], "expected seconds above 0 and below a day, got 'inf'"),
        (["ARTEFACT", "--pin", "999"], "--pin: core 999 is not usable here"),
        (["ARTEFACT", "--out", "report.txt"], "--out names the JSON report"),
        (["ARTEFACT", "COPY"], "two of the artefacts are named lenet-mnist-10k.fp32.onnx"),
        ([], "required: ARTEFACT"),
    ],
)
def test_wrong_calls_are_one_line_and_leave_nothing(
    exported, command, tmp_path, tmp_path_factory, monkeypatch, argv, words
):
    monkeypatch.chdir(tmp_path)
    places = {"ARTEFACT": exported}
    if "COPY" in argv:
        places["COPY"] = shutil.copytree(exported, tmp_path_factory.mktemp("copy") / exported.name)
    code, out, err = command(MAIN, *(places.get(arg, arg) for arg in argv))
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_found_before_measuring(exported, command, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = command(MAIN, exported, "--baseline", "none", "--out", tmp_path / "file" / "r.json")
    assert (code, out) == (4, "")
    assert "the report cannot be written" in one_line(err)
    assert "round" not in err


def test_a_disk_that_is_full_for_the_page_keeps_the_report(exported, command, tmp_path, monkeypatch):
    real = os.fsync
    written = []

    def fills_up(descriptor):
        if written:
            raise OSError(28, os.strerror(28))
        written.append(descriptor)
        real(descriptor)

    monkeypatch.setattr("edgeline.files.os.fsync", fills_up)
    argv = (*ONE_ROUND, "--out", tmp_path / "r.json")
    code, _, err = command(MAIN, exported, *argv)
    assert code == 4
    assert "r.json is written and whole, but r.md could not be: No space left on device" in one_line(err)
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    assert read_report(tmp_path / "r.json")["results"]
