"""The page's content, without a browser: what it says, what its plots hold, and that it needs nothing from outside."""

import copy
import html
import json
import re

import plotly.graph_objects as go
import pytest

from edgeline_bench.markdown import markdown_from_report
from edgeline_bench.page import page_from_report
from edgeline_bench.plots import all_plots, quantities
from edgeline_bench.plots.ceilings import Ceilings, Frame, Machine, add_ceilings, ceilings_of
from edgeline_bench.plots.layers import rows_of
from edgeline_bench.plots.roofline import ABSENT, hover_text
from edgeline_bench.plots.series import styles_of
from tests.benchmarks.reports import FIVE_ENGINES, ONNXRUNTIME, full_report, layers_of
from tests.benchmarks.test_report_and_compare import made_report

PLOTS = ["pareto", "roofline-networks", "roofline", "layers", "latency", "throughput", "memory-batch", "start",
         "memory-stages", "steadiness", "sweep"]  # fmt: skip


@pytest.fixture(scope="module")
def report():
    return full_report()


def view_of(plot, **choices):
    (view,) = (view for view in plot.views if dict(view.choices) == choices)
    return view


def records_of(page):
    return json.loads(re.search(r'<script type="application/json" id="plots">(.*?)</script>', page).group(1))


# --- the page ---------------------------------------------------------------------------------------------------------


def test_it_needs_nothing_from_outside(report):
    page = page_from_report(report)
    # plotly's own text names its licences' addresses
    ours = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.S)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", ours)
    assert "http" not in ours
    assert not re.findall(r"@import|url\(", ours)
    assert [record["id"] for record in records_of(page)] == PLOTS


def test_it_says_what_the_report_says(report):
    page = page_from_report(report)
    assert "<strong>VALID</strong>" in page
    for word in report["words"]:
        assert word["question"].replace("'", "&#x27;") in page
        lead, colon, rest = word["answer"].partition(": ")
        assert (f"<dd><span>{lead}:</span> {rest}</dd>" if colon else word["answer"]) in page
    assert page.index("In words") < page.index("What bounds it") < page.index("Machine and protocol")
    assert "Ceilings of this machine" in page


def test_every_reason_of_an_invalid_report_is_told(report):
    reasons = ["the machine drifted by +12%", "the fp32 ceiling moved by 14 %"]
    page = page_from_report({**report, "valid": False, "invalid_reasons": reasons})
    assert "<strong>INVALID</strong>" in page
    assert all(f"<li>{reason}</li>" in page for reason in reasons)


def test_text_is_escaped(report):
    evil = copy.deepcopy(report)
    evil["fingerprint"]["cpu"] = "<script>alert(1)</script>"
    for result in evil["results"]:
        if result["engine"] == "onnxruntime":
            result["artefact"] = "</script><script>alert(2)</script>"
    page = page_from_report(evil)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_report_of_before_the_roofline_says_so():
    page = page_from_report(made_report())
    assert page.count(html.escape(ABSENT)) == 2  # in the plot's place, and in that of the ceilings' table
    assert "No engine of this report was timed layer by layer." in page
    assert "In words" not in page
    assert [r["id"] for r in records_of(page)] == [
        name for name in PLOTS if name not in {"roofline-networks", "roofline", "layers", "sweep"}
    ]


def test_what_could_not_be_read_is_left_out_and_the_rest_is_there(report):
    bare = copy.deepcopy(report)
    del bare["words"]
    bare["roofline"].update(compiler=None, sweep=None, stability=None, levels_bytes=None)
    del bare["roofline"]["ceilings"]["bandwidth_threads"]
    for result in bare["results"]:
        result["memory_bytes"] = dict.fromkeys(result["memory_bytes"])
        result["latency_s"]["p99"] = None
        result.update(speed_of_light_s=None, layer_profile=None, accuracy=None)
        del result["energy"]
        for layer in result["layers"]:
            layer["level"] = None
            if layer["operators"][0] == "MaxPool":  # as of a layer that only moves bytes, in no time
                layer.update(dict.fromkeys(("intensity", "attained_flops_per_s", "roof_flops_per_s", "efficiency")))
    page = page_from_report(bare)
    assert "Peak memory was not readable on this machine." in page
    assert "No sweep over the working set was measured" in page
    assert {"roofline", "layers", "latency"} <= {r["id"] for r in records_of(page)}


