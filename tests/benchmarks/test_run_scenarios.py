"""Real runs of the scenarios, the layers and LoadGen, as short as they can be."""

import importlib.util
import json
import statistics

import pytest

import edgeline_bench.cli
from edgeline_bench.report import read_report
from tests.conftest import one_line

MAIN = edgeline_bench.cli.main
SHORT = ("--baseline", "none", "--rounds", 2)


@pytest.fixture(scope="module")
def instrument(exported, weights_folder, tmp_path_factory):
    """LeNet and eager with ceilings and layers."""
    path = tmp_path_factory.mktemp("reports") / "a.json"
    argv = [exported, "--weights", weights_folder, "--rounds", 2, "--seconds", 0.1, "--batch", "1,64", "--out", path]
    assert MAIN([str(arg) for arg in argv]) == 0
    return read_report(path)


def test_every_node_of_every_engine_is_in_one_layer(instrument):
    for result in instrument["results"]:
        nodes = [node for layer in result["layers"] for node in layer["nodes"]]
        assert len(nodes) == len(set(nodes)) > 0
        assert result["layer_profile"]["unmatched"] == result["layer_profile"]["uncovered"] == []
        # By hand: 416,520 multiply-accumulates in Conv and Gemm.
        products = [layer for layer in result["layers"] if {"Conv", "Gemm"} & set(layer["operators"])]
        assert [layer["label"] for layer in products] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
        assert sum(layer["flops"] for layer in products) >= 2 * 416_520 * result["batch"]
        assert sum(layer["share"] for layer in result["layers"]) == pytest.approx(1)
        latency_s = statistics.median(result["round_medians_s"])
        assert sum(layer["time_s"] for layer in result["layers"]) == pytest.approx(latency_s)


def test_all_of_the_largest_batch_lie_under_their_roof(instrument):
    for result in instrument["results"]:
        if result["batch"] == 64:
            for layer in result["layers"]:
                assert layer["placed"]
                assert layer["exempt"] or layer["efficiency"] <= 1.05, layer["name"]


def test_the_roofline_is_that_of_this_machine(instrument):
    roofline = instrument["roofline"]
    assert roofline["method"] in ("c-probe", "numpy")
    assert {"fp32", "DRAM"} <= roofline["stability"].keys()
    assert roofline["ceilings"]["flops"]["fp32"]["threads_1"] > 1e9
    questions = [answer["question"] for answer in instrument["words"]]
    assert questions[0] == "What dominates the memory of lenet-mnist-10k?"
    assert len(questions) == 6


def test_speed_of_light_is_below_every_time(instrument):
    for result in instrument["results"]:
        assert 0 < result["speed_of_light_s"]["warm"] <= result["speed_of_light_s"]["cold"]
        assert result["speed_of_light_s"]["warm"] < result["latency_s"]["p50"]


def test_all_scenarios(exported, command, tmp_path):
    argv = ("--seconds", 0.1, "--batch", "1,4", "--scenario", "all", "--server-qps", 200, "--no-roofline")
    code, out, err = command(MAIN, exported, *SHORT, *argv, "--out", tmp_path / "r.json")
    assert code == 0, err
    results = read_report(tmp_path / "r.json")["results"]
    assert [(r["scenario"], r["batch"]) for r in results] == [
        ("single-stream", 1), ("single-stream", 4), ("multi-stream", 4), ("server", 1), ("offline", 1), ("offline", 4),
    ]  # fmt: skip
    server = results[3]
    assert server["server"] == {"rate_per_s": 200.0, "latency_bound_s": None, "given": True, "held": None}
    assert "200/s given" in out
    assert "p99 needs 662 queries" in out


@pytest.mark.slow
def test_the_servers_rate_is_searched_for(exported, command, tmp_path):
    """A probe lasts 100 latency bounds, and there are some ten of them."""
    argv = ("--seconds", 0.1, "--scenario", "server", "--latency-bound", 0.05, "--no-roofline")
    code, _, err = command(MAIN, exported, *SHORT, *argv, "--out", tmp_path / "r.json")
    assert code == 0, err
    (result,) = read_report(tmp_path / "r.json")["results"]
    found = result["server"]
    assert (found["given"], found["latency_bound_s"]) == (False, 0.05)
    assert 0 < found["rate_per_s"] < found["failed_per_s"]
    assert any(probe["held"] for probe in found["probes"])


def test_a_bound_that_no_rate_holds(exported, command, tmp_path):
    argv = ("--seconds", 0.1, "--scenario", "server", "--latency-bound", 1e-7, "--no-roofline")
    code, _, err = command(MAIN, exported, *SHORT, *argv, "--out", tmp_path / "r.json")
    assert code == 2
    assert "no rate was found: one call takes" in one_line(err)


def test_loadgen_drives_the_same_session(exported, command, tmp_path):
    if importlib.util.find_spec("mlperf_loadgen") is None:
        pytest.skip("LoadGen is not installed: pip install 'edgeline[mlperf]'")
    argv = ("--seconds", 0.1, "--batch", "1,4", "--scenario", "single-stream,multi-stream", "--mode", "mlperf",
            "--mlperf-seconds", 0.2, "--no-roofline", "--out", tmp_path / "r.json")  # fmt: skip
    code, out, err = command(MAIN, exported, *SHORT, *argv)
    assert code == 0, err
    report = read_report(tmp_path / "r.json")
    for result in report["results"]:
        record = result["mlperf"]
        if result["scenario"] == "single-stream" and result["batch"] != 1:
            assert record is None  # MLPerf's query of it has one sample
            continue
        assert (record["scenario"], record["compliant"]) == (result["scenario"], False)
        assert "min_duration 0.2 s, the rule is 600 s" in record["why_not_compliant"]
        log = tmp_path / "r.mlperf" / record["log"]
        assert "Scenario : " in (log / "mlperf_log_summary.txt").read_text()
    assert "NON-COMPLIANT" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--scenario", "bulk"], "unknown scenario 'bulk'; known: single-stream, multi-stream, server, offline, all"),
        (["--server-qps", "5"], "--server-qps is for --scenario server; leave it out, or add that"),
        (["--latency-bound", "0.1"], "--latency-bound is for --scenario server"),
        (["--mlperf-seconds", "2"], "--mlperf-seconds is for --mode mlperf"),
        (["--scenario", "server", "--server-qps", "-1"], "expected a number above 0, got '-1'"),
    ],
)
def test_options_that_would_be_ignored(exported, command, tmp_path, argv, words):
    code, out, err = command(MAIN, exported, "--baseline", "none", "--out", tmp_path / "r.json", *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)


def test_without_loadgen(exported, command, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("edgeline_bench.cli.find_spec", lambda name: None if name == "mlperf_loadgen" else real(name))
    code, out, err = command(MAIN, exported, "--baseline", "none", "--mode", "mlperf", "--out", tmp_path / "r.json")
    assert (code, out) == (3, "")
    assert "needs mlperf_loadgen: pip install 'edgeline[mlperf]'" in one_line(err)


def test_json_carries_the_words(exported, command, tmp_path):
    argv = ("--seconds", 0.05, "--batch", 1, "--no-roofline", "--json", "--out", tmp_path / "r.json")
    code, out, _ = command(MAIN, exported, *SHORT, *argv)
    assert code == 0
    assert json.loads(out)["words"] == []
