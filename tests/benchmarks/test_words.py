"""The words about a network, from layers whose work follows from the real graphs and whose times are made up."""

import pytest

from edgeline_bench.findings import layer_reasons
from edgeline_bench.layers.fusion import canonical_groups
from edgeline_bench.layers.graph import read_graph
from edgeline_bench.layers.labels import label_of_group, labels_of
from edgeline_bench.layers.profile import LayerProfile, TimedGroup
from edgeline_bench.layers.records import layer_records, memory_record, profile_record, speed_of_light_record
from edgeline_bench.roofline.ceilings import Ceilings
from edgeline_bench.roofline.levels import Level
from edgeline_bench.words import answers_of
from tests.benchmarks.test_layers_work import untrained

LEVELS = (Level("L1", 4e11, 2**15, 2**14), Level("L2", 2e11, 2**20, 2**19), Level("DRAM", 2e10, None, 2**28))
CEILINGS = Ceilings("c-probe", "cc", "avx512", 1, (0,), {"fp32": {1: 1e11}, "int8": {1: 4e11}}, {1: LEVELS})


@pytest.fixture(scope="module")
def alexnet():
    return untrained("alexnet")


def row(model, batch, engine="onnxruntime", precision="fp32", slowness=2.0, **changes):
    """A row whose every layer takes `slowness` times the least."""
    graph = read_graph(model, batch)
    groups = canonical_groups(graph)
    unit = LayerProfile("made up", 1.0, 10, tuple(TimedGroup(group, 1.0) for group in groups))
    roofs = [layer["roof_s"] for layer in layer_records(unit, graph, 1, "fp32", CEILINGS)]
    timed = tuple(TimedGroup(group, slowness * roof) for group, roof in zip(groups, roofs, strict=True))
    profile, labels = LayerProfile("made up", 1.0, 10, timed), labels_of(graph)
    layers = [
        {"label": label_of_group(graph, labels, layer["nodes"]), **layer}
        for layer in layer_records(profile, graph, 1, "fp32", CEILINGS)
    ]
    time_s = sum(layer["time_s"] for layer in layers)
    return {
        "engine": engine, "artefact": f"alexnet-mnist-10k.{precision}.onnx", "source": "w", "scenario": "single-stream",
        "precision": precision, "arithmetic": precision, "batch": batch, "threads": 1, "device": "cpu",
        "latency_s": {"p50": time_s}, "throughput_per_s": batch / time_s, "accuracy": 0.98,
        "memory_bytes": {**memory_record(graph), "peak": 300_000_000 + 10_000_000 * batch},
        "layers": layers, "layer_profile": profile_record(profile),
        "speed_of_light_s": speed_of_light_record(graph, 1, "fp32", CEILINGS), **changes,
    }  # fmt: skip


def answers(*rows):
    return {a["question"].removesuffix(" alexnet-mnist-10k?"): a["answer"] for a in answers_of(rows, CEILINGS)}


def test_alexnet_by_hand_arithmetic(alexnet):
    """fc1: 6400 * 4096 + 4096 of 46,764,746 weights; conv2: 415,334,400 of 938,146,176 multiply-accumulates."""
    found = answers(row(alexnet, 1))
    weights, operations = (6400 * 4096 + 4096) / 46_764_746, 415_334_400 / 938_146_176
    assert (round(weights, 2), round(operations, 2)) == (0.56, 0.44)
    assert found["What dominates the memory of"].startswith(
        "fc1 holds 56%, fc2 36%, conv4 3% of the 187 MB of weights."
    )
    assert found["What dominates the computation of"].startswith("conv2 does 44%, conv4 20%, ")
    # 46.8 million weights from DRAM at 5 G weights/s against a dot product of two operations each at 100 G/s
    assert "fc1 to fc3 by the bandwidth of DRAM (weights)" in found["What bounds each layer of"]
    assert "conv1 to conv5 by computation" in found["What bounds each layer of"]


def test_headroom_is_the_time_over_the_least(alexnet):
    text = answers(row(alexnet, 1, slowness=3.0))["How far is alexnet-mnist-10k from what this machine could do?"]
    assert "so 3.0 times the least" in text


def test_what_the_batch_changes(alexnet):
    one, eight = row(alexnet, 1), row(alexnet, 8)
    text = answers(eight, one)["What does the batch size change for"]
    rate = eight["throughput_per_s"] / one["throughput_per_s"]
    assert f"batch 8 gives {rate:.1f} times the throughput of batch 1" in text
    assert "the process peaks at 380 MB instead of 310 MB; accuracy 0.9800, by the export's gate." in text


def test_int8_measured_and_estimated(alexnet):
    wide = row(alexnet, 1)
    estimated = answers(wide)["What can int8 still gain for"]
    # A quarter of the bytes and four times the operations: a quarter of the least time, and the row takes twice that.
    least_s = wide["latency_s"]["p50"] / 2 / 4
    assert f"would take at least {least_s * 1e3:.3g} ms" in estimated
    narrow = row(alexnet, 1, precision="int8", slowness=1.0)
    measured = answers(wide, narrow)["What can int8 still gain for"]
    assert measured.startswith("Measured at batch 1, int8 on onnxruntime is 2.0 times as fast as fp32.")


def test_float_arithmetic_is_no_int8_time(alexnet):
    """A graph in the layout for TensorRT runs as float on ONNX Runtime."""
    as_float = row(alexnet, 1, precision="int8", arithmetic="fp32")
    assert answers(row(alexnet, 1), as_float)["What can int8 still gain for"].startswith("No int8 form was measured.")


def test_without_layers_nothing_is_said_of_them(alexnet):
    bare = row(alexnet, 1, layers=[], speed_of_light_s=None)
    assert answers(bare) == {}


def test_a_point_above_its_roof_makes_a_report_invalid(alexnet):
    assert layer_reasons([row(alexnet, 1, slowness=1.0)]) == []
    (reason,) = layer_reasons([row(alexnet, 1, slowness=0.9)])
    assert "node_conv2d (1.11 of its roof)" in reason
    assert "the model of work or the clock is wrong" in reason


def test_a_profile_that_does_not_match_makes_a_report_invalid(alexnet):
    found = row(alexnet, 1)
    found["layer_profile"].update(unmatched=[{"name": "Reorder_1", "time_s": found["latency_s"]["p50"] / 200}])
    assert layer_reasons([found]) == []  # half a per cent: shown, and no reason to throw the rest away
    found["layer_profile"].update(unmatched=[{"name": "Reorder_1", "time_s": found["latency_s"]["p50"] / 50}])
    (reason,) = layer_reasons([found])
    assert reason.endswith("the profile and the graph do not match at Reorder_1")


def test_layers_that_were_profiled_on_a_busy_machine_are_no_fault_of_ours(alexnet):
    found = row(alexnet, 1, slowness=0.9)
    found["layer_profile"]["off"] = 0.5
    (reason,) = layer_reasons([found])
    assert "the machine was 50% off its speed while layers were profiled: run again" in reason
