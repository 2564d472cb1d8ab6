"""The command recommend-model: which report it takes, what it refuses, what it says, and its JSON."""

import json

import pytest

import edgeline_bench.fingerprint
import edgeline_bench.recommend_cli
import edgeline_bench.verdicts
from edgeline_bench.recommend import OBJECTIVES
from edgeline_bench.report import write_report
from tests.benchmarks.made import changed
from tests.benchmarks.recommendable import LENET, MACHINE, ROOFLINE, invalid, lenet_rows, lit, memory, report, row
from tests.conftest import one_line

MAIN = edgeline_bench.recommend_cli.main
MEASURE = "benchmark-model lenet --formats all --precision fp32,int8"


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """This machine is the one that the reports were made on, and their folder is the test's own.

    Intervals need no ten thousand draws here.
    """
    monkeypatch.setattr(edgeline_bench.verdicts, "_RESAMPLES", 200)
    monkeypatch.setattr(edgeline_bench.fingerprint, "fingerprint", lambda: dict(MACHINE))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports"


def put(folder, name, made):
    write_report(folder / name, made)
    return folder / name


def test_the_newest_report_of_this_device_is_taken(here, command):
    put(here, "a.json", report(*lenet_rows(), created="2026-11-22T12:00:00Z"))
    put(here, "b.json", report(*lenet_rows()[:2], created="2026-11-21T12:00:00Z"))
    put(here, "c.json", changed(report(*lenet_rows(), created="2026-11-23T12:00:00Z"), "fingerprint", "cpu", value="B"))
    put(here, "d.json", report(row("eager", "alexnet-mnist-10k", 1e-3), created="2026-11-23T12:00:00Z"))
    (here / "e.json").write_text("{}")
    code, out, err = command(MAIN, "lenet")
    assert code == 0
    assert "the newest report on lenet: reports/a.json, of 2026-11-22T12:00:00Z" in err
    assert "passed over: reports/e.json is no report of benchmark-model" in err
    assert out.splitlines()[0].split() == [
        "rank", "engine", "artefact", "batch", "p50", "throughput", "peak", "memory", "size", "accuracy", "drop",
    ]  # fmt: skip
    first = "1 native lenet-mnist-10k.fp32.c 1 10 us 100,000/s 40 MB 1.60 MB 0.9800 0.0000"
    assert " ".join(out.splitlines()[1].split()) == first
    assert "Left out:\n  native lenet-mnist-10k.int8.c at batch 1: drop 0.0150 > 0.01\n" in out
    assert 'Use it: edgeline.load("artifacts/lenet-mnist-10k.fp32.c")' in out
    assert "Make it: export-model lenet --dataset mnist-10k --format c --precision fp32" in out


def test_what_the_runner_up_costs_and_who_wins_by_what_else(here, command):
    """Against C's 10 us, 40 MB and 1.6 MB, int8 on ONNX Runtime takes 20 us, 72 MB and 0.14 MB, and has 0.975."""
    put(here, "a.json", report(*lenet_rows()))
    _, out, _ = command(MAIN, "lenet")
    (line,) = [line for line in out.splitlines() if line.startswith("Instead of it")]
    assert line.startswith("Instead of it, onnxruntime lenet-mnist-10k.int8.onnx at batch 1: 2.00 times the latency (")
    assert line.endswith("), 32 MB more memory, 1.46 MB less on disk, 0.0050 less accuracy.")
    assert "By memory: native lenet-mnist-10k.fp32.c at batch 1, 40 MB." in out
    assert "By size: onnxruntime lenet-mnist-10k.int8.onnx at batch 1, 0.14 MB." in out
    # 8 / 60 us and 8 / 63 us lie 5 % apart, which is less than 5 % and the swing of the rounds; C has less memory
    assert "By throughput: native lenet-mnist-10k.fp32.c at batch 8, 126,984/s, level with onnxruntime" in out
    _, out, _ = command(MAIN, "lenet", "--objective", "throughput", "--batch", "1")
    assert "lenet-mnist-10k.int8.onnx at batch 1: 0.50 times the throughput (" in out


