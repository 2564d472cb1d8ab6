"""The roof above a layer and the speed of light, with ceilings that are round numbers."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeline_bench.layers.fusion import title_of
from edgeline_bench.layers.graph import read_graph
from edgeline_bench.layers.profile import LayerProfile, TimedGroup, midmean, profile_from_record
from edgeline_bench.layers.records import (
    above_roof,
    graph_as_run,
    layer_records,
    memory_record,
    profile_record,
    speed_of_light_record,
)
from edgeline_bench.layers.roof import Stream, roof_of, weights_stream
from edgeline_bench.layers.work import Work


class Machine:
    """1 GFLOP/s and 4 G int8 op/s a thread; L1 of 1,000 bytes at 8 GB/s, L2 of 10,000 at 4, DRAM at 1."""

    def peak(self, precision, threads):
        return {"fp32": 1e9, "int8": 4e9}[self.stand_in(precision)[0]] * threads

    def bandwidth(self, level, threads):
        return {"L1": 8e9, "L2": 4e9, "DRAM": 1e9}[level] * threads

    def bandwidth_at(self, size_bytes, threads):
        return self.bandwidth(self.smallest_level(size_bytes, threads), threads)

    def why_exceeded(self, precision):
        return self.stand_in(precision)[1]

    def stand_in(self, precision):
        return (precision, None) if precision in ("fp32", "int8") else ("fp32", f"no {precision} peak")

    def smallest_level(self, size_bytes, threads):
        return "L1" if size_bytes <= 1_000 * threads else "L2" if size_bytes <= 10_000 * threads else "DRAM"


@pytest.mark.parametrize(
    ("work", "weights", "threads", "time_s", "bound", "activations"),
    [
        (Work(5_000, 100, 100), "L1", 1, 5e-6, "compute", "L1"),
        (Work(5_000, 100, 100), "L1", 2, 2.5e-6, "compute", "L1"),
        (Work(10, 0, 800), "DRAM", 1, 800 / 8e9, "memory", "L1"),
        (Work(10, 0, 8_000), "L1", 1, 8_000 / 4e9, "memory", "L2"),
        (Work(10, 4_000, 800), "DRAM", 1, 4_000 / 1e9, "memory", "L1"),
        # What comes from L2 passes through L1 as well, which is then the narrower one: (100 + 900) / 8e9.
        (Work(10, 100, 900), "L2", 1, 1_000 / 8e9, "memory", "L1"),
        (Work(10, 20_000, 20_000), "DRAM", 1, 40_000 / 1e9, "memory", "DRAM"),
    ],
)
def test_the_roof_of_a_layer(work, weights, threads, time_s, bound, activations):
    stream = Stream(weights, Machine().bandwidth(weights, threads))
    roof = roof_of(work, 1, stream, "fp32", threads, Machine())
    assert (roof.time_s, roof.bound) == (pytest.approx(time_s), bound)
    assert (roof.levels.weights, roof.levels.activations) == (weights, activations)


def test_activations_come_from_the_level_that_holds_one_samples():
    """An engine may carry one sample through all layers before the next; the bytes are still those of all samples."""
    weights = Stream("L1", 8e9)
    roof = roof_of(Work(0, 0, 8_000), 8, weights, "fp32", 1, Machine())
    assert (roof.time_s, roof.levels.activations) == (pytest.approx(8_000 / 8e9), "L1")
    roof = roof_of(Work(0, 0, 80_000), 8, weights, "fp32", 1, Machine())
    assert (roof.time_s, roof.levels.activations) == (pytest.approx(80_000 / 4e9), "L2")


def test_what_takes_longest_is_named():
    far, near = Stream("DRAM", 1e9), Stream("L1", 8e9)
    assert roof_of(Work(0, 4_000, 8_000), 1, far, "fp32", 1, Machine()).slowest == "weights"  # 4 us, and 3 us from L2
    assert roof_of(Work(0, 100, 8_000), 1, near, "fp32", 1, Machine()).slowest == "activations"


def test_weights_a_little_larger_than_the_last_cache_come_faster_than_from_memory():
    """The sweep read 9,600 bytes at 2 GB/s, though memory gives 1: what is kept of them is read from the cache."""

    class Small(Machine):
        def smallest_level(self, size_bytes, threads):
            return "L1" if size_bytes <= 1_000 else "DRAM"

        def bandwidth_at(self, size_bytes, threads):
            return 2e9 if size_bytes < 20_000 else 1e9

    assert weights_stream(read_graph(two_layers(), 1), 1, Small()) == Stream("DRAM", 2e9)


def two_layers():
    """MatMul 50 -> 40 (2,000 weights), Relu, MatMul 40 -> 10 (400): 9,600 bytes of weights."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], "one"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "b"], ["y"], "two"),
    ]
    weights = [
        numpy_helper.from_array(np.ones((50, 40), np.float32), "a"),
        numpy_helper.from_array(np.ones((40, 10), np.float32), "b"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 50]), ("y", ["n", 10]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_speed_of_light_by_hand():
    """9,600 bytes of weights and an arena of 50 + 40 floats fit L2; one layer each bound by what it reads."""
    graph = read_graph(two_layers(), 1)
    warm = 8_000 / 4e9 + 1_600 / 4e9  # against 4,040 and 800 operations at 1 GFLOP/s
    assert (4_040 / 1e9 > 8_000 / 4e9, 800 / 1e9 > 1_600 / 4e9) == (True, True)
    light = speed_of_light_record(graph, 1, "fp32", Machine())
    assert light["warm"] == pytest.approx(4_040 / 1e9 + 800 / 1e9)
    assert light["warm"] > warm
    assert light["cold"] == pytest.approx((8_000 + 4 * 90) / 1e9 + (1_600 + 4 * 50) / 1e9)
    assert memory_record(graph) == {"weights": 9_600, "activations": 4 * 90}


def test_weights_that_do_not_fit_with_the_arena_come_from_the_next_level():
    """Weights of 9,600 bytes fit an L2 of 9,900, but not with an arena of 90 floats, as one sample has at any batch."""

    class Tight(Machine):
        def smallest_level(self, size_bytes, threads):
            return "DRAM" if size_bytes > 9_900 else super().smallest_level(size_bytes, threads)

    profile = LayerProfile("x", 1.0, 1, (TimedGroup(("one", "relu"), 1e-3), TimedGroup(("two",), 1e-3)))
    for machine, level in ((Machine(), "L2"), (Tight(), "DRAM")):
        for batch in (1, 4, 1000):
            records = layer_records(profile, read_graph(two_layers(), batch), 1, "fp32", machine)
            assert [record["level"] for record in records] == [{"weights": level, "activations": "L1"}] * 2


def test_a_record_says_all_that_the_page_needs():
    graph = read_graph(two_layers(), 1)
    groups = (TimedGroup(("one", "relu"), 30e-6, ("kernel",)), TimedGroup(("two",), 10e-6))
    records = layer_records(LayerProfile("x", 1.0, 1, groups), graph, 1, "fp32", Machine())
    assert records[0] == {
        "nodes": ["one", "relu"], "operators": ["MatMul", "Relu"], "name": "MatMul+Relu one", "kernels": ["kernel"],
        "flops": 4_040, "bytes": 8_360, "bytes_weights": 8_000, "bytes_activations": 360, "precision": "fp32",
        "time_s": 30e-6, "share": pytest.approx(0.75), "intensity": pytest.approx(4_040 / 8_360),
        "attained_flops_per_s": pytest.approx(4_040 / 30e-6), "roof_s": pytest.approx(4.04e-6),
        "roof_flops_per_s": pytest.approx(1e9), "efficiency": pytest.approx(4.04 / 30), "bound": "compute",
        "level": {"weights": "L2", "activations": "L1"}, "slowest": "weights", "exempt": None, "placed": True,
    }  # fmt: skip
    assert records[1]["placed"] is False  # 10 us at batch 1: whole microseconds say too little
    assert layer_records(LayerProfile("x", 1.0, 1, groups), read_graph(two_layers(), 64), 1, "fp32", Machine())[1][
        "placed"
    ]


def test_a_layer_above_its_roof_is_named_unless_its_algorithm_needs_fewer_operations():
    graph = read_graph(two_layers(), 1000)  # 4.04 ms at least
    for algorithm, time_s, found in ((None, 4.0e-3, []), (None, 3.8e-3, ["MatMul+Relu one (1.06 of its roof)"]),
                                     ("winograd", 2e-3, [])):  # fmt: skip
        group = TimedGroup(("one", "relu"), time_s, algorithm=algorithm)
        records = layer_records(LayerProfile("x", 1.0, 1, (group,)), graph, 1, "fp32", Machine())
        assert above_roof(records) == found
    group = TimedGroup(("one", "relu"), 1e-3)
    (record,) = layer_records(LayerProfile("x", 1.0, 1, (group,)), graph, 1, "bf16", Machine())
    assert (record["precision"], record["exempt"], above_roof([record])) == ("bf16", "no bf16 peak", [])


def test_kernels_that_match_nothing_are_in_the_result():
    profile = LayerProfile("x", 1.1, 7, (), (TimedGroup((), 2e-6, ("strange",)),), ("two",))
    record = profile_record(profile)
    assert record == {"method": "x", "scale": 1.1, "calls": 7, "unmatched": [{"name": "strange", "time_s": 2e-6}],
                      "uncovered": ["two"]}  # fmt: skip
    assert profile_from_record(profile.to_record()) == profile


def test_which_graph_an_engine_keeps():
    model = two_layers()
    assert graph_as_run(model, 3, "eager", "fp32").batch == 3
    # in bfloat16, weights and what lies between the layers take half the bytes; what comes in and goes out does not
    wide, narrow = (graph_as_run(model, 3, "openvino", arithmetic) for arithmetic in ("fp32", "bf16"))
    assert memory_record(narrow)["weights"] == memory_record(wide)["weights"] / 2 == 4_800
    assert {name for name, t in narrow.tensors.items() if t.dtype == "float32"} == {*narrow.inputs, *narrow.outputs}
    # torch.compile ran the float network, like eager PyTorch
    assert memory_record(graph_as_run(model, 1, "torch-compile", "fp32"))["weights"] == 9_600
    half = [
        numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float16), t.name) for t in model.graph.initializer
    ]
    del model.graph.initializer[:]
    model.graph.initializer.extend(half)
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.elem_type = TensorProto.FLOAT16
    assert memory_record(graph_as_run(model, 1, "tensorrt", "fp16"))["weights"] == 4_800
    assert memory_record(graph_as_run(model, 1, "onnxruntime", "fp32"))["weights"] == 9_600
    assert memory_record(graph_as_run(model, 1, "eager", "fp32"))["weights"] == 9_600


def test_the_midmean_has_finer_steps_than_its_samples_and_no_outliers():
    assert midmean([2, 3, 3, 2, 900, 2, 3, 0]) == 2.5  # of 2 2 3 3
    assert midmean([5.0]) == 5.0


def test_a_group_of_shapes_alone_has_a_title():
    graph = read_graph(two_layers(), 1)
    assert title_of(graph, ["relu"]) == ("Relu relu", ("Relu",))
