"""The page in a real browser: it draws every view of every plot, answers the mouse, fits, and asks for nothing."""

import pytest

from edgeline_bench.page import page_from_report
from tests.benchmarks.browser import Page
from tests.benchmarks.reports import FIVE_ENGINES, full_report
from tests.benchmarks.test_report_and_compare import made_report

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
        (written / f"{name}.html").as_uri() for name in ("two", "five", "old")
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


def test_every_plot_is_drawn(opened):
    tab = opened("two")
    plots = tab.run("plots.map(plot => plot.id)")
    assert plots == [
        "roofline", "layers", "latency", "throughput", "memory-batch", "start", "memory-stages", "steadiness", "sweep",
    ]  # fmt: skip
    drawn = tab.run("plots.map(plot => plot.node.querySelectorAll('.trace').length)")
    # 7 ceilings, 3 rows of points and their stems; 3 rows of bars and their ticks; 3 lines and their percentiles; ...
    assert drawn == [13, 4, 6, 3, 3, 3, 3, 4, 2]
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
    tab.run(f"{NODE.format('roofline')}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    # The longest of eager's layers is conv2; its point is the largest.
    x, y = tab.run(
        f"""(() => {{ const points = [...{NODE.format("roofline")}.querySelectorAll('.points path')].slice(0, 18)
        .map(path => path.getBoundingClientRect()).sort((a, b) => b.width - a.width);
        return [points[0].x + points[0].width / 2, points[0].y + points[0].height / 2]; }})()"""
    )
    tab.move_mouse(x, y)
    tab.run("new Promise(done => setTimeout(done, 300))")
    (text,) = tab.run(f"[...{NODE.format('roofline')}.querySelectorAll('.hovertext')].map(label => label.textContent)")
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


def test_the_legend_hides_and_shows(opened):
    tab = opened("two")
    button = "document.querySelector('#roofline .series')"
    assert tab.run(f"{button}.textContent") == "eager"
    tab.run(f"{button}.click()")
    assert tab.run(f"{button}.getAttribute('aria-pressed')") == "false"
    assert set(points_in(tab, "roofline")) == {"onnxruntime fp32.onnx", "onnxruntime int8.onnx"}
    tab.run(f"{button}.click()")
    assert set(points_in(tab, "roofline")) == {"eager", "onnxruntime fp32.onnx", "onnxruntime int8.onnx"}


@pytest.mark.parametrize("name", ["two", "five", "old"])
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
    assert tab.run("plots.length") == 6