@pytest.mark.parametrize("given", [(), ("--report", "reports/new.json")])
def test_nothing_is_recommended_from_an_invalid_report(here, command, given):
    put(here, "new.json", invalid(report(*lenet_rows()), "it was hot", "it was busy"))
    code, out, err = command(MAIN, "lenet", *given)
    assert (code, out) == (2, "")
    assert "reports/new.json is INVALID: it was busy\n" in err
    said = one_line(err)
    assert "reports/new.json is INVALID: it was hot (and 1 more, see above); nothing is recommended from it" in said
    assert said.endswith(f"measure again: {MEASURE}")
    put(here, "old.json", report(*lenet_rows(), created="2026-11-20T12:00:00Z"))
    code, out, err = command(MAIN, "lenet", *given)
    assert (code, out) == (2, "")
    assert one_line(err).endswith(
        MEASURE if given else "or take the older VALID one, of 2026-11-20T12:00:00Z: --report reports/old.json"
    )
    assert command(MAIN, "lenet", "--report", "reports/old.json")[0] == 0


def test_a_report_that_was_slowed_on_purpose_is_refused(here, command):
    put(here, "a.json", changed(report(*lenet_rows()), "protocol", "slowdown", value=0.1))
    code, out, err = command(MAIN, "lenet")
    assert (code, out) == (2, "")
    assert "was slowed on purpose, by 10%" in one_line(err)


@pytest.mark.parametrize("given", [(), ("--report", "reports/a.json")])
@pytest.mark.parametrize(("key", "value"), [("cpu", "B"), ("machine", "aarch64"), ("cores", 8), ("gpu", "A GPU")])
def test_a_report_of_another_device_is_refused(here, command, given, key, value):
    put(here, "a.json", changed(report(*lenet_rows()), "fingerprint", key, value=value))
    code, out, err = command(MAIN, "lenet", *given)
    assert (code, out) == (2, "")
    assert f"was measured on another device ({key}: {value} in the report, {MACHINE[key]} here)" in one_line(err)
    assert f"measure here: {MEASURE}" in err
    code, out, err = command(MAIN, "lenet", *given, "--across-hosts")
    assert code == 0
    assert out.startswith("Across hosts: measured on ")
    assert "It holds for that device, not for this one." in out.splitlines()[0]
    assert json.loads(command(MAIN, "lenet", *given, "--across-hosts", "--json")[1])["of_another_device"] is True


def test_other_packages_than_then_are_told(here, command):
    put(here, "a.json", changed(report(*lenet_rows()), "fingerprint", "versions", value={"torch": "2.13.0"}))
    _, _, err = command(MAIN, "lenet")
    assert "torch is 2.14.1 here now, and was 2.13.0 when reports/a.json was made" in err


def test_without_a_report_there_is_the_command_that_makes_one(here, command):
    code, out, err = command(MAIN, "lenet")
    assert (code, out) == (2, "")
    assert one_line(err).endswith(f"there are no reports in reports/: measure first: {MEASURE}")
    put(here, "a.json", report(*lenet_rows()))
    code, _, err = command(MAIN, "alexnet")
    assert code == 2
    assert "has rows of 'alexnet' in scenario single-stream or offline; they have lenet-mnist-10k (1 thread)" in err
    assert one_line(err).endswith("benchmark-model alexnet --formats all --precision fp32,int8")
    code, _, err = command(MAIN, "lenet", "--threads", "2")
    assert code == 2
    assert one_line(err).endswith(f"{MEASURE} --threads 2")
    code, _, err = command(MAIN, "alexnet", "--report", "reports/a.json")
    assert code == 2
    assert "reports/a.json has no rows of 'alexnet'" in one_line(err)
    code, _, err = command(MAIN, "lent")
    assert code == 2
    assert "unknown network 'lent' (did you mean lenet" in one_line(err)


