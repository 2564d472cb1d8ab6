import json
import re

import numpy as np
import pytest

import edgeline_bench.compare_cli
from edgeline.errors import NotComparableError
from edgeline_bench import compare
from edgeline_bench.checksums import sealed
from tests.benchmarks.made import changed, made_report, rounds_scaled
from tests.conftest import one_line

MAIN = edgeline_bench.compare_cli.main


def test_two_runs_of_the_same_are_the_same():
    for seed in range(10):
        rows = compare.compare(made_report(seed), made_report(seed + 100))
        assert [row.verdict.word for row in rows] == ["same"] * 4


def test_drift_of_the_machine_is_no_change():
    """All times and the reference kernel's are 30 % up: the machine is slower, the engines are not."""
    old, new = made_report(0), rounds_scaled(made_report(1), 1.3)
    kernel = [m * 1.3 for m in new["reference_kernel"]["round_medians_s"]]
    new = changed(new, "reference_kernel", "round_medians_s", value=kernel)
    assert {row.verdict.word for row in compare.compare(old, new)} == {"same"}


def test_a_machine_in_another_state_widens_the_noise():
    """The kernel became 20 % slower, the engines 40 %: a neighbour on the host, and no change of theirs."""
    old, slower = made_report(0), rounds_scaled(made_report(1), 1.4)
    kernel = [m * 1.2 for m in slower["reference_kernel"]["round_medians_s"]]
    busy = changed(slower, "reference_kernel", "round_medians_s", value=kernel)
    assert compare.machine_change(old, busy) == pytest.approx(0.2)
    rows = compare.compare(old, busy)
    assert {row.verdict.word for row in rows} == {"same"}
    assert all(row.verdict.noise > 0.25 for row in rows)
    assert {row.verdict.word for row in compare.compare(old, slower)} == {"slower"}


def test_servers_rates_are_told_and_not_judged():
    """A server twice as slow found half the rate, at which its queries waited as long."""

    def with_server(report, rate):
        server = {"rate_per_s": rate, "latency_bound_s": 0.01, "given": False, "resolved": True, "held": True}
        rows = [*report["results"], {**report["results"][0], "scenario": "server", "server": server}]
        return sealed({**report, "results": rows})

    old, new = with_server(made_report(0), 200.0), with_server(made_report(1), 100.0)
    comparison = compare.compare_all(["a", "b"], [old, new])
    assert len(comparison.rows[0]) == 4
    (told,) = [line for line in comparison.notes if "server" in line]
    assert "200/s found for p99 within 10 ms: held in a, 100/s found" in told
    alone = [sealed({**report, "results": report["results"][-1:]}) for report in (old, new)]
    with pytest.raises(NotComparableError, match="nothing to judge, as all rows are of scenario server: .*200/s"):
        compare.compare(*alone)


def test_a_report_is_not_overwritten_by_its_comparison(written, command):
    old, new = written(made_report(0), "old.json"), written(made_report(1), "new.json")
    before = old.read_bytes()
    code, out, err = command(MAIN, old, new, "--out", old)
    assert (code, out) == (2, "")
    assert "is one of the reports: it would be lost" in one_line(err)
    assert old.read_bytes() == before


def test_ten_percent_is_seen_and_blamed_on_the_right_rows(written, command):
    old, new = written(made_report(0), "old.json"), written(made_report(1, factor=1.10), "new.json")
    code, out, _ = command(MAIN, old, new, "--json")
    assert code == 0
    (comparison,) = json.loads(out)["comparisons"]
    words = {(row["engine"], row["batch"]): row["verdict"] for row in comparison["rows"]}
    assert words == {
        ("eager", 1): "same",
        ("eager", 8): "same",
        ("onnxruntime", 1): "slower",
        ("onnxruntime", 8): "slower",
    }
    code, out, err = command(MAIN, old, new, "--fail-on-regression", "5%")
    assert code == 1
    assert "2 of 4 rows are slower by more than 5%" in one_line(err)
    assert len(re.findall(r"slower$", out, flags=re.M)) == 2
    assert "new.json against old.json: of 4 rows, 2 slower, 2 same." in out
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
    paths = written(made_report(), "old.json"), written(sealed(noisy), "new.json")
    code, _, err = command(MAIN, *paths, "--noise", "50%", "--fail-on-regression", "5%")
    assert code == 0
    assert "in 4 of 4 rows the interval reaches above 5%: one could hide there" in err


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


