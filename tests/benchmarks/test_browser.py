"""The pages in a real browser: it draws every view of every plot, answers the mouse, fits, and asks for nothing."""

import itertools
import math

import pytest

from edgeline_bench.compare import compare_all
from edgeline_bench.compare_page import page_from_comparison
from edgeline_bench.page import page_from_report
from tests.benchmarks.browser import Page
from tests.benchmarks.made import made_report, with_roofline
from tests.benchmarks.reports import FIVE_ENGINES, full_report

pytestmark = pytest.mark.browser
NODE = "document.querySelector('#{} .plot')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, report in (("two", full_report()), ("five", full_report(FIVE_ENGINES)), ("old", made_report())):
        (folder / f"{name}.html").write_text(page_from_report(report), encoding="utf-8")
    reports = [with_roofline(made_report(seed, 1 + 0.1 * seed), 1 - 0.1 * seed) for seed in range(3)]
    for name, count in (("compared", 2), ("compared-three", 3)):
        comparison = compare_all([f"{title}.json" for title in "abc"[:count]], reports[:count])
        (folder / f"{name}.html").write_text(page_from_comparison(comparison), encoding="utf-8")
    return folder


@pytest.fixture
def opened(tab, written):
    """Open a page; at the end, see that nothing went wrong and nothing was asked for but its own file."""

    def open_page(name, **window):
        tab.console.clear()
        tab.requests.clear()
        tab.open(written / f"{name}.html", **window)
        return tab

    yield open_page
    assert tab.console == []
    assert {url for url in tab.requests if not url.startswith(("data:", "blob:"))} <= {
        page.as_uri() for page in written.iterdir()
    }


def choose(tab, plot, choice, value):
    tab.run(f"document.querySelector('#{plot} input[data-choice={choice}][value=\"{value}\"]').click()")
    tab.run("new Promise(done => setTimeout(done, 50))")


def points_in(tab, plot, mode="markers"):
    """How many points each line or bar of a plot has, as drawn, by its name."""
    return tab.run(
        f"""Object.fromEntries({NODE.format(plot)}.calcdata
        .filter(points => (points[0].trace.mode ?? "bar") === "{mode}")
        .map(points => [points[0].trace.name, points.filter(p => p.y !== undefined || p.s !== undefined).length]))"""
    )


