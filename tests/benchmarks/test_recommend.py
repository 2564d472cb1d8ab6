"""The ranking: objectives, limits, ties, several reports. Figures are made up, so what must come out is arithmetic."""

import pytest

from edgeline.errors import InputError
from edgeline_bench.recommend import rank
from edgeline_bench.recommend_candidates import candidates_of, is_of, network_name
from edgeline_bench.recommend_limits import Limits
from edgeline_bench.verdicts import verdicts
from tests.benchmarks.recommendable import LENET, lenet_rows, memory, report, row

ANY = Limits(max_drop=1.0)


def ranked(objective="latency", limits=None, batch=None, rows=None):
    candidates, _ = candidates_of([report(*(rows or lenet_rows()))], "lenet")
    return rank(candidates, objective, limits or Limits(), batch)


def names(ranking):
    return [(one.candidate.row["engine"], one.candidate.row["precision"], one.candidate.batch) for one in ranking.rows]


def reasons(ranking):
    return {out.candidate.title: out.reasons for out in ranking.left_out}


@pytest.mark.parametrize(
    ("model", "artefact", "engine", "fits"),
    [
        ("lenet", "lenet-mnist-10k.fp32.onnx", "onnxruntime", True),
        ("lenet", "lenet-fashion-mnist.int8.c", "native", True),
        ("lenet", "lenet-relu-mnist-10k.fp32.onnx", "onnxruntime", False),
        ("lenet", "lenet5-mnist-10k.fp32.onnx", "onnxruntime", False),
        ("lenet-relu", "lenet-relu-mnist-10k.fp32.onnx", "onnxruntime", True),
        ("alexnet", "alexnet-28-mnist-10k.fp32.onnx", "onnxruntime", False),
        ("lenet", "lenet-mnist-10k", "eager", True),
        ("lenet", "lenet-mnist-10k@0123abcd", "eager", True),
        ("lenet-mnist-10k", "lenet-mnist-10k.int8.c@armv8.2-a+dotprod", "native", True),
        ("lenet-mnist", "lenet-mnist-10k.fp32.onnx", "onnxruntime", False),
        ("lenet-mnist", "lenet-mnist.fp32.onnx", "onnxruntime", True),
        ("net.v2", "net.v2-mnist.fp32.onnx", "onnxruntime", True),
        ("net", "net.fp32.onnx", "onnxruntime", True),
    ],
)
def test_a_networks_name_fits_its_own_rows_only(model, artefact, engine, fits):
    assert is_of(model, {"artefact": artefact, "engine": engine}) is fits


def test_a_target_with_dots_is_no_part_of_the_name():
    assert network_name({"artefact": "lenet-mnist-10k.int8.c@armv8.2-a+dotprod", "engine": "native"}) == LENET


def test_latency_is_of_the_smallest_batch_and_the_fastest_wins():
    """The fastest row of all loses 0.015 of its accuracy, and 0.01 is allowed."""
    ranking = ranked()
    assert names(ranking) == [
        ("native", "fp32", 1), ("onnxruntime", "int8", 1), ("onnxruntime", "fp32", 1), ("eager", "fp32", 1),
    ]  # fmt: skip
    assert reasons(ranking) == {"native lenet-mnist-10k.int8.c": ("drop 0.0150 > 0.01",)}
    verdict = ranking.rows[1].verdict
    assert verdict.ratio == pytest.approx(2.0)
    assert verdict.word == "slower"
    assert names(ranked(limits=Limits(max_drop=0.015)))[0] == ("native", "int8", 1)


def test_another_batch_ranks_what_was_measured_there():
    """At batch 8 ONNX Runtime takes 60 us and C 63: 5 % apart, the noise being that and what the rounds show."""
    ranking = ranked(batch=8)
    assert names(ranking) == [("native", "fp32", 8), ("onnxruntime", "fp32", 8)]
    assert ([one.tied for one in ranking.rows], ranking.broken_by) == ([True, True], "memory")
    assert reasons(ranking)["eager lenet-mnist-10k"] == ("not measured at batch 8",)
    with pytest.raises(InputError, match="no row has batch 4, those measured are 1, 8: give one of them"):
        ranked(batch=4)