DIFFERENT = (
    (("fingerprint", "cpu"), "B", "fingerprint cpu: A CPU and B"),
    (("fingerprint", "isa"), [], r"fingerprint isa: \['avx2'\] and \[\]"),
    (("protocol", "threads"), 2, "protocol threads: 1 and 2"),
    (("protocol", "pinned"), [0], r"protocol pinned: \[1\] and \[0\]"),
    (("protocol", "mode"), "mlperf", "protocol mode: quick and mlperf"),
    (("reference_kernel", "name"), "l", "reference kernel: k and l"),
    (("results", 0, "scenario"), "offline", "only the new report has eager lenet-mnist-10k fp32 offline batch 1"),
    (("results", 1, "source"), "c" * 64, "eager lenet-mnist-10k fp32 single-stream batch 8 ran another network"),
    (("results", 2, "graph_sha256"), "b" * 64, "onnx fp32 single-stream batch 1 ran another graph"),
    (("results", 3, "precision"), "int8", "only the new report has onnxruntime lenet-mnist-10k.fp32.onnx int8"),
    (("results", 2, "arithmetic"), "bf16", "batch 1 arithmetic: fp32 and bf16"),
)


def test_every_difference_is_listed():
    new = made_report()
    for path, value, _ in DIFFERENT:
        new = changed(new, *path, value=value)
    with pytest.raises(NotComparableError) as refusal:
        compare.compare(made_report(), new)
    for _, _, words in DIFFERENT:
        assert re.search(words, str(refusal.value)), words
    # Two rows that only one report has are two differences each.
    assert len(str(refusal.value).split("; ")) == len(DIFFERENT) + 2


def test_the_order_of_artefacts_is_no_difference():
    """Eager's row names the graph of the artefact that came first, so there its source counts instead."""
    new = made_report(1)
    new = changed(new, "results", value=new["results"][::-1])
    for index in (2, 3):
        new = changed(new, "results", index, "graph_sha256", value="f" * 64)
    rows = compare.compare(made_report(), new)
    assert [(row.key[0], row.key[4], row.verdict.word) for row in rows] == [
        ("eager", 1, "same"), ("eager", 8, "same"), ("onnxruntime", 1, "same"), ("onnxruntime", 8, "same"),
    ]  # fmt: skip


def test_fewer_rounds_withhold_the_verdict_and_say_how_many_it_takes(written, command):
    paths = written(made_report(0, rounds=19), "old.json"), written(made_report(1, factor=1.5), "new.json")
    code, out, _ = command(MAIN, *paths)
    assert code == 0
    assert out.count("withheld: 19 rounds, it takes 20") == 4
    assert "of 4 rows, 4 withheld." in out
    _, out, _ = command(MAIN, *paths, "--json")
    row = json.loads(out)["comparisons"][0]["rows"][2]
    assert (row["verdict"], row["ci95"], row["p_value"], row["rounds"], row["rounds_needed"]) == (
        "withheld", None, None, 19, 20,
    )  # fmt: skip
    assert row["ratio"] == pytest.approx(1.5, rel=0.03)


# --- across hosts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def board():
    """The same rows from another host, a third as fast, whose reference kernel is ten times as slow."""
    report = rounds_scaled(made_report(1), 3.0)
    kernel = [m * 10 for m in report["reference_kernel"]["round_medians_s"]]
    for path, value in (
        (("fingerprint", "cpu"), "Cortex"), (("fingerprint", "isa"), ["asimd"]), (("protocol", "pinned"), [3]),
        (("reference_kernel", "name"), "another Python"), (("reference_kernel", "round_medians_s"), kernel),
    ):  # fmt: skip
        report = changed(report, *path, value=value)
    return report


