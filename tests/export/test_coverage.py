import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import GateError, InputError
from edgeline_export.coverage import Coverage, check_precision, coverage_of, coverage_of_engine, refuse_uncounted
from edgeline_export.graph import clean_graph
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS


def mixed_graph(quantised_input=False):
    """Conv 1->2 3x3 on 4x4 (2*16*9 = 288 MACs, 18 weights) in int8, Gemm 32->3 (96, 96) in fp16 storage."""
    weights = [
        numpy_helper.from_array(np.ones((2, 1, 3, 3), np.int8), "w8"),
        numpy_helper.from_array(np.float32(0.1), "scale"),
        *([numpy_helper.from_array(np.int8(0), "zero")] if quantised_input else []),
        numpy_helper.from_array(np.ones((3, 32), np.float16), "w16"),
        numpy_helper.from_array(np.array([0, 32]), "target"),
    ]
    data = "d" if quantised_input else "x"
    pair = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
    ]
    nodes = [
        *(pair if quantised_input else []),
        helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"]),
        helper.make_node("Conv", [data, "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "target"], ["r"]),
        helper.make_node("Cast", ["w16"], ["v"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["r", "v"], ["y"], "gemm", transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", ["n", 1, 4, 4]), ("y", ["n", 3]))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], weights)
    return clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


@pytest.mark.parametrize(
    ("name", "macs", "weights"),
    [
        # 6*28*28 * 25, 16*10*10 * 150, 400*120, 120*84, 84*10
        ("lenet", 117_600 + 240_000 + 48_000 + 10_080 + 840, 61_706 - 236),
        # 96*54*54 * 121, 256*26*26 * 2400, 384*12*12 * 2304 and * 3456, 256*12*12 * 3456, 6400*4096, 4096*4096, 4096*10
        (
            "alexnet",
            33_872_256 + 415_334_400 + 127_401_984 + 191_102_976 + 127_401_984 + 26_214_400 + 16_777_216 + 40_960,
            46_764_746 - 9_578,
        ),
    ],
)
def test_counts_of_our_networks(name, macs, weights):
    """Worked out by hand from the layers' shapes, batch 1; weights without biases."""
    torch.manual_seed(0)
    model = MODELS[name]
    coverage = coverage_of(graph_from_module(model.build(), model.input_shape))
    assert sum(node.macs for node in coverage.nodes) == macs
    assert sum(node.weights for node in coverage.nodes) == weights
    assert coverage.macs == coverage.weights == {"fp32": 1.0}
    check_precision(coverage, "fp32")


def test_weights_alone_in_int8_are_no_int8_arithmetic():
    coverage = coverage_of(mixed_graph())
    assert coverage.macs == {"fp32": 1.0}
    assert coverage.weights == {"fp16": pytest.approx(96 / 114), "int8": pytest.approx(18 / 114)}


def test_both_operands_from_int8_are():
    coverage = coverage_of(mixed_graph(quantised_input=True))
    assert coverage.macs == {"fp32": pytest.approx(96 / 384), "int8": pytest.approx(288 / 384)}


def test_a_precision_that_is_not_the_one_asked_for_fails():
    with pytest.raises(GateError, match=r"but 75\.0% of .* in int8; not: gemm \(Gemm, fp32, 25\.0%\)"):
        check_precision(coverage_of(mixed_graph(quantised_input=True)), "int8")
    with pytest.raises(GateError, match="fp16 was asked for, but 0.0%"):
        check_precision(coverage_of(mixed_graph()), "fp16")


def test_int8_of_a_network_without_weights_fails():
    end = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", end[:1], end[1:])
    coverage = coverage_of(clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])))
    check_precision(coverage, "fp32")
    with pytest.raises(GateError, match="has no Conv, Gemm or MatMul"):
        check_precision(coverage, "int8")


def test_what_an_engine_says_goes_before_what_the_graph_says():
    told = coverage_of_engine(coverage_of(mixed_graph(quantised_input=True)), {"conv": "int8", "gemm": "unknown"})
    assert told.source == "engine"
    assert told.macs == {"int8": pytest.approx(0.75), "unknown": pytest.approx(0.25)}
    assert told.weights == {"int8": pytest.approx(18 / 114), "unknown": pytest.approx(96 / 114)}


def one_node(operator, weight, input_shape, output_shape, **attributes):
    """A graph of one node with constant weights."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])
            for name, shape in (("x", input_shape), ("y", output_shape))]  # fmt: skip
    node = helper.make_node(operator, ["x", "w"], ["y"], operator.lower(), **attributes)
    weights = [numpy_helper.from_array(np.ones(weight, np.float32), "w")]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], weights)
    return clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (one_node("MatMul", (3, 2), (4, 3), (4, 2)), 4 * 2 * 3),
        (one_node("Gemm", (3, 2), (3,), (2,)), 2 * 3),
        (one_node("Conv", (6, 1, 3, 3), (3, 5, 5), (6, 3, 3), group=3, kernel_shape=[3, 3]), 6 * 3 * 3 * 9),
        (one_node("ConvTranspose", (1, 3, 2, 2), (1, 4, 4), (3, 8, 8), strides=[2, 2]), 4 * 4 * 3 * 2 * 2),
    ],
)
def test_multiply_accumulates_by_hand(model, macs):
    (node,) = coverage_of(model).nodes
    assert node.macs == macs


@pytest.mark.parametrize(
    ("asked", "found", "passes"),
    [
        ("int8", {"int8": 0.995, "fp32": 0.005}, True),
        ("int8", {"int8": 0.985, "fp32": 0.015}, False),
        ("fp16", {"fp16": 0.995, "fp32": 0.005}, False),
        ("fp32", {"fp32": 0.999, "int8": 0.001}, False),
    ],
)
def test_how_much_may_be_in_another_precision(asked, found, passes):
    coverage = Coverage("graph", found, found, ())
    if passes:
        check_precision(coverage, asked)
    else:
        with pytest.raises(GateError, match=f"{asked} was asked for"):
            check_precision(coverage, asked)


def test_int32_biases_are_counted_among_the_weights():
    """A Gemm of 3 x 2: six weights, two biases; neither their scales nor their zero points."""
    tensors = {
        "q": np.ones((3, 2), np.int8), "b": np.ones(2, np.int32), "scale": np.ones(2, np.float32),
        "zero8": np.zeros(2, np.int8), "zero32": np.zeros(2, np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero8"], ["w"], axis=1),
        helper.make_node("DequantizeLinear", ["b", "scale", "zero32"], ["c"], axis=0),
        helper.make_node("Gemm", ["x", "w", "c"], ["y"], "gemm"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 3), ("y", 2))]
    weights = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    coverage = coverage_of(clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])))
    assert coverage.weights == {"int32": pytest.approx(2 / 8), "int8": pytest.approx(6 / 8)}


def test_what_a_local_function_does_is_not_overlooked():
    body = [helper.make_node("Einsum", ["x"], ["y"], "inner", equation="ij->ij")]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    own = helper.make_function("own", "Layer", ["x"], ["y"], body, opsets[:1])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Layer", ["x"], ["y"], domain="own")], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, functions=[own], opset_imports=opsets)
    refuse_uncounted(model, "fp32")
    with pytest.raises(InputError, match=r"Einsum \(node 'inner'\) is not supported in int8"):
        refuse_uncounted(model, "int8")
