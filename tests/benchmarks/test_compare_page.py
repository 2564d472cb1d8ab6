"""The comparison's page, without a browser: what its plots and tables hold, and that it needs nothing from outside."""

import json
import re

import pytest

from edgeline_bench import compare_plots, compare_text
from edgeline_bench.compare import compare_all
from edgeline_bench.compare_page import page_from_comparison
from edgeline_bench.compare_rooflines import ceilings_table, rooflines_plot
from tests.benchmarks.made import changed, made_report, with_roofline


def comparison(*reports, across_hosts=False):
    return compare_all([f"{name}.json" for name in "abcdef"[: len(reports)]], reports, across_hosts=across_hosts)


def two():
    return comparison(with_roofline(made_report()), with_roofline(made_report(1, factor=1.2), 0.9))


def ours(page):
    """The page without plotly's own script, whose text names its licences' URLs."""
    return re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.S)


def test_it_needs_nothing_from_outside():
    text = ours(page_from_comparison(two()))
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text)
    assert "http" not in text
    assert text.count('class="plot"') == 2


def test_the_forest_shows_ratios_intervals_and_noise():
    found = two()
    noise, ratios = compare_plots.forest_figure(found).data
    verdicts = [row.verdict for row in found.rows[0]]
    assert list(ratios.x) == [verdict.ratio for verdict in verdicts]
    assert [x + e for x, e in zip(ratios.x, ratios.error_x.array, strict=True)] == pytest.approx(
        [verdict.ci95[1] for verdict in verdicts]
    )
    assert [x - e for x, e in zip(ratios.x, ratios.error_x.arrayminus, strict=True)] == pytest.approx(
        [verdict.ci95[0] for verdict in verdicts]
    )
    assert list(ratios.marker.symbol) == ["circle", "circle", "triangle-right", "triangle-right"]
    assert [x for x in noise.x if x is not None][1::2] == [1 + verdict.noise for verdict in verdicts]
    assert "<b>slower</b>" in ratios.text[2]


def test_both_rooflines_are_in_one_plot():
    plot = rooflines_plot(two())
    assert [dict(view.choices) for view in plot.views] == [
        {"network": "lenet-mnist-10k", "batch": "1"},
        {"network": "lenet-mnist-10k", "batch": "8"},
    ]
    figure = plot.views[0].figure
    points = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert set(points) == {
        "a.json: eager", "a.json: onnxruntime fp32.onnx", "b.json: eager", "b.json: onnxruntime fp32.onnx",
    }  # fmt: skip
    # Two of a row's three layers are placed; the other report's machine is 0.9 times as fast.
    assert list(points["a.json: eager"].x) == list(points["b.json: eager"].x) == [20.0, 0.5]
    assert list(points["a.json: eager"].y) == [5e10, 8e9]
    assert list(points["b.json: eager"].y) == pytest.approx([4.5e10, 7.2e9])
    assert "Gemm fc1" in points["a.json: eager"].text[1]
    colours = [points[f"{name}.json: eager"].marker.color for name in "ab"]
    assert colours[0] != colours[1]
    # The ridge of DRAM's line is the highest peak over its bandwidth.
    for name, scale, colour in (("a", 1.0, colours[0]), ("b", 0.9, colours[1])):
        (dram,) = [t for t in figure.data if t.name == f"ceilings of {name}.json" and t.meta == "ceiling DRAM"]
        assert dram.line.color == colour
        assert (dram.x[1], dram.y[1]) == pytest.approx((4e11 / 2e10, 4e11 * scale))
        assert dram.y[0] / dram.x[0] == pytest.approx(2e10 * scale)
    # 0.9 is too close for names of the second machine's own
    assert [a.text for a in figure.layout.annotations] == [
        "L1 200 GB/s", "L2 100 GB/s", "L3 40 GB/s", "DRAM 20 GB/s", "int8 400 GOP/s", "fp32 100 GFLOP/s",
    ]  # fmt: skip
    table = ceilings_table(two())
    assert table.heading == ("ceiling", "a.json", "b.json")
    assert table.cells[0] == ("fp32 arithmetic", "100 GFLOP/s", "90 GFLOP/s")
    assert table.cells[-1] == ("read from DRAM", "20 GB/s", "18 GB/s")


def test_a_roofline_that_was_not_measured_is_said():
    one = page_from_comparison(comparison(with_roofline(made_report()), made_report(1)))
    assert "Roofline of b.json: not measured." in one
    assert len(drawn_in(one)) == 2
    none = page_from_comparison(comparison(made_report(), made_report(1)))
    assert none.count(": not measured.") == 2
    assert "No layer of these reports was placed under a roofline." in none
    assert drawn_in(none) == ["ratios"]


def drawn_in(page):
    records = json.loads(re.search(r'<script type="application/json" id="plots">(.*?)</script>', page).group(1))
    return [record["id"] for record in records]


def test_verdicts_have_their_colour():
    page = page_from_comparison(two())
    assert page.count('<td class="figure bad">slower</td>') == 2
    assert page.count('<td class="figure">same</td>') == 2
    faster = page_from_comparison(comparison(*[made_report(seed, factor=1 - 0.2 * seed) for seed in range(3)]))
    assert faster.count('<td class="figure good">faster</td>') == 4
    assert len(re.findall(r'<td class="figure good">[^<]* faster</td>', faster)) == 4  # side by side


def test_a_title_that_is_too_long_for_a_phone_has_two_lines():
    def named(seed):
        return changed(made_report(seed), "results", 3, "artefact", value="a-network-of-a-rather-long-name.int8.onnx")

    found = comparison(
        named("a-network-of-a-rather-long-name.int8.onnx", 0), named("a-network-of-a-rather-long-name.int8.onnx", 1)
    )
    titles = [a.text for a in compare_plots.forest_figure(found).layout.annotations]
    assert titles[3] == "onnxruntime a-network-of-a-rather-long-name.int8.onnx,<br>batch 8"


def test_rows_without_a_verdict_are_drawn_open():
    figure = compare_plots.forest_figure(comparison(made_report(rounds=5), made_report(1)))
    assert list(figure.data[1].marker.symbol) == ["circle-open"] * 4
    assert list(figure.data[0].x) == []


@pytest.mark.parametrize(("factor", "highest"), [(1.0, 1.2), (1.15, 2.0), (40.0, 128.0)])
def test_the_axis_has_ticks_on_both_sides_of_one(factor, highest):
    figure = compare_plots.forest_figure(comparison(made_report(), made_report(1, factor=factor)))
    ticks = figure.layout.xaxis.tickvals
    assert 1.0 in ticks
    assert min(ticks) < 1 < max(ticks) <= highest
    assert 5 <= len(ticks) <= 15


def test_text_is_escaped_and_the_label_is_there():
    named = changed(made_report(1), "fingerprint", "cpu", value="<script>alert(1)</script>")
    page = page_from_comparison(comparison(made_report(), named, across_hosts=True))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<strong>ACROSS HOSTS</strong>" in page
    assert page.count(compare_text.ACROSS_HOSTS) == 1


def test_markdown_and_json_carry_the_same_figures():
    found = two()
    text, record = compare_text.markdown(found), json.loads(json.dumps(compare_text.record(found)))
    for row in record["comparisons"][0]["rows"]:
        (line,) = [
            line for line in text.splitlines()
            if line.startswith(f"| {row['engine']} | {row['artefact']} | single-stream | {row['batch']} |")
        ]  # fmt: skip
        low, high = row["ci95"]
        assert f"| {row['ratio']:.3f} | {low:.3f} to {high:.3f} |" in line
        assert line.endswith(f"| {row['verdict']} |")