def hover(tab, plot, point):
    """Move the pointer onto a point of a plot, given as a script, and return what appears there."""
    tab.run(f"{NODE.format(plot)}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    x, y = tab.run(
        f"(() => {{ const box = ({point}).getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    tab.move_mouse(x, y)
    tab.run("new Promise(done => setTimeout(done, 300))")
    (text,) = tab.run(f"[...{NODE.format(plot)}.querySelectorAll('.hovertext')].map(label => label.textContent)")
    return text


def test_every_plot_is_drawn(opened):
    tab = opened("two")
    plots = tab.run("plots.map(plot => plot.id)")
    assert plots == [
        "pareto", "roofline-networks", "roofline", "layers", "latency", "throughput", "memory-batch", "start",
        "memory-stages", "steadiness", "sweep",
    ]  # fmt: skip
    drawn = tab.run("plots.map(plot => plot.node.querySelectorAll('.trace').length)")
    # the front and 3 rows; twice 7 ceilings, 3 rows of points and their stems; 3 rows of bars and their ticks;
    # 3 lines and their percentiles; ...
    assert drawn == [4, 13, 13, 4, 6, 3, 3, 3, 3, 4, 2]
    assert points_in(tab, "roofline") == {"eager": 18, "onnxruntime fp32.onnx": 11, "onnxruntime int8.onnx": 11}
    assert tab.run(f"{NODE.format('roofline')}.querySelectorAll('.points path').length") == 40
    assert points_in(tab, "layers", "bar") == {"eager": 18, "onnxruntime fp32.onnx": 11, "onnxruntime int8.onnx": 11}
    assert set(points_in(tab, "throughput", "lines+markers").values()) == {3}


def test_the_choices_lead_to_their_views(opened):
    tab = opened("two")
    choose(tab, "roofline", "network", "lenet-mnist-10k")
    assert points_in(tab, "roofline") == {"eager": 11, "onnxruntime fp32.onnx": 7, "onnxruntime int8.onnx": 7}
    choose(tab, "roofline", "batch", "8")
    # conv2 alone takes 20 us: 3.84 M operations at 230 G/s are 16.7 us, at 80 % of the peak 20.9; a quarter in int8.
    assert points_in(tab, "roofline") == {"eager": 1, "onnxruntime fp32.onnx": 1}
    choose(tab, "roofline", "batch", "1")
    assert points_in(tab, "roofline") == {}
    note = tab.run("document.querySelector('#roofline .note').textContent")
    assert note.startswith("25 of 25 layers are not placed")
    # Only LeNet at batch 1 has a server row: whoever asks for it gets it, whatever else was chosen.
    choose(tab, "latency", "network", "alexnet-mnist-10k")
    choose(tab, "latency", "scenario", "server")
    checked = tab.run("[...document.querySelectorAll('#latency input:checked')].map(input => input.value)")
    assert checked == ["server", "lenet-mnist-10k", "1"]


def test_every_view_is_drawn_without_an_error(opened):
    tab = opened("five")
    count = tab.run("plots.reduce((sum, plot) => sum + plot.views.length, 0)")
    drawn = tab.run(
        """(async () => { let n = 0; for (const plot of plots) for (const i of plot.views.keys()) {
        await show(plot, i); n += plot.node.querySelectorAll('.trace').length > 0; } return n; })()"""
    )
    assert drawn == count


def test_hovering_over_a_layer_tells_all_about_it(opened):
    tab = opened("two")
    # The longest of eager's layers is conv2; its point is the largest.
    text = hover(
        tab,
        "roofline",
        f"""[...{NODE.format("roofline")}.querySelectorAll('.points path')].slice(0, 18)
        .reduce((a, b) => b.getBoundingClientRect().width > a.getBoundingClientRect().width ? b : a)""",
    )
    for part in (
        "Conv conv2",
        "on eager",
        "of the time",
        "attained",
        "roof 230 GFLOP/s",
        "efficiency 45%",
        "bound by compute",
    ):
        assert part in text


@pytest.mark.parametrize(("name", "others"), [("compared", 1), ("compared-three", 2)])
def test_a_comparison_is_drawn(opened, name, others):
    tab = opened(name)
    names = [f"{letter}.json" for letter in "abc"[: others + 1]]
    assert tab.run("plots.map(plot => plot.id)") == ["ratios", "rooflines"]
    assert points_in(tab, "ratios") == dict.fromkeys(names[1:], 4)
    assert tab.run(f"{NODE.format('ratios')}.querySelectorAll('.errorbar').length") == 4 * others
    rows = [f"{name}: {row}" for name in names for row in ("eager", "onnxruntime fp32.onnx")]
    assert points_in(tab, "rooflines") == dict.fromkeys(rows, 2)
    choose(tab, "rooflines", "batch", "1")
    assert points_in(tab, "rooflines") == dict.fromkeys(rows, 2)
    # A report's ceilings are one entry of the legend: four levels of memory and two precisions.
    tab.run("document.querySelector('#rooflines .series').click()")
    shown = tab.run(
        f"{NODE.format('rooflines')}.calcdata.map(p => p[0].trace).filter(t => t.visible && t.meta).map(t => t.name)"
    )
    assert shown == [f"ceilings of {name}" for name in names[1:] for _ in range(6)]
    colours = tab.run("[...document.querySelectorAll('td.bad')].map(cell => getComputedStyle(cell).color)")
    assert set(colours) == {"rgb(179, 38, 30)"}


def test_hovering_over_a_comparison(opened):
    tab = opened("compared")
    ratio = ("eager lenet-mnist-10k fp32 single-stream batch 1", "same", "ratio", "noise", "before", "in b.json")
    layer = ("Gemm fc1", "on b.json: onnxruntime fp32.onnx", "attained 7.2 GFLOP/s", "efficiency 50%")
    for plot, point, parts in (("ratios", 0, ratio), ("rooflines", -1, layer)):
        text = hover(tab, plot, f"[...document.querySelectorAll('#{plot} .points path')].at({point})")
        assert [part for part in parts if part not in text] == [], text


def test_the_legend_hides_and_shows(opened):
    tab = opened("two")
    button = "document.querySelector('#roofline .series')"
    assert tab.run(f"{button}.textContent") == "eager"
    tab.run(f"{button}.click()")
    assert tab.run(f"{button}.getAttribute('aria-pressed')") == "false"
    assert set(points_in(tab, "roofline")) == {"onnxruntime fp32.onnx", "onnxruntime int8.onnx"}
    tab.run(f"{button}.click()")
    assert set(points_in(tab, "roofline")) == {"eager", "onnxruntime fp32.onnx", "onnxruntime int8.onnx"}


@pytest.mark.parametrize("name", ["two", "five", "old", "compared", "compared-three"])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits(opened, name, dark, width):
    tab = opened(name, width=width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") == width
    # What is wider than its plot is cut off there: no plot may be.
    plots = "[...document.querySelectorAll('.plot')]"
    assert tab.run(
        f"{plots}.every(plot => plot.querySelector('.main-svg').getBoundingClientRect().width <= plot.clientWidth + 1)"
    )
    # The area of the data keeps most of a plot's width, however long the names are.
    shares = tab.run(f"{plots}.map(plot => plot._fullLayout._size.w / plot.clientWidth)")
    assert min(shares) > 0.55
    # Rows of a table lie in it; what is wider scrolls there.
    assert tab.run("[...document.querySelectorAll('.scroll')].every(part => part.clientWidth <= innerWidth)")
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 22, 27)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_lies_over_an_axis_title(opened, width):
    tab = opened("five", width=width)
    over = tab.run(
        """(() => { const box = e => e.getBoundingClientRect(), cut = (a, b) => a.left < b.right && b.left < a.right
        && a.top < b.bottom && b.top < a.bottom;
        return plots.filter(plot => { const title = plot.node.querySelector('.xtitle');
          const ticks = plot.node.querySelectorAll('.xtick text');
          const others = [plot.legend, plot.note, ...ticks].filter(e => box(e).height);
          return title && others.some(e => cut(box(title), box(e))); }).map(plot => plot.id); })()"""
    )
    assert over == []


@pytest.mark.parametrize("width", [390, 1280])
def test_names_of_ceilings_do_not_lie_over_each_other(opened, width):
    """At phone width the lines are so steep that names side by side would."""
    tab = opened("five", width=width)
    middles = tab.run(
        f"""[...{NODE.format("roofline")}.querySelectorAll('.annotation-text')]
        .filter(text => /B.s$/.test(text.textContent)).map(text => text.getBoundingClientRect())
        .map(box => [box.x + box.width / 2, box.y + box.height / 2])"""
    )
    assert len(middles) == 4
    assert min(math.dist(a, b) for a, b in itertools.combinations(middles, 2)) > 26  # at 22 they touch


def test_a_page_follows_its_window(opened):
    tab = opened("two", width=1280)
    tab.order("Emulation.setDeviceMetricsOverride", width=900, height=900, deviceScaleFactor=1, mobile=False)
    tab.run("new Promise(done => setTimeout(done, 1500))")
    assert tab.run("document.documentElement.scrollWidth") == 900
    assert 800 < tab.run(f"{NODE.format('roofline')}.querySelector('.main-svg').getBoundingClientRect().width") < 900
    tab.order("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    tab.run("new Promise(done => setTimeout(done, 500))")
    colour = tab.run(f"getComputedStyle({NODE.format('roofline')}.querySelector('.xtick text')).fill")
    assert colour == "rgb(231, 235, 240)"


def test_an_old_report_says_what_it_lacks(opened):
    tab = opened("old")
    assert "were not measured" in tab.run("document.querySelector('#roofline .absent').textContent")
    assert tab.run("document.querySelector('#roofline .plot')") is None
    assert tab.run("plots.length") == 7