def test_reports_of_one_host_and_protocol_are_ranked_together(here, command):
    one = put(here, "one.json", report(*lenet_rows()[:2]))
    two = put(here, "two.json", report(lenet_rows()[3]))
    code, out, _ = command(MAIN, "lenet", "--report", one, "--report", two)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:4]] == ["native", "onnxruntime", "eager"]
    other = put(here, "three.json", changed(report(lenet_rows()[3]), "protocol", "slot_s", value=0.1))
    code, out, err = command(MAIN, "lenet", "--report", one, "--report", other)
    assert (code, out) == (2, "")
    assert "may not be ranked together: protocol slot_s: 0.5 and 0.1; name one of them" in one_line(err)
    graph = put(here, "four.json", report({**lenet_rows()[1], "graph_sha256": "f" * 64}))
    code, _, err = command(MAIN, "lenet", "--report", one, "--report", graph)
    assert code == 2
    assert "fp32 single-stream batch 1 ran another graph" in one_line(err)


def test_no_row_within_the_limits_exits_1_and_names_the_nearest(here, command):
    """40,000,000 bytes are 38.1 MB of 1,048,576."""
    put(here, "a.json", report(*lenet_rows()))
    code, out, err = command(MAIN, "lenet", "--max-memory", "30MB")
    assert code == 1
    assert "eager lenet-mnist-10k at batch 1: peak 500 MB > 31 MB (--max-memory 30MB)" in out
    assert one_line(err) == (
        "recommend-model: none of 5 rows meets the limits; the nearest is native lenet-mnist-10k.fp32.c at batch 1 "
        "(peak 40 MB > 31 MB (--max-memory 30MB)): --max-memory 39MB would let it pass (1MB of an option is 1,048,576 "
        "bytes)"
    )
    assert command(MAIN, "lenet", "--max-memory", "39MB")[0] == 0
    code, out, _ = command(MAIN, "lenet", "--max-memory", "30MB", "--json")
    record = json.loads(out)
    assert (code, record["winner"], record["nearest_miss"]["options"]) == (1, None, "--max-memory 39MB")
    assert len(record["left_out"]) == 5


# --- why --------------------------------------------------------------------------------------------------------------


def why(here, command, *rows, objective="latency", **changes):
    put(here, "a.json", report(*rows, **changes))
    code, out, _ = command(MAIN, "lenet", "--objective", objective, "--json", "--max-drop", "1")
    assert code == 0
    record = json.loads(out)
    return record, " ".join(record["why"])


def test_the_gap_is_factored_into_work_and_efficiency(here, command):
    """C in int8: 10 us, 2 us possible, so 5 times; ONNX Runtime in fp32: 60 us, 8 us possible, so 7.5 times.

    60 / 10 = 6 = (8 / 2) * (7.5 / 5) = 4 * 1.5; ln 4 / ln 6 = 0.774. conv2 differs by 40 of 50 us.
    """
    of_both = {"fc1": (60e-6, "memory")}  # the longest in either, and no part of the gap
    c = {"conv1": (4e-6, "compute"), "conv2": (6e-6, "memory"), **of_both}
    onnx = {"conv1": (14e-6, "compute"), "conv2": (46e-6, "compute"), **of_both}
    rows = [
        lit(row("native", f"{LENET}.int8.c", 10e-6), 2e-6, **c),
        lit(row("onnxruntime", f"{LENET}.fp32.onnx", 60e-6), 8e-6, **onnx),
    ]
    record, text = why(here, command, *rows, roofline=ROOFLINE)
    gap = record["gap"]
    assert [gap[key] for key in ("ratio", "lights", "overheads", "of_first", "of_second")] == pytest.approx(
        [6.0, 4.0, 1.5, 5.0, 7.5]
    )
    assert gap["lights"] * gap["overheads"] == pytest.approx(gap["ratio"])
    assert "native lenet-mnist-10k.int8.c at batch 1 takes 10 us where 2 us would be possible: 5.00 times" in text
    assert "takes 6.00 times as long a sample = 4.00 (its speed of light over the winner's) x 1.50" in text
    assert "77% of it (in logarithms) is less to do at least (int8 against fp32), 23% efficiency" in text
    assert (gap["layer"]["label"], gap["layer"]["share"]) == ("conv2", pytest.approx(0.8))
    assert "lies in conv2, 80% of what all layers together differ by: 6 us a sample on native" in text
    assert "(bound by the bandwidth of L2 (weights)), 46 us on onnxruntime" in text