def test_throughput_takes_the_best_batch_of_each_form():
    """ONNX Runtime: 8 / 60 us = 133,333/s at batch 8; C: 100,000/s at both; int8 loses too much accuracy."""
    rows = lenet_rows()
    rows[6] = row("native", f"{LENET}.fp32.c", 80e-6, 8)
    ranking = ranked("throughput", rows=rows)
    assert names(ranking)[0] == ("onnxruntime", "fp32", 8)
    assert ranking.rows[0].candidate.throughput_per_s == pytest.approx(133_333, rel=1e-4)
    ratio = ranking.rows[1].verdict.ratio  # time a sample: 10 us against 7.5 us
    assert ratio == pytest.approx(10 / 7.5)
    assert names(ranked("throughput", batch=1, rows=rows))[0] == ("native", "fp32", 1)


def test_offline_rows_take_part_in_throughput_only():
    rows = [row("eager", LENET, 100e-6), row("native", f"{LENET}.fp32.c", 50e-6, scenario="offline")]
    assert names(ranked("throughput", rows=rows))[0][0] == "native"
    assert names(ranked("latency", rows=rows)) == [("eager", "fp32", 1)]
    with pytest.raises(InputError, match="add --scenario single-stream"):
        ranked("latency", rows=rows[1:])


def test_memory_and_size():
    assert names(ranked("memory"))[0] == ("native", "fp32", 1)  # 40 MB; int8's 41 MB loses too much accuracy
    assert names(ranked("memory", ANY))[:2] == [("native", "fp32", 1), ("native", "int8", 1)]
    assert names(ranked("size"))[0] == ("onnxruntime", "int8", 1)  # 140 kB


def test_size_is_what_is_deployed_where_the_report_tells_it():
    rows = lenet_rows()
    rows[3] = {**rows[3], "deployed_bytes": 60_000, "engine_bytes": 1_000}
    ranking = ranked("size", rows=rows)
    assert names(ranking)[0] == ("native", "fp32", 1)
    assert ranking.rows[0].candidate.size_bytes == 60_000


def test_memory_within_a_hundredth_is_the_same_and_size_decides():
    rows = [
        row("native", f"{LENET}.fp32.c", 10e-6, memory_bytes=memory(40_000_000), artefact_bytes=2_000_000),
        row("native", f"{LENET}.int8.c", 20e-6, memory_bytes=memory(40_300_000), artefact_bytes=1_000_000),
        row("eager", LENET, 5e-6, memory_bytes=memory(40_500_000), artefact_bytes=500_000),
    ]
    ranking = ranked("memory", rows=rows)
    assert [one.tied for one in ranking.rows] == [True, True, False]  # 40.5 MB is 1.25 % more
    assert (names(ranking)[0], ranking.broken_by) == (("native", "int8", 1), "size")


def test_times_within_the_noise_are_a_tie_and_memory_decides():
    """3 % apart: below the 5 % by which two processes that run the same thing may differ."""
    rows = [
        row("onnxruntime", f"{LENET}.fp32.onnx", 10e-6, memory_bytes=memory(70_000_000)),
        row("native", f"{LENET}.fp32.c", 10.3e-6, memory_bytes=memory(40_000_000)),
        row("eager", LENET, 13e-6),
    ]
    ranking = ranked(rows=rows)
    assert [one.tied for one in ranking.rows] == [True, True, False]
    assert (names(ranking)[0][0], ranking.broken_by) == ("native", "memory")
    assert ranking.rows[1].verdict.word == "same"
    rows[1] = {**rows[1], "memory_bytes": memory(70_100_000), "artefact_bytes": 900_000}
    assert ranked(rows=rows).broken_by == "size"
    rows[1] = {**rows[1], "artefact_bytes": 1_000_000}
    level = ranked(rows=rows)
    assert (names(level)[0][0], level.broken_by) == ("onnxruntime", "latency")