def test_reasons_beyond_the_first_are_folded_away(report):
    page = page_from_report({**report, "valid": False, "invalid_reasons": [f"reason {i}" for i in range(7)]})
    assert "<li>reason 4</li></ul><details><summary>and 2 more</summary><ul" in page


def test_lines_of_an_answer_are_paragraphs(report):
    answer = {"question": "Which?", "answer": "eager, batch 1: conv1.\nAll of it. And so: on."}
    page = page_from_report({**report, "words": [answer]})
    assert "<dd><span>eager, batch 1:</span> conv1.</dd><dd>All of it. And so: on.</dd>" in page
    text = markdown_from_report({**report, "words": [answer]})
    assert "**Which?**\n\n- eager, batch 1: conv1.\n- All of it. And so: on.\n" in text


# --- plots ------------------------------------------------------------------------------------------------------------


def test_the_roofline_has_a_point_for_each_placed_layer(report):
    plot = all_plots(report)["roofline"]
    assert dict(plot.views[plot.start].choices) == {"network": "alexnet-mnist-10k", "batch": "64"}
    assert len(plot.views) == 6
    # AlexNet has 11 layers where activations are fused and 18 where not; at batch 64 all are placed.
    view = view_of(plot, network="alexnet-mnist-10k", batch="64")
    points = {t.name: len(t.x) for t in view.figure.data if t.mode == "markers"}
    assert points == {"eager": 18, "onnxruntime fp32.onnx": 11, "onnxruntime int8.onnx": 11}
    assert view.note == "Dotted: bf16, which no layer here is computed in."
    # LeNet at batch 1 takes 15 us at most: nothing to place, and the plot says so.
    view = view_of(plot, network="lenet-mnist-10k", batch="1")
    assert not [t for t in view.figure.data if t.mode == "markers"]
    assert view.note.startswith("25 of 25 layers are not placed: they take under 20 us at a batch below 64")


def test_the_ceilings_are_drawn_to_where_they_meet(report):
    figure = view_of(all_plots(report)["roofline"], network="alexnet-mnist-10k", batch="64").figure
    assert [a.text for a in figure.layout.annotations] == [
        "L1 800 GB/s", "L2 190 GB/s", "L3 90 GB/s", "DRAM 42 GB/s", "int8 920 GOP/s", "bf16 460 GFLOP/s",
        "fp32 230 GFLOP/s",
    ]  # fmt: skip
    lines = {t.name: t for t in figure.data if t.meta}
    # two threads of 460 G operations/s over two of 21 GB/s
    assert lines["DRAM"].x[1] == pytest.approx(920 / 42)
    assert lines["DRAM"].y[1] == pytest.approx(920e9)
    assert lines["fp32"].x[0] == pytest.approx(230 / 800)
    assert lines["bf16"].line.dash == "dot"


def named_ceilings(*machines):
    figure = go.Figure()
    add_ceilings(figure, machines, Frame(0.01, 1e3, 1e8, 1e12), {"fp32"})
    return [annotation.text for annotation in figure.layout.annotations]


def test_ceilings_too_close_for_two_names_share_one():
    """The plane is four decades high, a name 5 % of it: two names need a factor of 10 ** 0.2 = 1.58 between them."""
    machine = Machine(Ceilings({"fp32": 1e11, "bf16": 1.1e11}, {"L2": 1e11, "L3": 6e10, "DRAM": 2e10}))
    assert named_ceilings(machine) == [
        "L2 100 GB/s", "L3 60 GB/s", "DRAM 20 GB/s", "bf16 110 GFLOP/s, fp32 100 GFLOP/s",
    ]  # fmt: skip
    machine = Machine(Ceilings({"fp32": 1e11}, {"L2": 1e11, "L3": 6.4e10, "DRAM": 2e10}))
    assert named_ceilings(machine) == ["L2 100 GB/s, L3 64 GB/s", "DRAM 20 GB/s", "fp32 100 GFLOP/s"]


