"""What a run says when something late fails: the rounds' times stay, and the reason is told."""

from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from edgeline.errors import InputError, ResourceError
from edgeline_bench import rounds
from edgeline_bench.findings import findings_of
from edgeline_bench.points import Point
from edgeline_bench.report import _held, _result
from edgeline_bench.rounds import Measured, Plan
from edgeline_bench.words import answers_of
from tests.benchmarks.test_words import CEILINGS


def save(folder, nodes, inputs=("x",)):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in (*inputs, "y")]
    graph = helper.make_graph(nodes, "g", ends[:-1], ends[-1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")


def measured(folder, **changes):
    point = Point("onnxruntime", "net.fp32.onnx", "session", "fp32", 1, 1, (), folder=str(folder), source_key="s")
    ready = {
        "cold_start_s": {"import": 0.1, "load": 0.1, "first": 0.1, "total": 0.3},
        "memory_bytes": {"import": 10, "load": 20, "first": 30, "stages": {}, "device": None},
        "meter": None,
    }
    row = Measured(point, ready, rounds_s=[[1e-3] * 3], queries=3, samples=3, elapsed_s=3e-3, **changes)
    row.clock_overheads_s.append(1e-7)
    return row


def test_a_graph_whose_shapes_are_not_known_keeps_its_times(tmp_path):
    gelu = helper.make_node("FastGelu", ["x"], ["h"], "gelu", domain="com.microsoft")
    save(tmp_path, [gelu, helper.make_node("Relu", ["h"], ["y"], "relu")])
    row = measured(tmp_path)
    (found,) = findings_of([row], CEILINGS)
    assert found["memory"] == {"weights": None, "activations": None}
    result = _result(row, found, None)
    assert result["latency_s"]["p50"] == 1e-3
    assert result["memory_bytes"]["workspace"] is None
    (answer,) = answers_of([result], CEILINGS)
    assert answer["question"] == "Which rows have no time per layer, and why?"
    assert "the shape of tensor 'h' cannot be inferred" in answer["answer"]


def test_a_network_without_weights_gets_no_sentence_on_them(tmp_path):
    save(tmp_path, [helper.make_node("Relu", ["x"], ["y"], "relu")])
    group = {"nodes": ["relu"], "time_s": 1e-3, "kernels": ["relu"], "algorithm": None}
    record = {"method": "m", "scale": 1.0, "calls": 3, "groups": [group], "unmatched": [], "uncovered": []}
    row = measured(tmp_path, profile={"record": record, "why": None, "off": 0.0})
    (found,) = findings_of([row], CEILINGS)
    questions = [answer["question"] for answer in answers_of([_result(row, found, None)], CEILINGS)]
    assert "What dominates the memory of net?" not in questions
    assert "What bounds each layer of net?" in questions


class Worker:
    """Answers orders from a list; an exception in it is raised."""

    def __init__(self, *answers):
        self.answers, self.orders = list(answers), []

    def ask(self, order, **arguments):
        self.orders.append((order, arguments))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def profile(total_s):
    group = {"nodes": ["relu"], "time_s": total_s, "kernels": [], "algorithm": None}
    return {"record": {"groups": [group], "unmatched": []}, "why": None}


@pytest.mark.parametrize(
    ("answers", "orders", "kept_s", "why"),
    [
        ([profile(1.05e-3)], 1, 1.05e-3, None),
        ([profile(1.5e-3), profile(1.02e-3)], 2, 1.02e-3, None),
        ([profile(1.5e-3), profile(1.2e-3), profile(1.3e-3)], 3, 1.2e-3, None),
        ([profile(1.5e-3), {"record": None, "why": "broken"}], 2, 1.5e-3, None),
        ([{"record": None, "why": "no profiler"}], 1, None, "no profiler"),
        ([ResourceError("the worker ended")], 1, None, "the worker ended"),
        ([profile(0.0)], 1, None, "its kernels are too short for the profiler's clock"),
    ],
)
def test_a_disturbed_profile_is_taken_again_and_a_failed_one_told(tmp_path, answers, orders, kept_s, why):
    worker, row = Worker(*answers), measured(tmp_path)
    steps = rounds._Steps(lambda step: None, 1)
    rounds._profile_layers([(worker, row)], Plan(20, 0.1, profile_s=1.0), steps)
    assert len(worker.orders) == orders
    assert row.profile["why"] == why
    assert (row.profile["record"] and row.profile["record"]["groups"][0]["time_s"]) == kept_s


def test_a_loadgen_that_dies_leaves_the_rows_before_it(tmp_path):
    died, well = Worker(ResourceError("the worker ended")), Worker({"valid": True, "log": "x"})
    rows = [measured(tmp_path), measured(tmp_path)]
    plan = Plan(20, 0.1, loadgen=rounds.Loadgen(tmp_path, 1.0))
    steps = rounds._Steps(lambda step: None, 1)
    rounds._run_loadgen([(died, rows[0]), (well, rows[1]), (Worker(), measured(tmp_path))], plan, steps)
    assert rows[0].mlperf["invalid_reason"] == "the worker ended"
    assert rows[1].mlperf == {"valid": True, "log": "onnxruntime-net.fp32.onnx-single-stream-1"}


def server(rate_per_s, **changes):
    return {"rate_per_s": rate_per_s, "latency_bound_s": 0.01, "resolved": True, "why": "too slow", **changes}


def test_a_server_without_a_rate_is_left_out_and_the_others_stay(tmp_path, capsys):
    rows = [measured(tmp_path) for _ in range(3)]
    for row in rows[:2]:
        row.point = replace(row.point, scenario="server")
    workers = [(Worker(server(None)), rows[0]), (Worker(server(50.0)), rows[1]), (Worker(), rows[2])]
    kept = rounds._search_rates(workers, Plan(20, 0.1), rounds._Steps(lambda step: None, 2))
    assert [row for _, row in kept] == rows[1:]
    assert "no rate was found: too slow; this row is left out" in capsys.readouterr().err
    with pytest.raises(InputError, match="no rate was found: too slow: give a longer --latency-bound"):
        alone = [(Worker(server(None)), rows[0]), (Worker(), rows[2])]
        rounds._search_rates(alone, Plan(20, 0.1), rounds._Steps(lambda step: None, 1))


def test_a_servers_turn_lasts_twenty_latency_bounds(tmp_path):
    row = measured(tmp_path)
    assert rounds._slot_s(row, Plan(20, 0.5)) == 0.5
    row.server = server(50.0)
    assert rounds._slot_s(row, Plan(20, 0.1)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("samples", "bound_s", "held"),
    [([0.001] * 662, 0.01, True), ([0.001] * 650 + [0.02] * 12, 0.01, False), ([0.001] * 661, 0.01, None),
     ([0.001] * 662, None, None)],
)  # fmt: skip
def test_whether_the_rounds_held_the_bound(samples, bound_s, held):
    assert _held({"latency_bound_s": bound_s}, samples) is held
