"""The comparison's page: whole, self-contained, and drawn in a real browser."""

import json
import re
import shutil
import subprocess

import pytest

from edgeline_bench import compare_plots
from edgeline_bench.compare import compare_all
from edgeline_bench.compare_page import page_from_comparison
from tests.benchmarks.made import changed, made_report, with_roofline
from tests.benchmarks.test_page_in_browser import FLAGS


def comparison(*reports, across_hosts=False):
    return compare_all([f"{name}.json" for name in "abcdef"[: len(reports)]], reports, across_hosts=across_hosts)


def two():
    return comparison(with_roofline(made_report()), with_roofline(made_report(1, factor=1.2), 0.9))


def ours(page):
    """The page without plotly's own script, whose text names its licences' URLs."""
    return re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.S)


def test_it_needs_nothing_from_outside():
    text = ours(page_from_comparison(two()))
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", text)
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
    figure = compare_plots.roofline_figure(two())
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert set(named) == {"ceilings of a.json", "ceilings of b.json", "a.json", "b.json"}
    # Two of a row's three layers are placed, in four rows; the ridge of DRAM's line is peak over bandwidth.
    assert list(named["a.json"].x) == [20.0, 0.5] * 4
    assert list(named["a.json"].y) == [5e10, 8e9] * 4
    ceilings = named["ceilings of a.json"]
    ends = [(x, y) for x, y, text in zip(ceilings.x, ceilings.y, ceilings.text, strict=True) if "DRAM" in text]
    assert ends[1] == pytest.approx((4e11 / 2e10, 4e11))
    assert ends[0][1] / ends[0][0] == pytest.approx(2e10)
    assert "a.json: fp32 peak, 100 GFLOP/s" in ceilings.text
    assert "Gemm fc1" in named["a.json"].text[1]


def test_a_roofline_that_was_not_measured_is_said():
    one = page_from_comparison(comparison(with_roofline(made_report()), made_report(1)))
    assert "Roofline of b.json: not measured." in one
    assert 'id="plot1"' in one
    none = page_from_comparison(comparison(made_report(), made_report(1)))
    assert none.count(": not measured.") == 2
    assert 'id="plot1"' not in none


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
    assert "<p class='label'>ACROSS HOSTS</p>" in page


@pytest.mark.browser
@pytest.mark.parametrize("count", [2, 3])
def test_it_draws_without_an_error(tmp_path, count):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed (Debian: chromium)")
    page = tmp_path / "comparison.html"
    reports = [with_roofline(made_report(seed, 1 + 0.1 * seed)) for seed in range(count)]
    page.write_text(page_from_comparison(comparison(*reports)))
    argv = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert not re.findall(r"CONSOLE.*(?:Uncaught|Error|Refused|Failed)", result.stderr)
    drawn = re.sub(r"<script>.*?</script>", "", result.stdout, flags=re.S)
    forest, roofline = re.split(r'id="plot\d"', drawn)[1:]
    assert len(re.findall(r'class="point"', forest)) == 4 * (count - 1)
    assert len(re.findall(r'class="errorbar"', forest)) == 4 * (count - 1)
    assert len(re.findall(r'class="point"', roofline)) == 8 * count


def test_markdown_and_json_carry_the_same_figures():
    from edgeline_bench import compare_text

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