def test_a_ceiling_close_to_that_of_an_earlier_machine_is_not_named_again():
    old = Machine(Ceilings({"fp32": 1e11}, {"L2": 1e11, "DRAM": 2e10}), "old.json")
    new = Machine(Ceilings({"fp32": 1.01e11}, {"L2": 2e11, "DRAM": 2.2e10}), "new.json")
    assert named_ceilings(old, new) == ["L2 100 GB/s", "DRAM 20 GB/s", "new.json: L2 200 GB/s", "fp32 100 GFLOP/s"]


def test_ceilings_are_those_of_the_run_s_threads(report):
    assert ceilings_of(report).flops["fp32"] == 230e9
    one = copy.deepcopy(report)
    one["protocol"]["threads"] = 1
    assert ceilings_of(one).flops["fp32"] == 115e9
    one["roofline"]["ceilings"]["flops"] = {"fp16": {"device": 9e14}}  # a GPU has no threads
    assert ceilings_of(one).flops == {"fp16": 9e14}


def test_a_precision_without_a_peak_is_under_that_of_fp32(report):
    half = copy.deepcopy(report)
    for result in half["results"]:
        for layer in result["layers"]:
            layer["precision"] = "fp16"
    view = view_of(all_plots(half)["roofline"], network="alexnet-mnist-10k", batch="64")
    assert view.note == "Dotted: bf16, int8, which no layer here is computed in."


def test_time_that_belongs_to_no_layer_is_told(report):
    copied = copy.deepcopy(report)
    for result in copied["results"]:
        if result["engine"] == "eager" and result["layer_profile"]:
            result["layer_profile"] = {
                "method": "hooks",
                "scale": 0.5,
                "calls": 9,
                "unmatched": [{"name": "copy", "time_s": 2e-3}, {"name": "x", "time_s": 1e-3}],
            }
    note = view_of(all_plots(copied)["layers"], network="alexnet-mnist-10k", batch="8").note
    assert "eager (hooks) by 0.50" in note
    assert note.endswith("Not shown, since they belong to no layer of the graph: eager 3 ms.")


def test_an_exempt_layer_is_hollow():
    figure = view_of(all_plots(full_report(FIVE_ENGINES))["roofline"], network="alexnet-mnist-10k", batch="64").figure
    marks = {t.name: t.marker.symbol for t in figure.data if t.mode == "markers"}
    assert [sum("open" in mark for mark in marks[name]) for name in marks] == [0, 0, 0, 1, 0, 0]


def test_what_hovering_over_a_layer_says():
    """conv2 at batch 1: 2 x 415,334,400 operations; 614,656 weights, 64,896 in and 173,056 out, of 4 bytes each."""
    conv2 = next(layer for layer in layers_of("alexnet-mnist-10k", ONNXRUNTIME, 1, 2) if "conv2" in layer["nodes"])
    lines = hover_text(conv2, "onnxruntime fp32.onnx").split("<br>")
    assert lines[:2] == ["<b>Conv+Relu conv2</b>", "on onnxruntime fp32.onnx"]
    # 830.7e6 / 230e9 = 3.61 ms at the peak, 4.51 ms at 80 % of it
    assert lines[2].startswith("4.51 ms, ")
    assert lines[3] == "831 M operations, 3.41 M bytes: 244 a byte"
    assert lines[4] == "attained 184 GFLOP/s in fp32"
    assert lines[5] == "roof 230 GFLOP/s (3.61 ms)"
    assert lines[6] == "efficiency 80%, bound by compute"
    labelled = hover_text({**conv2, "label": "conv2"}, "onnxruntime fp32.onnx").split("<br>")
    assert labelled[:3] == ["<b>conv2</b>", "Conv+Relu conv2", "on onnxruntime fp32.onnx"]