@pytest.mark.parametrize(
    ("lights", "words"),
    [
        ((4e-6, 4e-6), "nearly all of it is efficiency"),
        ((4e-6, 3.98e-6), "nearly all of it is efficiency"),
        ((2e-6, 4e-6), "nearly all of it is less to do at least"),
        ((4e-6, 2e-6), "the winner has more to do at least, and is that much closer to it"),
        ((1e-6, 8e-6), "the winner has so much less to do at least that it wins, though it is further from its own"),
    ],
)
def test_what_a_gap_of_two_is_made_of(here, command, lights, words):
    rows = [row("native", f"{LENET}.fp32.c", 10e-6), row("onnxruntime", f"{LENET}.fp32.onnx", 20e-6)]
    rows = [lit(one, light) for one, light in zip(rows, lights, strict=True)]
    record, text = why(here, command, *rows, roofline=ROOFLINE)
    assert record["gap"]["ratio"] == pytest.approx(2.0)
    assert words in text
    assert record["gap"]["layer"] is None


def test_throughput_compares_the_time_of_a_sample(here, command):
    """8 samples in 40 us against 1 in 10: 5 us and 10; of the light 2 us and 4."""
    rows = [
        lit(row("native", f"{LENET}.fp32.c", 40e-6, 8), 16e-6, conv1=(40e-6, "compute")),
        lit(row("onnxruntime", f"{LENET}.fp32.onnx", 10e-6), 4e-6, conv1=(10e-6, "compute")),
    ]
    record, _ = why(here, command, *rows, objective="throughput", roofline=ROOFLINE)
    gap = record["gap"]
    assert [gap[key] for key in ("ratio", "lights", "overheads")] == pytest.approx([2.0, 2.0, 1.0])
    assert (gap["layer"]["first_s"], gap["layer"]["second_s"]) == (pytest.approx(5e-6), pytest.approx(10e-6))


def test_without_a_roofline_that_is_said(here, command):
    record, text = why(here, command, *lenet_rows())
    assert "the report has no roofline; measure without --no-roofline" in text
    assert record["gap"] is None
    _, text = why(here, command, *lenet_rows(), roofline=ROOFLINE)
    assert "is not known: its row has none" in text


def test_a_tie_is_said_and_what_broke_it(here, command):
    rows = [
        lit(row("onnxruntime", f"{LENET}.fp32.onnx", 10e-6, memory_bytes=memory(70_000_000, 60_000_000)), 4e-6),
        lit(row("native", f"{LENET}.fp32.c", 10.2e-6, memory_bytes=memory(40_000_000)), 4e-6),
    ]
    record, text = why(here, command, *rows, roofline=ROOFLINE)
    assert (record["winner"]["engine"], record["tie_broken_by"]) == ("native", "memory")
    assert (
        "No measurable difference in latency to onnxruntime lenet-mnist-10k.fp32.onnx at batch 1: memory decides, "
        "40 MB against 70 MB." in text
    )
    assert "times as long" not in text
    assert "0.98 times the latency (" in record["runner_up_costs"]
    assert "no measurable difference, 30 MB more memory" in record["runner_up_costs"]


