import gzip
import json
import re

import pytest

from edgeline.errors import InputError
from edgeline_bench import tables, validity
from edgeline_bench.health import MachineState
from edgeline_bench.points import Point, reference_point
from edgeline_bench.report import read_report
from edgeline_bench.rounds import Measured, Run
from tests.benchmarks.made import changed, made_report, with_roofline

# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_report_round_trips(written):
    report = made_report()
    assert read_report(written(report)) == report


def test_a_report_may_be_compressed(tmp_path):
    report, path = made_report(), tmp_path / "r.json.gz"
    path.write_bytes(gzip.compress(json.dumps(report).encode()))
    assert read_report(path) == report
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="is no report: it is not JSON, or not all of it is there"):
        read_report(path)
    path.write_bytes(b"plain")
    with pytest.raises(InputError, match="is no report"):
        read_report(path)


def test_edited_samples_are_refused(written):
    report = made_report()
    report["results"][0]["samples_s"][3] *= 0.5
    with pytest.raises(InputError, match="is damaged or was edited"):
        read_report(written(report))


@pytest.mark.parametrize(
    "path",
    [
        ("valid",),
        ("fingerprint", "cpu"),
        ("protocol", "threads"),
        ("results", 0, "throughput_per_s"),
        ("results", 0, "layers", 0, "attained_flops_per_s"),
        ("roofline", "ceilings", "bandwidth", "DRAM"),
    ],
)
def test_all_that_a_page_shows_is_under_a_checksum(written, path):
    report = with_roofline(made_report())
    edited = changed(report, *path, value="edited" if path[-1] == "cpu" else 7)
    edited["report_sha256"] = report["report_sha256"]
    assert read_report(written(report)) == report
    with pytest.raises(InputError, match="does not match its checksums; measure again"):
        read_report(written(edited))


@pytest.mark.parametrize("key", ["round", "p50"])
def test_edited_medians_are_refused(written, key):
    report = made_report()
    if key == "round":
        report["results"][1]["round_medians_s"][0] *= 0.5
    else:
        report["results"][1]["latency_s"]["p50"] *= 0.5
    with pytest.raises(InputError, match="its medians do not follow from its samples"):
        read_report(written(report))


def test_an_edited_reference_is_refused(written):
    report = made_report()
    report["reference_kernel"]["round_medians_s"] = [m * 0.5 for m in report["reference_kernel"]["round_medians_s"]]
    with pytest.raises(InputError, match="is damaged or was edited"):
        read_report(written(report))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "is no report"),
        (lambda text: "[]", "has no schema_version"),
        (
            lambda text: text.replace('"schema_version": 2', '"schema_version": 0'),
            "schema_version 0, this edgeline .* reads 1 to 2: run benchmark-model again",
        ),
        (lambda text: text.replace('"samples_s"', '"samples"'), "is damaged \\('samples_s'\\)"),
        (lambda text: text.replace('"fingerprint"', '"print"'), "is damaged"),
        (lambda text: text.replace('"latency_s": {', '"latency_s": null, "x": {'), "is damaged"),
        (lambda text: text.replace('"cpu"', '"gpu_"'), "is damaged \\('cpu'\\)"),
        (lambda text: json.dumps({**json.loads(text), "results": []}), "is damaged"),
    ],
)
def test_damaged_reports_are_refused(written, change, words):
    path = written(made_report())
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=words):
        read_report(path)


# --- validity and tables ----------------------------------------------------------------------------------------


STEADY = MachineState(3e9, 0)


def run_with(reference_medians, foreign_load=0.0, rows=(), after=STEADY):
    reference = Measured(reference_point(()), {}, rounds_s=[[m] for m in reference_medians])
    return Run(list(rows), reference, foreign_load, 60.0, STEADY, after)


def row(medians, per_round=40, **changes):
    changes = {"busy_threads": 1, "mlperf": None, **changes}
    point = Point("onnxruntime", "lenet", "session", "fp32", changes.pop("batch", 1), 1, (),
                  scenario=changes.pop("scenario", "single-stream"))  # fmt: skip
    return Measured(point, {}, rounds_s=[[m] * per_round for m in medians], **changes)


FEW = row([1.0] * 20, per_round=3)
LOADGEN = {"valid": False, "invalid_reason": "min duration"}


@pytest.mark.parametrize(
    ("run", "threads", "words"),
    [
        (run_with([1.0] * 20), 1, None),
        (run_with([1.0] * 19), 1, "19 rounds, intervals need at least 20"),
        (run_with([1.0] * 20), 3, "3 threads on 2 cores"),
        (run_with([1.0] * 10 + [1.2] * 10), 1, "drifted by \\+20%"),
        (run_with([1.0, 1.4] * 10), 1, "spreads by"),
        (run_with([1.0] * 20, 0.5), 1, "other processes used 50% of a core"),
        (run_with([1.0] * 20, None), 1, "the load average was 0.90"),
        (run_with([1.0] * 20, after=MachineState(2e9, 0)), 1, "frequency fell from 3.00 to 2.00 GHz"),
        (run_with([1.0] * 20, after=MachineState(3e9, 2)), 1, "throttled 2 times"),
        (run_with([1.0] * 20, rows=[row([1.0] * 20)]), 1, None),
        (run_with([1.0] * 20, rows=[row([1.0] * 10 + [1.3] * 10)]), 1, "onnxruntime lenet batch 1 drifted by \\+30%"),
        (run_with([1.0] * 10 + [1.05] * 10, rows=[row([1.0] * 10 + [1.05] * 10)]), 1, None),
        (run_with([1.0] * 20, rows=[row([1.0, 1.4] * 10)]), 1, "batch 1 spreads by"),
        (run_with([1.0] * 20, rows=[row([1.0] * 20, busy_threads=2)]), 1, "worked with 2 threads, 1 was asked for"),
        (run_with([1.0] * 20, rows=[FEW]), 1, "batch 1: p90 needs 64 queries, there were 60"),
        (run_with([1.0] * 20, rows=[row([1.0] * 20, per_round=3, batch=8)]), 1, None),
        (
            run_with([1.0] * 20, rows=[row([1.0] * 20, batch=8, per_round=20, scenario="multi-stream")]),
            1,
            "p99 needs 662 queries, there were 400",
        ),
        (run_with([1.0] * 20, rows=[row([1.0, 3.0] * 10, scenario="server")]), 1, None),  # a queue swings
        (run_with([1.0] * 20, rows=[row([1.0] * 20, mlperf=LOADGEN)]), 1, "LoadGen says INVALID: min duration"),
    ],
)
def test_validity(run, threads, words):
    reasons = validity.invalid_reasons(run, threads, cores=2, load_average=0.9)
    if words is None:
        assert reasons == []
    else:
        assert re.search(words, "; ".join(reasons))


def test_tables_by_hand():
    table = tables.latency_table(made_report())
    assert len(table.cells) == 4
    assert table.cells[0][:3] == ("eager", "lenet-mnist-10k", "1")
    assert table.cells[0][-1] == "-"
    assert float(table.cells[2][-1].rstrip("x")) == pytest.approx(4.0, rel=0.03)
    assert table.cells[0][5] == "-"
    assert table.note == "Withheld (-): p99 needs 662 calls; the fewest in a row were 820."
    (headline,) = tables.headlines(made_report())
    assert headline.startswith(
        "lenet-mnist-10k.fp32.onnx on onnxruntime answers in 29.6 us (median, batch 1): 4.1 times"
    )
