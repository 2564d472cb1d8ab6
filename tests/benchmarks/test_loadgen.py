"""LoadGen's log read, and LoadGen itself, shortened, on LeNet's artefact."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import edgeline
from edgeline.errors import InputError, MissingCapabilityError, ResourceError
from edgeline_bench.scenarios import loadgen
from edgeline_bench.scenarios.library import samples_from_artefact
from edgeline_bench.scenarios.loadgen import Request, record_from_log, run_loadgen
from edgeline_bench.scenarios.loadgen_log import read_log

try:
    import mlperf_loadgen
except ImportError:
    mlperf_loadgen = None

needs_loadgen = pytest.mark.skipif(mlperf_loadgen is None, reason="needs mlcommons-loadgen: pip install '.[mlperf]'")

# --- the log ----------------------------------------------------------------------------------------------------------

RULES = SimpleNamespace(min_duration_ms=600_000, min_query_count=100, server_target_latency_ns=10_000_000)
SINGLE = {
    "loadgen_version": "6.0.17 @ d6147c7eb7", "effective_min_duration_ms": 500, "effective_min_query_count": 100,
    "effective_min_sample_count": 100, "effective_target_latency_ns": 0,
    "result_validity": "VALID", "early_stopping_met": True, "result_query_count": 382,
    "early_stopping_latency_ss": 3_179_796, "early_stopping_latency_ms": 0,
    "result_50.00_percentile_latency_ns": 1_002_107, "result_90.00_percentile_latency_ns": 1_005_721,
    "result_95.00_percentile_latency_ns": 4_387_537, "result_99.00_percentile_latency_ns": 8_977_935,
    "result_99.90_percentile_latency_ns": 8_992_858,
}  # fmt: skip


def write_log(folder, values):
    lines = [f":::MLLOG {json.dumps({'key': key, 'value': value, 'metadata': {}})}" for key, value in values.items()]
    (folder / "mlperf_log_detail.txt").write_text("\n".join(["not a line of it", ":::MLLOG {torn", *lines]) + "\n")


def record(folder, values, scenario="single-stream", rules=RULES, library=2_000):
    write_log(folder, values)
    return record_from_log(read_log(folder), Request(scenario, folder), rules, library)


def test_what_loadgen_says_becomes_a_record(tmp_path):
    found = record(tmp_path, SINGLE)
    assert (found["valid"], found["invalid_reason"], found["queries"]) == (True, None, 382)
    assert found["loadgen_version"] == "6.0.17 @ d6147c7eb7"
    assert found["metric"] == {"p90_s": 0.001005721, "early_stopping_p90_s": 0.003179796}
    assert found["latency_s"] == {
        "p50": 0.001002107, "p90": 0.001005721, "p95": 0.004387537, "p99": None, "p99.9": None,  # 382 carry p95 only
    }  # fmt: skip
    assert found["settings"]["min_duration_ms"] == 500
    assert found["log"] == str(tmp_path)
    assert json.loads(json.dumps(found)) == found


def test_a_shortened_run_is_not_compliant_and_says_by_what(tmp_path):
    found = record(tmp_path, {**SINGLE, "effective_min_query_count": 10}, library=16)
    assert found["compliant"] is False
    assert found["why_not_compliant"] == [
        "min_duration 0.5 s, the rule is 600 s",
        "min_query_count 10, the rule is 100",
        "16 samples at hand, MLPerf's image classification keeps 1,024",
    ]


def test_a_run_by_the_rules_is_compliant(tmp_path):
    found = record(tmp_path, {**SINGLE, "effective_min_duration_ms": 600_000})
    assert (found["compliant"], found["why_not_compliant"]) == (True, [])


def test_offline_must_run_the_whole_library(tmp_path):
    values = {**SINGLE, "effective_min_duration_ms": 600_000, "result_samples_per_second": 46_372.5,
              "effective_min_query_count": 1, "effective_min_sample_count": 1_999}  # fmt: skip
    found = record(tmp_path, values, "offline")
    assert found["why_not_compliant"] == ["min_sample_count 1999, the rule is 2000"]
    assert (found["metric"], found["latency_s"]) == ({"throughput_per_s": 46_372.5}, {})


def test_why_it_is_invalid_is_kept(tmp_path):
    values = {**SINGLE, "result_validity": "INVALID", "result_invalid_reason": "Reduce target QPS to improve latency. ",
              "early_stopping_result": " * Run unsuccessful.  * Processed 235 queries.",
              "result_completed_samples_per_sec": 466.257, "result_scheduled_samples_per_sec": 467.845,
              "effective_target_latency_ns": 10_000_000, "result_query_count": 700}  # fmt: skip
    found = record(tmp_path, values, "server")
    assert found["valid"] is False
    assert found["invalid_reason"] == ("Reduce target QPS to improve latency. Run unsuccessful. Processed 235 queries.")
    assert found["metric"] == {
        "completed_per_s": 466.257, "scheduled_per_s": 467.845, "latency_bound_s": 0.01, "p99_s": 0.008977935,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"),
    [(None, "cannot be read"), ({"loadgen_version": "6"}, "has no result_validity: the run did not")],
)
def test_a_run_that_did_not_end_is_no_result(tmp_path, values, words):
    if values is not None:
        write_log(tmp_path, values)
    with pytest.raises(ResourceError, match=words):
        read_log(tmp_path)


def test_without_loadgen_the_error_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingCapabilityError, match=r"pip install 'edgeline\[mlperf\]'"):
        loadgen.import_loadgen()


# --- the samples ------------------------------------------------------------------------------------------------------


def test_the_samples_are_the_test_split(exported):
    samples = samples_from_artefact(exported)
    assert (samples.shape, samples.dtype) == ((1_024, 1, 28, 28), np.float32)
    assert len(np.unique(samples.reshape(1_024, -1), axis=0)) > 1_000


def test_without_a_data_set_the_samples_are_those_of_the_self_test(artefact, edit_manifest):
    edit_manifest(artefact, dataset=None)
    with np.load(artefact / "selftest.npz") as archive:
        assert np.array_equal(samples_from_artefact(artefact), archive["inputs"])


# --- LoadGen itself ---------------------------------------------------------------------------------------------------


class Recorder:
    """Session.infer_all, and what it was called with."""

    def __init__(self, infer):
        self.infer, self.sizes = infer, []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        return self.infer(batch)


@pytest.fixture(scope="module")
def session(exported):
    with edgeline.load(exported, "cpu", 1) as opened:
        yield opened


@needs_loadgen
@pytest.mark.parametrize(
    ("scenario", "sizes"), [("single-stream", {1}), ("multi-stream", {8}), ("server", {1}), ("offline", {64})]
)
def test_loadgen_drives_the_session(session, exported, tmp_path, scenario, sizes, monkeypatch):
    (tmp_path / "audit.config").write_text("*.*.min_duration = 1\n*.*.min_query_count = 1\n")
    monkeypatch.chdir(tmp_path)  # LoadGen would take this file for its own
    infer = Recorder(session.infer_all)
    request = Request(scenario, tmp_path / "log", batch=64, min_duration_s=0.5, rate_per_s=200.0, latency_bound_s=0.2)
    found = run_loadgen(infer, samples_from_artefact(exported), request)
    assert found["scenario"] == scenario
    assert found["compliant"] is False
    departures = ["min_duration 0.5 s, the rule is 600 s"]
    if scenario == "server":
        departures.append("latency bound 0.2 s, the rule is 0.01 s")
    assert found["why_not_compliant"] == departures
    assert found["settings"]["min_duration_ms"] == 500
    assert found["settings"]["schedule_rng_seed"] > 0  # from the rules; without them it is 0
    assert set(infer.sizes) <= sizes | {size for size in infer.sizes if scenario == "offline" and size < 64}
    assert {path.name for path in (tmp_path / "log").iterdir()} >= {"mlperf_log_summary.txt", "mlperf_log_detail.txt"}
    summary = (tmp_path / "log" / "mlperf_log_summary.txt").read_text()
    assert f"Result is : {'VALID' if found['valid'] else 'INVALID'}" in summary
    assert all(value is None or value > 0 for value in found["metric"].values())
    if scenario == "server":
        assert (found["metric"]["latency_bound_s"], found["settings"]["target_qps"]) == (0.2, 200)
    if scenario == "offline":
        assert found["settings"]["min_sample_count"] >= 1_024


@needs_loadgen
def test_responses_are_the_logits_of_the_samples_asked_for(session, exported):
    """What LoadGen is handed: read back from the addresses, while they are promised to be good."""
    samples = samples_from_artefact(exported, 32)
    expected = session.infer_all(samples)
    seen = {}

    class Spy:
        QuerySampleResponse = mlperf_loadgen.QuerySampleResponse

        @staticmethod
        def QuerySamplesComplete(responses):  # noqa: N802 - LoadGen's name
            import ctypes

            for response in responses:
                seen[response.id] = np.frombuffer(ctypes.string_at(response.data, response.size), np.float32)

    issue = loadgen._issue(Spy, session.infer_all, samples, 8)
    issue(list(range(100, 120)), [*range(31, 21, -1), *range(10)])
    assert list(seen) == list(range(100, 120))
    for id_, index in zip(seen, [*range(31, 21, -1), *range(10)], strict=True):
        assert np.allclose(seen[id_], expected[index], atol=1e-5)


@needs_loadgen
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenario": "burst"}, "LoadGen has no scenario 'burst'; it has single-stream"),
        ({"scenario": "server"}, "needs a rate above 0, got None: --server-qps"),
    ],
)
def test_requests_that_no_scenario_takes(tmp_path, changes, words):
    request = Request(**{"scenario": "single-stream", "log": tmp_path, **changes})
    with pytest.raises(InputError, match=words):
        run_loadgen(lambda batch: np.zeros((len(batch), 10), np.float32), np.zeros((16, 4), np.float32), request)


@needs_loadgen
def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "log").write_text("in the way")
    with pytest.raises(ResourceError, match="LoadGen's log cannot be written to"):
        run_loadgen(
            lambda batch: np.zeros((len(batch), 10), np.float32), np.zeros((16, 4), np.float32),
            Request("single-stream", tmp_path / "log", min_duration_s=0.1),
        )  # fmt: skip


FAILING = """
import sys, time, numpy as np
from pathlib import Path
from edgeline.errors import InputError
from edgeline_bench.scenarios.loadgen import Request, run_loadgen
calls = []
def infer(batch):
    calls.append(None)
    time.sleep(1e-3)  # LoadGen makes the queries of 600 s beforehand
    if len(calls) > 2000: raise InputError("it broke")
    return np.zeros((len(batch), 10), np.float32)
try:
    run_loadgen(infer, np.zeros((16, 4), np.float32), Request("single-stream", Path(sys.argv[1])))
except InputError as error:
    print("raised:", error, flush=True)
"""


@needs_loadgen
def test_an_engine_that_fails_ends_the_run_at_once(tmp_path):
    """Not after 600 s. In a process of its own: LoadGen raises what the engine raised, or ends the process."""
    answer = subprocess.run(
        [sys.executable, "-c", FAILING, tmp_path], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "it broke" in answer.stdout + answer.stderr