def test_a_drop_is_held_against_the_source():
    """Without what the export says, eager's accuracy is the source's; without either, a row is left out."""
    rows = [{key: value for key, value in one.items() if key != "accuracy_reference"} for one in lenet_rows()]
    assert reasons(ranked(rows=rows)) == {"native lenet-mnist-10k.int8.c": ("drop 0.0150 > 0.01",)}
    without = ranked(rows=rows[1:])
    assert without.winner is None
    assert set(reasons(without).values()) == {("the accuracy of its source is not known",)}
    assert without.nearest is None
    assert ranked(rows=rows[1:], limits=ANY).winner is not None
    rows[3] = {**rows[3], "accuracy": None}
    assert reasons(ranked(rows=rows))["native lenet-mnist-10k.fp32.c"] == ("its accuracy is not known",)


def test_a_drop_that_is_the_limit_passes():
    """20 of 2,000 digits: 0.98 - 0.97 is a little more than 0.01 in floating point."""
    assert 0.98 - 0.97 > 0.01
    rows = [row("native", f"{LENET}.int8.c", 5e-6, accuracy=0.97)]
    assert len(ranked(rows=rows).rows) == 1


def test_each_limit_leaves_out_what_breaks_it():
    mebi = 1 << 20
    assert reasons(ranked(limits=Limits(0.01, max_memory_bytes=64 * mebi)))["eager lenet-mnist-10k"] == (
        "peak 500 MB > 67 MB (--max-memory 64MB)",
    )
    assert "size 1.60 MB > 1.05 MB (--max-size 1MB)" in reasons(ranked(limits=Limits(max_size_bytes=mebi)))[
        "native lenet-mnist-10k.fp32.c"
    ]  # fmt: skip
    found = reasons(ranked(limits=Limits(max_latency_s=25e-6)))
    assert found["onnxruntime lenet-mnist-10k.fp32.onnx"] == ("p50 30 us > 25 us",)
    found = reasons(ranked(limits=Limits(min_throughput_per_s=40_000)))
    assert found["eager lenet-mnist-10k"] == ("throughput 8,333/s < 40,000/s",)
    unknown = [row("native", f"{LENET}.fp32.c", 1e-5, memory_bytes={"peak": None}, artefact_bytes=None)]
    found = ranked(rows=unknown, limits=Limits(max_memory_bytes=mebi, max_size_bytes=mebi))
    assert reasons(found)["native lenet-mnist-10k.fp32.c"] == ("its peak is not known", "its size is not known")
    assert reasons(ranked("memory", rows=unknown))["native lenet-mnist-10k.fp32.c"] == ("its memory is not known",)


def test_the_nearest_miss_and_what_would_let_it_pass():
    """40 MB against 30 MiB is a third too much, 41 MB a little more; 40,000,000 / 2^20 = 38.1."""
    ranking = ranked(limits=Limits(max_memory_bytes=30 << 20))
    assert ranking.winner is None
    assert ranking.nearest.candidate.title == "native lenet-mnist-10k.fp32.c"
    assert ranking.nearest.options == "--max-memory 39MB"
    assert ranked(limits=Limits(max_memory_bytes=39 << 20)).winner is not None
    nearest = ranked(limits=Limits(max_latency_s=4.9e-6), rows=[lenet_rows()[4]]).nearest
    assert nearest.options == "--max-drop 0.015 --max-latency 5e-06"
    found = ranked(limits=Limits(0.015, max_latency_s=5e-6), rows=[lenet_rows()[4]])
    assert found.winner is not None
    slow = [row("eager", LENET, 1e-5, throughput_per_s=12_345.6)]
    assert ranked(limits=Limits(min_throughput_per_s=1e6), rows=slow).nearest.options == "--min-throughput 12300"
    slow = [row("eager", LENET, 1e-5, throughput_per_s=12_378.9)]
    assert ranked(limits=Limits(min_throughput_per_s=1e6), rows=slow).nearest.options == "--min-throughput 12300"


def test_a_row_that_breaks_one_limit_is_nearer_than_one_that_breaks_two():
    """One takes twice the time that is allowed; the other a hundredth more time, and a hundredth more memory."""
    rows = [
        row("native", f"{LENET}.fp32.c", 10.1e-6, memory_bytes=memory(101 << 20)),
        row("eager", LENET, 20e-6, memory_bytes=memory(90 << 20)),
    ]
    nearest = ranked(limits=Limits(max_memory_bytes=100 << 20, max_latency_s=10e-6), rows=rows).nearest
    assert (nearest.candidate.row["engine"], nearest.options) == ("eager", "--max-latency 2e-05")