def test_where_the_memory_and_the_bytes_are(here, command):
    """40 MB: 9 Python's, 31 the engine's import, 1 the network, the rest running; the other's import takes 20 more."""
    rows = [
        row("native", f"{LENET}.fp32.c", 10e-6, memory_bytes=memory(42_000_000)),
        row("onnxruntime", f"{LENET}.fp32.onnx", 5e-6, memory_bytes=memory(70_000_000, 60_000_000)),
    ]
    _, text = why(here, command, *rows, objective="memory")
    assert "Of its memory, 9.00 MB came with Python itself, 31 MB came with importing the engine, 1.00 MB came" in text
    assert "takes 28 MB more, and most of that came with importing the engine: 51 MB there." in text
    rows = [{**rows[0], "deployed_bytes": 300_000, "engine_bytes": 0}, rows[1]]
    record, text = why(here, command, *rows, objective="size")
    assert "native lenet-mnist-10k.fp32.c: 0.30 MB; the network's weights are 0.25 MB; with the engine's own" in text
    assert "what the engine itself takes is not known" in text
    assert (record["winner"]["size_bytes"], record["winner"]["engine_bytes"]) == (300_000, 0)
    _, out, _ = command(MAIN, "lenet", "--objective", "size")
    assert "with engine" in out.splitlines()[0]


@pytest.mark.parametrize(
    ("engine", "artefact", "lines"),
    [
        ("native", f"{LENET}.int8.c@armv8.2-a+dotprod",
         ['edgeline.load("artifacts/lenet-mnist-10k.int8.c@armv8.2-a+dotprod")',
          "export-model lenet --dataset mnist-10k --format c --precision int8 --target armv8.2-a+dotprod"]),
        ("tensorrt", f"{LENET}.fp32.trt-rtx@sm89-sm120",
         ['edgeline.load("artifacts/lenet-mnist-10k.fp32.trt-rtx@sm89-sm120")',
          "export-model lenet --dataset mnist-10k --format trt-rtx --precision fp32 --compute-capability 8.9,12.0"]),
        ("onnxruntime", f"{LENET}.fp32.trt",
         ['edgeline.load("artifacts/lenet-mnist-10k.fp32.trt", engine="onnxruntime")',
          "export-model lenet --dataset mnist-10k --format trt --precision fp32"]),
        ("eager", LENET, ['edgeline_train.models.model_from_name("lenet").build(), with the weights of '
                          "weights/lenet-mnist-10k.safetensors"]),
        ("eager", f"{LENET}@0123abcd", ["it is PyTorch itself, with the weights that it was trained with"]),
    ],
)  # fmt: skip
def test_the_lines_to_type(here, command, engine, artefact, lines):
    record, _ = why(here, command, row(engine, artefact, 1e-5))
    assert len(record["use"]) == len(lines)
    for said, wanted in zip(record["use"], lines, strict=True):
        assert wanted in said


def test_the_command_offers_every_objective():
    assert tuple(OBJECTIVES) == edgeline_bench.recommend_cli.OBJECTIVES


def test_the_json_is_one_object(here, command):
    put(here, "a.json", report(*lenet_rows()))
    code, out, _ = command(MAIN, "lenet", "--json")
    record = json.loads(out)
    assert code == 0
    assert (record["schema_version"], record["objective"], record["limits"]["max_drop"]) == (1, "latency", 0.01)
    assert [one["p50_s"] for one in record["ranked"]] == pytest.approx([10e-6, 20e-6, 30e-6, 120e-6])
    assert [one["time_ratio"] for one in record["ranked"][1:]] == pytest.approx([2.0, 3.0, 12.0])
    assert record["left_out"][0]["reasons"] == ["drop 0.0150 > 0.01"]
    assert set(record["others"]) == {"throughput", "memory", "size"}
    assert record["reports"] == [{"path": "reports/a.json", "created": "2026-11-22T12:00:00Z"}]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--max-memory", "64XB"), "expected bytes like 16KB, 1MB or 16384"),
        (("--max-latency", "0"), "expected a number above 0"),
        (("--batch", "0"), "expected a whole number of at least 1"),
        (("--objective", "beauty"), "invalid choice: 'beauty'"),
    ],
)
def test_wrong_options_are_refused(here, command, argv, words):
    code, out, err = command(MAIN, "lenet", *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)
