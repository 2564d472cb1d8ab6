"""The tables of a report and where they stand: by hand arithmetic, and only with the columns that some row fills."""

import copy
import html

import pytest

from edgeline_bench import instrument_tables, tables
from edgeline_bench.markdown import markdown_from_report
from edgeline_bench.page import page_from_report
from edgeline_bench.plots.series import styles_of
from tests.benchmarks.reports import full_report


@pytest.fixture(scope="module")
def report():
    return full_report()


def test_tables_by_hand(report):
    ceilings = instrument_tables.ceilings_table(report)
    assert ceilings.heading == ("ceiling", "1 thread", "2 threads", "before the run", "after", "apart")
    # 20.2 of 21 GB/s is 3.8 % less
    assert ceilings.cells[-1] == ("read from DRAM", "21 GB/s", "42 GB/s", "21 GB/s", "20.2 GB/s", "3.8%")
    assert ceilings.note == "Measured by c-probe, gcc 12.2.0 -O3 -march=native, avx512."
    memory = instrument_tables.memory_table(report)
    # AlexNet's 46,764,746 weights, of 4 bytes each
    assert next(row for row in memory.cells if row[1] == "alexnet-mnist-10k")[3] == "187 MB"
    assert memory.note.endswith("Energy: not readable here.")
    lenet, alexnet = instrument_tables.layers_tables(report)
    assert (len(lenet.cells), len(alexnet.cells)) == (25, 40)
    assert alexnet.title == "Layers of alexnet-mnist-10k at batch 64"
    conv1 = next(x for r in report["results"] if r["batch"] == 64 for x in r["layers"])
    labelled = {**report["results"][0], "layers": [{**conv1, "label": "conv1"}]}
    (row,) = instrument_tables.layers_table([labelled], styles_of(report), "one").cells
    assert row[:3] == ("eager", "conv1", "Conv conv1")


def test_a_blas_is_named_as_what_it_is(report):
    by_numpy = copy.deepcopy(report)
    by_numpy["roofline"].update(method="numpy", compiler=None)
    by_numpy["roofline"]["notes"] = ["amx_int8 is not measured"]
    _, slow, note = instrument_tables.ceilings_table(by_numpy).note.splitlines()
    assert "as the C probe did not run" in slow
    assert note == "amx_int8 is not measured"


def test_a_gpu_has_no_threads(report):
    on_gpu = copy.deepcopy(report)
    on_gpu["roofline"] = {
        "method": "cuda-probe", "threads": 1, "stability": {}, "sweep": {},
        "ceilings": {"flops": {"fp16": {"threads_1": 8e14}}, "bandwidth": {"DRAM": 3e12},
                     "bandwidth_threads": {"threads_1": {"DRAM": 3e12}}},
    }  # fmt: skip
    table = instrument_tables.ceilings_table(on_gpu)
    assert table.heading[:2] == ("ceiling", "measured")
    assert [row[:2] for row in table.cells] == [("fp16 arithmetic", "800 TFLOP/s"), ("read from DRAM", "3 TB/s")]


def test_energy_is_shown_where_it_was_read(report):
    metered = copy.deepcopy(report)
    metered["results"][0]["energy"] = {"source": "rapl", "joules_per_inference": 0.0123, "why": None}
    assert instrument_tables.memory_table(metered).cells[0][-1] == "12.3 mJ"


@pytest.fixture
def served(report):
    """A server whose rate was found, and LoadGen's word on an offline row."""
    served = copy.deepcopy(report)
    for result in served["results"]:
        if result["scenario"] == "server":
            result["server"] = {"rate_per_s": 1234.0, "latency_bound_s": 0.01, "given": False, "resolved": True,
                                "held": False}  # fmt: skip
        elif result["scenario"] == "offline":
            result["mlperf"] = {"valid": True, "compliant": False, "why_not_compliant": ["min_duration 1 s"],
                                "metric": {"throughput_per_s": 5678.0}}  # fmt: skip
    return served


def test_scenarios_are_on_the_page_and_in_the_markdown(served):
    for text in (page_from_report(served), html.escape(markdown_from_report(served))):
        assert "1,234/s found for p99 within 10 ms: NOT held in the rounds" in text
        assert "VALID, NON-COMPLIANT: 5,678/s" in text
        assert "not compliant with MLPerf&#x27;s rules: min_duration 1 s" in text


def test_columns_that_no_row_fills_are_not_there(report):
    assert tables.scenario_table(report).heading[-2:] == ("p99", "throughput")
    assert "enqueue" not in tables.latency_table(report).heading
    assert "on the GPU" not in instrument_tables.memory_table(report).heading


def test_stages_and_memory_of_a_gpu(report):
    on_gpu = copy.deepcopy(report)
    first = on_gpu["results"][0]
    first["gpu_stages"] = {"enqueue_s": {"p50": 1e-5}, "compute_s": {"p50": 2e-4}, "end_to_end_s": {"p50": 2.5e-4}}
    first["memory_bytes"]["device"] = 300_000_000
    table = tables.latency_table(on_gpu)
    at = table.heading.index("enqueue")
    assert table.heading[at : at + 3] == ("enqueue", "compute", "end to end")
    assert [row[at : at + 3] for row in table.cells[:2]] == [("10 us", "200 us", "250 us"), ("-", "-", "-")]
    table = instrument_tables.memory_table(on_gpu)
    at = table.heading.index("on the GPU")
    assert [row[at] for row in table.cells[:2]] == ["300 MB", "-"]


def test_what_is_said_of_single_stream_is_of_it_alone(report):
    alone = [r for r in report["results"] if r["scenario"] == "single-stream"]
    assert len(tables.start_table(report).cells) == len(alone) == 18
    assert len(tables.headlines(report)) == 4  # two forms of two networks
    server = {**report, "results": [r for r in report["results"] if r["scenario"] == "server"]}
    assert len(tables.start_table(server).cells) == 3
    assert tables.headlines(server) == []
    assert "<h3>Latency and throughput</h3>" not in page_from_report(server)