def test_forms_on_several_data_sets_are_not_ranked_together():
    rows = [row("eager", LENET, 1e-5), row("eager", "lenet-fashion-mnist", 1e-5, source="c" * 64)]
    with pytest.raises(InputError, match="fits several networks .*: lenet-fashion-mnist, lenet-mnist-10k; name one"):
        candidates_of([report(*rows)], "lenet")
    candidates, _ = candidates_of([report(*rows)], "lenet-fashion-mnist")
    assert [one.row["artefact"] for one in candidates] == ["lenet-fashion-mnist"]


def test_of_several_weights_the_best_is_the_reference():
    """A network that was worse to begin with has lost 0.02, though its export lost nothing."""
    rows = [
        row("native", f"{LENET}.fp32.c", 10e-6),
        row("native", f"{LENET}.int8.c", 5e-6, source="c" * 64, accuracy=0.96, accuracy_reference=0.96),
    ]
    candidates, notes = candidates_of([report(*rows)], "lenet")
    assert [one.drop for one in candidates] == pytest.approx([0.0, 0.02])
    assert "2 different sets of weights" in notes[0]
    assert rank(candidates, "latency", Limits()).winner.row["artefact"] == f"{LENET}.fp32.c"


# --- several reports --------------------------------------------------------------------------------------------------


def test_times_of_several_reports_are_multiples_of_the_kernel():
    """In the second run the machine was half as fast: 16 us there are 8 us here, faster than 10 us by 1.25.

    The kernel's change is 100 %, so this is within the noise; the memory that decides is the other one's.
    """
    one = report(row("native", f"{LENET}.fp32.c", 10e-6, memory_bytes=memory(40_000_000)))
    two = report(row("onnxruntime", f"{LENET}.fp32.onnx", 16e-6, memory_bytes=memory(70_000_000)), kernel_s=320e-6)
    candidates, _ = candidates_of([one, two], "lenet")
    ranking = rank(candidates, "latency", Limits())
    assert ranking.rows[1].verdict.ratio == pytest.approx(0.8)
    assert ranking.rows[1].verdict.noise == pytest.approx(1.05, abs=0.02)
    assert ([row.tied for row in ranking.rows], ranking.broken_by) == ([True, True], "memory")
    steady = report(row("onnxruntime", f"{LENET}.fp32.onnx", 8e-6))
    candidates, _ = candidates_of([one, steady], "lenet")
    assert rank(candidates, "latency", Limits()).winner.row["engine"] == "onnxruntime"


def test_rows_of_several_reports_stand_in_the_order_of_those_multiples():
    """50 us where the kernel takes twice as long are 25 us here, and stand before 30 us."""
    one = report(row("native", f"{LENET}.int8.c", 1e-6), row("native", f"{LENET}.fp32.c", 30e-6))
    two = report(row("eager", LENET, 50e-6), kernel_s=320e-6)
    ranking = rank(candidates_of([one, two], "lenet")[0], "latency", Limits())
    assert names(ranking) == [("native", "int8", 1), ("eager", "fp32", 1), ("native", "fp32", 1)]


def test_a_row_of_two_reports_is_taken_from_the_later_one():
    old = report(row("eager", LENET, 120e-6), created="2026-11-21T12:00:00Z")
    new = report(row("eager", LENET, 100e-6), created="2026-11-22T12:00:00Z")
    for reports in ([old, new], [new, old]):
        candidates, notes = candidates_of(reports, "lenet")
        assert [one.p50_s for one in candidates] == pytest.approx([100e-6])
        assert "is in several reports: that of 2026-11-22T12:00:00Z counts" in notes[0]
        assert "ranked as multiples of the reference kernel" in notes[1]


def test_the_machines_change_may_be_told_for_each_row():
    pairs = [([1.0, 1.02] * 10, [1.3, 1.32] * 10)] * 2
    assert [verdict.word for verdict in verdicts(pairs, machine=[0.0, 0.5])] == ["slower", "same"]
