import copy
import json
import re

import numpy as np
import pytest

import edgeline_bench.compare_cli
from edgeline.errors import InputError, NotComparableError
from edgeline_bench import compare, tables, validity
from edgeline_bench.page import page_from_report
from edgeline_bench.points import reference_point
from edgeline_bench.report import read_report, samples_sha256, write_report
from edgeline_bench.rounds import Measured, Run
from tests.conftest import one_line

MAIN = edgeline_bench.compare_cli.main


def made_report(seed=0, factor=1.0, rounds=20):
    """A report of two engines at two batch sizes, as a machine with 1 % noise and a common drift would give it."""
    random = np.random.default_rng(seed)
    speed = 1 + 0.1 * np.sin(np.arange(rounds) / 3)
    results = []
    for engine, name, base in (
        ("eager", "lenet-mnist-10k", 120e-6),
        ("onnxruntime", "lenet-mnist-10k.fp32.onnx", 30e-6),
    ):
        for batch in (1, 8):
            slower = factor if engine == "onnxruntime" else 1.0
            medians = [
                round(float(m), 9) for m in base * batch * slower * speed * (1 + 0.01 * random.standard_normal(rounds))
            ]
            samples = [s for m in medians for s in [m] * 41]
            results.append(
                {
                    "engine": engine, "artefact": name, "graph_sha256": "a" * 64, "source": "b" * 64,
                    "precision": "fp32",
                    "scenario": "single-stream", "batch": batch, "threads": 1, "device": "cpu",
                    "latency_s": {"p50": sorted(samples)[len(samples) // 2 - 1], "p90": max(medians), "p99": None},
                    "throughput_per_s": batch / float(np.mean(medians)), "calls": len(samples),
                    "round_medians_s": medians, "samples_s": samples, "samples_per_round": [41] * rounds,
                    "cold_start_s": {"import": 0.2, "load": 0.02, "first": 0.002},
                    "memory_bytes": {"import": 40_000_000, "load": 50_000_000, "peak": 60_000_000},
                    "artefact_bytes": 260_000, "accuracy": 0.98, "layers": [], "speed_of_light_s": None,
                }
            )  # fmt: skip
    kernel = [float(160e-6 * s) for s in speed]
    return {
        "schema_version": 1, "valid": True, "invalid_reasons": [], "created": "2026-11-22T12:00:00Z",
        "protocol": {"mode": "quick", "threads": 1, "pinned": [1], "rounds": rounds, "slot_s": 0.5, "device": "cpu",
                     "batches": [1, 8], "clock_overhead_s": 6e-8, "foreign_load": 0.01, "elapsed_s": 60.0},
        "fingerprint": {"cpu": "A CPU", "machine": "x86_64", "cores": 2, "usable_cores": 2, "isa": ["avx2"],
                        "memory_bytes": 2**34, "gpu": None, "governor": None, "load_average": 0.1, "os": "Linux 6",
                        "python": "3.11.7", "versions": {"torch": "2.14.1"}},
        "reference_kernel": {"name": "k", "round_medians_s": kernel},
        "roofline": None, "results": results, "samples_sha256": samples_sha256(results, kernel),
    }  # fmt: skip


@pytest.fixture
def written(tmp_path):
    def write(report, name="r.json"):
        write_report(tmp_path / name, report)
        return tmp_path / name

    return write


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_report_round_trips(written):
    report = made_report()
    assert read_report(written(report)) == report


def test_edited_samples_are_refused(written):
    report = made_report()
    report["results"][0]["samples_s"][3] *= 0.5
    with pytest.raises(InputError, match="is damaged or was edited"):
        read_report(written(report))


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
            lambda text: text.replace('"schema_version": 1', '"schema_version": 0'),
            "schema_version 0, this edgeline reads 1",
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


# --- comparing --------------------------------------------------------------------------------------------------------


def test_two_runs_of_the_same_are_the_same():
    for seed in range(10):
        rows = compare.compare(made_report(seed), made_report(seed + 100))
        assert [row.verdict.word for row in rows] == ["same"] * 4


def test_drift_of_the_machine_is_no_change():
    """All times and the reference kernel's are 30 % up: the machine is slower, the engines are not."""
    old, new = made_report(0), made_report(1)
    for result in new["results"]:
        result["round_medians_s"] = [m * 1.3 for m in result["round_medians_s"]]
    kernel = new["reference_kernel"]
    kernel["round_medians_s"] = [m * 1.3 for m in kernel["round_medians_s"]]
    assert {row.verdict.word for row in compare.compare(old, new)} == {"same"}


def test_ten_percent_is_seen_and_blamed_on_the_right_rows(written, command):
    old, new = written(made_report(0), "old.json"), written(made_report(1, factor=1.10), "new.json")
    code, out, _ = command(MAIN, old, new, "--json")
    assert code == 0
    words = {(row["key"][0], row["key"][4]): row["verdict"]["word"] for row in json.loads(out)}
    assert words == {
        ("eager", 1): "same",
        ("eager", 8): "same",
        ("onnxruntime", 1): "slower",
        ("onnxruntime", 8): "slower",
    }
    code, out, err = command(MAIN, old, new, "--fail-on-regression", "5%")
    assert code == 1
    assert "2 of 4 rows are slower by more than 5%" in one_line(err)
    assert out.count("slower") == 2
    assert command(MAIN, new, old, "--fail-on-regression", "5%")[0] == 0
    assert command(MAIN, old, new, "--fail-on-regression", "0.2")[0] == 0
    assert command(MAIN, old, new, "--noise", "20%", "--fail-on-regression", "5%")[0] == 0


def test_an_invalid_report_does_not_pass_the_gate(written, command):
    new = changed(changed(made_report(1), "valid", value=False), "invalid_reasons", value=["it was hot"])
    paths = written(made_report(), "old.json"), written(new, "new.json")
    code, _, err = command(MAIN, *paths, "--fail-on-regression", "5%")
    assert code == 1
    assert "an INVALID report shows no absence of a regression" in one_line(err)


def test_a_gate_says_where_it_could_not_see(written, command):
    random = np.random.default_rng(0)
    noisy = made_report(1)
    for result in noisy["results"]:
        medians = [round(float(m * (1 + 0.3 * random.random())), 9) for m in result["round_medians_s"]]
        result["round_medians_s"], result["samples_s"] = medians, [s for m in medians for s in [m] * 41]
        result["latency_s"]["p50"] = sorted(result["samples_s"])[len(result["samples_s"]) // 2 - 1]
    noisy["samples_sha256"] = samples_sha256(noisy["results"], noisy["reference_kernel"]["round_medians_s"])
    paths = written(made_report(), "old.json"), written(noisy, "new.json")
    code, _, err = command(MAIN, *paths, "--noise", "50%", "--fail-on-regression", "5%")
    assert code == 0
    assert "in 4 of 4 rows the interval reaches above 5%: one could hide there" in err


def changed(report, *path, value):
    report = copy.deepcopy(report)
    target = report
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    report["samples_sha256"] = samples_sha256(report["results"], report["reference_kernel"]["round_medians_s"])
    return report


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("fingerprint", "cpu"), "Another CPU", "fingerprint cpu: A CPU and Another CPU"),
        (("fingerprint", "isa"), ["avx2", "avx512f"], "fingerprint isa"),
        (("protocol", "threads"), 2, "protocol threads: 1 and 2"),
        (("protocol", "mode"), "mlperf", "protocol mode: quick and mlperf"),
        (("protocol", "slot_s"), 0.05, "protocol slot_s: 0.5 and 0.05"),
        (("reference_kernel", "name"), "l", "reference kernel: k and l"),
        (
            ("results", 2, "graph_sha256"),
            "b" * 64,
            "onnxruntime lenet-mnist-10k.fp32.onnx fp32 single-stream batch 1 ran another graph",
        ),
        (("results", 2, "precision"), "int8", "only the new report has onnxruntime lenet-mnist-10k.fp32.onnx int8"),
        (
            ("results", 2, "batch"),
            2,
            "only the old report has onnxruntime lenet-mnist-10k.fp32.onnx fp32 single-stream batch 1",
        ),
    ],
)
def test_what_is_not_comparable_is_refused(written, command, path, value, words):
    old = made_report()
    code, out, err = command(MAIN, written(old, "old.json"), written(changed(old, *path, value=value), "new.json"))
    assert (code, out) == (2, "")
    assert "not comparable" in one_line(err)
    assert words in err