def test_other_hosts_are_compared_only_when_asked(written, command, board, tmp_path):
    paths = written(made_report(), "desk.json"), written(board, "board.json")
    assert command(MAIN, *paths)[0] == 2
    outs = [tmp_path / name for name in ("c.md", "c.html", "c.json")]
    code, out, err = command(MAIN, *paths, "--across-hosts", *(part for o in outs for part in ("--out", o)))
    assert code == 0
    assert "hosts of desk.json and board.json: fingerprint cpu: A CPU and Cortex" in err
    assert "hosts of desk.json and board.json: reference kernel: k and another Python" in err
    for text in (out, outs[0].read_text(), outs[1].read_text()):
        assert "Across hosts: raw times, not divided by the reference kernel" in text
    record = json.loads(outs[2].read_text())
    assert (record["across_hosts"], record["divided_by_reference_kernel"]) == (True, False)
    # Raw: three times, not the 0.3 that the reference kernel would make of it.
    assert [row["ratio"] for row in record["comparisons"][0]["rows"]] == pytest.approx([3.0] * 4, rel=0.05)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("protocol", "threads"), 2, "protocol threads"),
        (("protocol", "pinned"), [2, 3], "protocol pinned"),
        (("results", 2, "graph_sha256"), "c" * 64, "ran another graph"),
    ],
)
def test_across_hosts_all_else_must_agree(board, path, value, words):
    with pytest.raises(NotComparableError, match=words):
        compare.compare(made_report(), changed(board, *path, value=value), across_hosts=True)


# --- several reports --------------------------------------------------------------------------------------------------


def test_several_reports_stand_side_by_side(written, command, tmp_path):
    paths = [written(made_report(seed, factor), name) for seed, factor, name in
             ((0, 1.0, "a.json"), (1, 1.0, "b.json"), (2, 1.2, "c.json"))]  # fmt: skip
    code, out, err = command(MAIN, *paths, "--fail-on-regression", "5%", "--out", tmp_path / "week.md")
    assert code == 1
    assert "2 of 8 rows are slower by more than 5%" in one_line(err.splitlines()[-1] + "\n")
    table = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    assert table[0] == [
        "engine", "artefact", "scenario", "batch", "a.json p50", "b.json p50, ratio", "c.json p50, ratio",
    ]  # fmt: skip
    assert [line[-1].split()[-1] for line in table[1:5]] == ["same", "same", "slower", "slower"]
    assert [line[-2].split()[-1] for line in table[1:5]] == ["same"] * 4
    text = (tmp_path / "week.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## All reports", "## b.json against a.json", "## c.json against a.json",
    ]  # fmt: skip
    assert text.count("Roofline of ") == 3


def test_each_refusal_names_its_report(written, command):
    paths = [written(made_report(), "a.json"), written(made_report(1), "b.json"),
             written(changed(made_report(), "protocol", "threads", value=2), "c.json")]  # fmt: skip
    code, _, err = command(MAIN, *paths)
    assert code == 2
    assert "not comparable: c.json: protocol threads: 1 and 2" in one_line(err)


def test_reports_of_one_name_are_told_apart_by_their_folders(written, command, tmp_path):
    (tmp_path / "b").mkdir()
    paths = written(made_report(), "r.json"), written(made_report(1), "b/r.json")
    _, out, _ = command(MAIN, *paths, "--json")
    record = json.loads(out)
    assert (record["base"], record["comparisons"][0]["report"]) == ("r.json", "b/r.json")


# --- notes and wrong calls --------------------------------------------------------------------------------------------


def test_a_slowdown_on_purpose_is_told(written, command):
    new = changed(made_report(1), "protocol", "slowdown", value=0.1)
    assert (
        "new.json was slowed on purpose, by 10%" in command(MAIN, written(made_report()), written(new, "new.json"))[2]
    )


def test_other_versions_are_told_and_compared(written, command):
    new = changed(made_report(1), "fingerprint", "versions", "torch", value="3.0")
    code, _, err = command(MAIN, written(made_report(), "old.json"), written(new, "new.json"))
    assert code == 0
    assert "torch: 2.14.1 in old.json, 3.0 in new.json" in err


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
        (["a", "b", "--out", "c.pdf"], "expected a file that ends in .md, .html, .json, got 'c.pdf'"),
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