def test_layers_that_some_engine_fuses_share_a_row():
    def layer(*nodes, name="", operators=("Op",)):
        return {"nodes": list(nodes), "name": name, "operators": list(operators)}

    apart = [layer("a"), layer("b"), layer("c"), layer(name="reorder")]
    fused = [layer("a", "b", operators=("Conv", "Relu")), layer("c")]
    rows = rows_of([fused, apart])
    assert [{i: len(layers) for i, layers in row.layers.items()} for row in rows] == [
        {0: 1, 1: 2},
        {0: 1, 1: 1},
        {1: 1},
    ]
    assert rows[0].title == "Conv + Relu<br><i>a</i>"
    fused[0]["label"] = "conv1"
    assert rows_of([fused, apart])[0].title == "conv1<br><i>Conv + Relu</i>"


def test_a_layer_that_one_engine_alone_has_stands_where_it_is_in_the_graph():
    def layers(*nodes):
        return [{"nodes": [node], "name": node, "operators": [node], "label": node} for node in nodes]

    rows = rows_of([layers("conv1", "relu1", "pool1", "fc1"), layers("quantise1", "conv1", "cast1", "fc1")])
    assert [row.title.split("<br>")[0] for row in rows] == ["quantise1", "conv1", "cast1", "relu1", "pool1", "fc1"]


def test_bars_hold_the_layers_times(report):
    figure = view_of(all_plots(report)["layers"], network="alexnet-mnist-10k", batch="64").figure
    eager, onnxruntime, _, light = figure.data
    assert (len(eager.x), len(onnxruntime.x), len(light.x)) == (18, 11, 33)
    (result,) = (
        r for r in report["results"] if r["engine"] == "eager" and r["batch"] == 64 and "alex" in r["artefact"]
    )
    assert sum(eager.x) == pytest.approx(sum(layer["time_s"] for layer in result["layers"]) * 1e3)
    assert len(figure.layout.yaxis.ticktext) == 11


def test_withheld_percentiles_have_no_mark():
    view = all_plots(made_report())["latency"].views[0]
    marks = [list(t.text) for t in view.figure.data if t.mode == "markers"]
    assert [[text.split(":")[0] for text in texts] for texts in marks] == [["p50", "p90"], ["p50", "p90"]]


def test_each_scenario_has_its_latencies(report):
    choices = [view.choices["scenario"] for view in all_plots(report)["latency"].views]
    assert choices.count("single-stream") == 6
    assert choices.count("server") == choices.count("offline") == 1


def test_every_view_says_in_words_what_it_shows(report):
    for plot in all_plots(report).values():
        for view in plot.views:
            assert len(view.alt) > 40
            assert re.search(r"\d", view.alt)


# --- names and figures ------------------------------------------------------------------------------------------------


def test_names():
    report = full_report(FIVE_ENGINES)
    styles = styles_of(report)
    names = dict.fromkeys(styles.name(r) for r in report["results"])
    assert list(names) == [
        "eager", "onnxruntime fp32.onnx", "onnxruntime int8.onnx", "openvino bf16-with-a-rather-lo...", "native fp32.c",
        "torch-compile fp32",
    ]  # fmt: skip
    assert list(styles.networks.values()) == ["lenet-mnist-10k", "alexnet-mnist-10k"]


def test_a_network_without_eager_is_named_after_its_artefacts():
    styles = styles_of(full_report((FIVE_ENGINES[1], FIVE_ENGINES[2])))
    assert list(styles.networks.values()) == ["lenet-mnist-10k", "alexnet-mnist-10k"]


def test_quantities():
    assert quantities.operations_rate(115.2e9, "fp32") == "115 GFLOP/s"
    assert quantities.operations_rate(0.9996e12, "int8") == "1 TOP/s"
    assert quantities.bytes_rate(20.2e9) == "20.2 GB/s"
    assert quantities.capacity(49152) == "48 KiB"
    assert quantities.capacity(32 << 20) == "32 MiB"
    assert quantities.count(26_218_496) == "26.2 M"
    assert quantities.time_unit([0.002, 0.4]) == ("ms", 1e-3)
    assert quantities.log_ticks([30, 250]) == ([20, 50, 100, 200], ["20", "50", "100", "200"])
    assert quantities.log_ticks([1, 9000]) == ([1, 10, 100, 1000, 10000], ["1", "10", "100", "1,000", "10,000"])