def test_every_difference_is_listed():
    new = changed(changed(made_report(), "fingerprint", "cpu", value="B"), "protocol", "threads", value=2)
    with pytest.raises(NotComparableError, match=r"cpu: A CPU and B; protocol threads: 1 and 2"):
        compare.compare(made_report(), new)


def test_other_versions_are_told_and_compared(written, command):
    new = changed(made_report(1), "fingerprint", "versions", "torch", value="3.0")
    code, _, err = command(MAIN, written(made_report(), "old.json"), written(new, "new.json"))
    assert code == 0
    assert "torch: 2.14.1 in the old report, 3.0 in the new one" in err


def test_an_invalid_report_is_compared_with_a_warning(written, command):
    new = changed(changed(made_report(1), "valid", value=False), "invalid_reasons", value=["it was hot"])
    code, _, err = command(MAIN, written(made_report(), "old.json"), written(new, "new.json"))
    assert code == 0
    assert "new.json is INVALID, take what follows with care: it was hot" in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["none.json", "none.json"], "there is no report none.json"),
        (["none.json"], "required: NEW"),
        (["a", "b", "--noise", "much"], "expected a share like 5% or 0.05, got 'much'"),
        (["a", "b", "--fail-on-regression", "5"], "expected a share like 5% or 0.05, got '5'"),
    ],
)
def test_wrong_calls(command, argv, words):
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)


