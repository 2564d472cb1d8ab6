"""The Pareto front by hand, and its plot and the networks' roofline on the page."""

import pytest

from edgeline_bench.pareto import OBJECTIVES, front_of, size_bytes
from edgeline_bench.plots.networks import ABSENT, networks_plot
from edgeline_bench.plots.pareto import pareto_plot
from tests.benchmarks.made import made_report
from tests.benchmarks.reports import FIVE_ENGINES, full_report


def row(name, latency, memory, size, accuracy=0.98):
    return {"artefact": name, "latency_s": {"p50": latency}, "memory_bytes": {"peak": memory}, "deployed_bytes": size,
            "artefact_bytes": 99, "accuracy": accuracy}  # fmt: skip


def front(*rows, **options):
    return "".join(r["artefact"] for r in front_of(rows, **options))


def test_a_row_is_on_the_front_unless_another_is_as_good_and_better_in_one():
    fast, small, worse, same = row("a", 1, 9, 9), row("b", 2, 5, 5), row("c", 3, 5, 6), row("d", 1, 9, 9)
    assert front(fast, small) == "ab"
    assert front(fast, small, worse) == "ab"
    assert front(fast, same) == "ad"  # neither is better than the other
    assert front(row("e", 3, 5, 6, accuracy=0.99), small) == "eb"  # what it loses in speed it has in accuracy


def test_differences_that_a_run_cannot_tell_are_none():
    best = row("a", 100, 100, 100)
    assert front(best, row("b", 104, 100.9, 100.9, accuracy=0.9815)) == "ab"  # the same in everything
    assert front(best, row("b", 106, 99.5, 99.5, accuracy=0.9815)) == "a"  # slower, and the rest is no reason
    assert front(best, row("b", 106, 98, 100)) == "ab"
    assert front(best, row("b", 106, 100, 100, accuracy=0.983)) == "ab"


def test_what_is_not_known_is_on_no_front():
    assert front(row("a", 1, None, 1), row("b", 2, 2, 2)) == "b"
    assert front(row("a", 1, 1, 1, accuracy=None)) == ""
    assert front(row("a", 1, None, 1), row("b", 2, 2, 2), objectives=(OBJECTIVES[0],)) == "a"


def test_a_report_of_before_has_the_size_of_the_whole_artefact():
    assert size_bytes({"artefact_bytes": 7}) == 7
    assert size_bytes({"artefact_bytes": 7, "deployed_bytes": 3}) == 3
    assert size_bytes({"artefact_bytes": 7, "deployed_bytes": 0}) == 0


# --- on the page ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report():
    return full_report(FIVE_ENGINES, networks=("lenet-mnist-10k",), batches=(1, 8))


def test_each_batch_size_has_a_view_against_each_quantity(report):
    plot = pareto_plot(report)
    found = [(view.choices["batch"], view.choices["against"]) for view in plot.views]
    assert found == [(batch, what) for batch in ("1", "8") for what in ("memory", "size", "accuracy")]


def test_who_is_on_the_front_is_filled(report):
    view = pareto_plot(report).views[0]
    points = [trace for trace in view.figure.data if trace.mode == "markers"]
    rows = [r for r in report["results"] if r["batch"] == 1 and r["scenario"] == "single-stream"]
    assert len(points) == len(rows) == 6
    best = front_of(rows)
    assert 1 <= len(best) < len(rows)
    filled = {point.legendgroup for point in points if not point.marker.symbol.endswith("-open")}
    assert filled == {f"{r['engine']} {r['artefact']}" for r in best}
    assert all(("on the front" in point.text[0]) == (point.legendgroup in filled) for point in points)


def test_the_line_is_the_front_of_the_two_quantities(report):
    view = pareto_plot(report).views[0]
    (line,) = (trace for trace in view.figure.data if trace.mode == "lines")
    assert list(line.x) == sorted(line.x)
    assert list(line.y) == sorted(line.y, reverse=True)


def test_whole_networks_stand_under_the_roofline_with_stems_to_their_light(report):
    plot = networks_plot(report)
    view = plot.views[plot.start]
    rows = [r for r in report["results"] if r["batch"] == 8 and r["scenario"] == "single-stream"]
    points = {t.legendgroup: t for t in view.figure.data if t.mode == "markers"}
    stems = {t.legendgroup: t for t in view.figure.data if t.mode == "lines" and t.legendgroup}
    for r in rows:
        key = f"{r['engine']} {r['artefact']}"
        assert points[key].x[0] == pytest.approx(r["work"]["flops"] / r["work"]["bytes"])
        assert points[key].y[0] == pytest.approx(r["work"]["flops"] / r["latency_s"]["p50"])
        assert stems[key].y[1] / stems[key].y[0] == pytest.approx(r["latency_s"]["p50"] / r["speed_of_light_s"]["warm"])


def test_without_ceilings_it_says_so():
    assert networks_plot(made_report()).absent == ABSENT