def test_ctrl_c(command, monkeypatch):
    def interrupted(_path):
        raise KeyboardInterrupt

    monkeypatch.setattr(edgeline_bench.compare_cli, "read_report", interrupted)
    assert command(MAIN, "a.json", "b.json")[0] == 130


# --- validity, tables and page ----------------------------------------------------------------------------------------


def run_with(reference_medians, foreign_load=0.0):
    reference = Measured(reference_point(()), {}, rounds_s=[[m] for m in reference_medians])
    return Run([], reference, foreign_load, 60.0)


@pytest.mark.parametrize(
    ("run", "threads", "words"),
    [
        (run_with([1.0] * 20), 1, None),
        (run_with([1.0] * 19), 1, "19 rounds, intervals need at least 20"),
        (run_with([1.0] * 20), 3, "3 threads on 2 cores"),
        (run_with([1.0] * 10 + [1.2] * 10), 1, "drifted by \\+20%"),
        (run_with([1.0, 1.4] * 10), 1, "spreads by"),
        (run_with([1.0] * 20, 0.5), 1, "other processes used 50% of a core"),
        (run_with([1.0] * 20, None), 1, None),
    ],
)
def test_validity(run, threads, words):
    reasons = validity.invalid_reasons(run, threads, cores=2)
    if words is None:
        assert reasons == []
    else:
        assert len(reasons) >= 1
        assert re.search(words, "; ".join(reasons))


def test_tables_by_hand():
    table = tables.latency_table(made_report())
    assert len(table.cells) == 4
    assert table.cells[0][:3] == ("eager", "lenet-mnist-10k", "1")
    assert table.cells[0][-1] == "-"
    assert float(table.cells[2][-1].rstrip("x")) == pytest.approx(4.0, rel=0.03)
    assert table.cells[0][5] == "-"
    assert table.note == "Withheld (-): p99 needs 662 calls."
    (headline,) = tables.headlines(made_report())
    assert headline.startswith(
        "lenet-mnist-10k.fp32.onnx on onnxruntime answers in 29.6 us (median, batch 1): 4.1 times"
    )


def test_the_page_needs_nothing_from_outside():
    page = page_from_report(made_report())
    ours = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.S)  # plotly's own text names its licences' URLs
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", ours)
    assert "http" not in ours.replace("http-equiv", "")
    assert ours.count('class="plot"') == 5
    assert "VALID" in ours
    figures = json.loads(re.search(r"const figures = (\[.*?\]);\nconst dark", page, flags=re.S).group(1))
    assert [len(figure["data"]) for figure in figures] == [4, 2, 3, 3, 5]


def test_text_in_the_page_is_escaped():
    page = page_from_report(changed(made_report(), "fingerprint", "cpu", value="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
