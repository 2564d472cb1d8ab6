"""Work per layer against arithmetic by hand: operations, weights, compulsory bytes, live activations."""

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import InputError
from edgeline_bench.layers.flops import flops_of
from edgeline_bench.layers.fusion import canonical_groups
from edgeline_bench.layers.graph import float_view, read_graph, widened
from edgeline_bench.layers.memory import activation_bytes, weights_bytes
from edgeline_bench.layers.work import Work, group_work, group_works, precision_of
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from tests.export.networks import rich_graph, written_by_hand

# Output positions x weights of one output, per layer, written out: (MACs, parameters).
LENET = {
    "conv1": (28 * 28 * 6 * 1 * 5 * 5, 6 * 25 + 6),
    "conv2": (10 * 10 * 16 * 6 * 5 * 5, 16 * 150 + 16),
    "fc1": (400 * 120, 400 * 120 + 120),
    "fc2": (120 * 84, 120 * 84 + 84),
    "fc3": (84 * 10, 84 * 10 + 10),
}
ALEXNET = {
    "conv1": (54 * 54 * 96 * 1 * 11 * 11, 96 * 121 + 96),  # 33,872,256
    "conv2": (26 * 26 * 256 * 96 * 5 * 5, 256 * 2400 + 256),  # 415,334,400
    "conv3": (12 * 12 * 384 * 256 * 3 * 3, 384 * 2304 + 384),  # 127,401,984
    "conv4": (12 * 12 * 384 * 384 * 3 * 3, 384 * 3456 + 384),  # 191,102,976
    "conv5": (12 * 12 * 256 * 384 * 3 * 3, 256 * 3456 + 256),  # 127,401,984
    "fc1": (6400 * 4096, 6400 * 4096 + 4096),  # 26,214,400
    "fc2": (4096 * 4096, 4096 * 4096 + 4096),  # 16,777,216
    "fc3": (4096 * 10, 4096 * 10 + 10),  # 40,960
}


def untrained(name):
    torch.manual_seed(0)
    model = MODELS[name]
    return graph_from_module(model.build().eval(), model.input_shape)


@pytest.fixture(scope="module")
def lenet():
    return untrained("lenet")


@pytest.fixture(scope="module")
def alexnet():
    return untrained("alexnet")


def heavy(graph):
    return [node for node in graph.nodes if node.operator in ("Conv", "Gemm")]


@pytest.mark.parametrize(
    ("network", "layers", "macs", "parameters"),
    [("lenet", LENET, 416_520, 61_706), ("alexnet", ALEXNET, 938_146_176, 46_764_746)],
)
def test_macs_and_parameters_of_the_published_networks(request, network, layers, macs, parameters):
    assert (sum(m for m, _ in layers.values()), sum(p for _, p in layers.values())) == (macs, parameters)
    graph = read_graph(request.getfixturevalue(network), 1)
    assert [flops_of(graph, node) for node in heavy(graph)] == [2 * m for m, _ in layers.values()]
    assert [group_work(graph, [node.name]).bytes_weights for node in heavy(graph)] == [
        4 * p for _, p in layers.values()
    ]
    assert weights_bytes(graph) == 4 * parameters


def test_what_dominates_alexnet(alexnet):
    graph = read_graph(alexnet, 1)
    works = [group_work(graph, [node.name]) for node in heavy(graph)]
    weights = [work.bytes_weights for work in works]
    flops = [work.flops for work in works]
    assert max(range(8), key=weights.__getitem__) == 5  # fc1
    assert weights[5] / sum(weights) == pytest.approx(26_218_496 / 46_764_746)
    assert round(weights[5] / sum(weights), 2) == 0.56
    assert max(range(8), key=flops.__getitem__) == 1  # conv2
    assert round(flops[1] / sum(flops), 2) == 0.44


@pytest.mark.parametrize("batch", [1, 64])
def test_the_batch_multiplies_operations_and_activations_not_weights(lenet, batch):
    graph = read_graph(lenet, batch)
    assert sum(flops_of(graph, node) for node in heavy(graph)) == batch * 2 * 416_520
    conv1 = group_work(graph, [heavy(graph)[0].name])
    assert conv1 == Work(batch * 2 * 117_600, 4 * 156, batch * 4 * (28 * 28 + 6 * 28 * 28))
    assert weights_bytes(graph) == 4 * 61_706


def test_a_fused_group_moves_only_what_crosses_its_border(lenet):
    """Conv+Sigmoid+AveragePool: the image in, 6 x 14 x 14 out; what lies between stays in registers."""
    graph = read_graph(lenet, 1)
    first = canonical_groups(graph)[0]
    assert [node.operator for node in graph.nodes if node.name in first] == ["Conv", "Sigmoid", "AveragePool"]
    sigmoid, pool = 4 * 6 * 28 * 28, 4 * 6 * 14 * 14  # four operations an element; a window of four
    assert group_work(graph, first) == Work(2 * 117_600 + sigmoid + pool, 4 * 156, 4 * (784 + 1_176))


def test_activations_alive_at_once(lenet):
    """Unfused, conv1's output and its sigmoid, 6 x 28 x 28 each; fused, the image and the first pool's output."""
    graph = read_graph(lenet, 2)
    assert activation_bytes(graph) == 2 * 4 * 2 * 4_704
    assert activation_bytes(graph, canonical_groups(graph)) == 2 * 4 * (784 + 1_176)


def quantised_pair():
    """Conv 1->2 3x3 on 4x4 in int8 with an int32 bias, Relu, and a Gemm 32->3 behind Q/DQ, as for ONNX Runtime."""

    def pair(name, source):
        return [
            helper.make_node("QuantizeLinear", [source, "scale", "zero"], [f"{name}_q"], f"{name}_Q"),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_d"], f"{name}_DQ"),
        ]

    weights = [
        numpy_helper.from_array(np.ones((2, 1, 3, 3), np.int8), "k8"),
        numpy_helper.from_array(np.ones(2, np.int32), "b32"),
        numpy_helper.from_array(np.ones((3, 32), np.int8), "w8"),
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.uint8(0), "zero"),
        numpy_helper.from_array(np.array([0, 32]), "target"),
    ]
    nodes = [
        *pair("x", "x"),
        helper.make_node("DequantizeLinear", ["k8", "scale"], ["k"], "k_DQ"),
        helper.make_node("DequantizeLinear", ["b32", "scale"], ["b"], "b_DQ"),
        helper.make_node("Conv", ["x_d", "k", "b"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        *pair("r", "r"),
        helper.make_node("Reshape", ["r_d", "target"], ["f"], "flat"),
        helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"], "w_DQ"),
        helper.make_node("Gemm", ["f", "w"], ["y"], "gemm", transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", ["n", 1, 4, 4]), ("y", ["n", 3]))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_bytes_of_an_integer_kernel():
    """int8 weights, an int32 bias, 16 numbers in and 32 out, one byte each: scales and zero points are code."""
    graph = read_graph(quantised_pair(), 1)
    conv = ("x_DQ", "k_DQ", "b_DQ", "conv", "relu", "r_Q")
    gemm = ("r_DQ", "flat", "w_DQ", "gemm")
    works = group_works(graph, [["x_Q"], conv, gemm])
    assert works == (
        Work(0, 0, 16 * 4 + 16),  # floats in, integers out
        Work(2 * 16 * 2 * 9 + 32, 18 + 2 * 4, 16 + 32),
        Work(2 * 96, 96, 32 + 3 * 4),  # the logits are floats
    )
    assert {precision_of(graph, names, "int8") for names in (conv, gemm)} == {"int8"}
    assert precision_of(graph, conv, "fp32") == "fp32"
    assert weights_bytes(graph) == 18 + 8 + 96
    # Integers between the operators: 32 + 16 bytes; the input is a float until the first one reads it.
    assert activation_bytes(graph, [["x_Q"], conv, gemm]) == 16 * 4 + 16


def test_bytes_of_an_engine_that_dequantises_first():
    """Kernels of Q/DQ alone hand floats to a float convolution; its weights are floats by then."""
    graph = read_graph(quantised_pair(), 1)
    groups = [["x_Q"], ["x_DQ"], ["k_DQ"], ["b_DQ"], ["conv", "relu"], ["r_Q"], ["r_DQ"], ["flat", "w_DQ", "gemm"]]
    works = group_works(graph, groups)
    assert works[1] == Work(0, 0, 16 + 64)
    assert works[2] == Work(0, 18, 18 * 4)
    assert works[4] == Work(2 * 288 + 32, 18 * 4 + 2 * 4, 64 + 128)
    assert works[7] == Work(192, 96, 128 + 12)


def test_the_float_view_is_the_network_before_it_was_quantised():
    graph = float_view(read_graph(quantised_pair(), 1))
    assert [node.name for node in graph.nodes] == ["conv", "relu", "flat", "gemm"]
    assert group_work(graph, ["conv"]) == Work(2 * 288, 4 * 20, 4 * (16 + 32))
    assert weights_bytes(graph) == 4 * (18 + 2 + 96)
    assert canonical_groups(graph) == (("conv", "relu", "flat"), ("gemm",))


def test_half_precision_and_its_float32_form():
    weight = numpy_helper.from_array(np.ones((3, 32), np.float16), "w")
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], "down", to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "t"], ["m"], "matmul"),
        helper.make_node("Transpose", ["w"], ["t"], "turn"),
        helper.make_node("Cast", ["m"], ["y"], "up", to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 32]), ("y", ["n", 3]))]
    body = helper.make_graph([nodes[2], *nodes[:2], nodes[3]], "g", ends[:1], ends[1:], [weight])
    graph = read_graph(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), 2)
    assert canonical_groups(graph) == (("turn", "down", "matmul", "up"),)
    assert group_work(graph, graph.names) == Work(2 * 2 * 96, 96 * 2, 2 * (32 * 4 + 3 * 4))
    assert group_work(widened(graph), graph.names).bytes_weights == 96 * 4
    assert [node.name for node in float_view(graph).nodes] == ["matmul"]


def test_residual_concatenation_and_what_follows():
    """The sum of a residual joins the convolution before it; a Concat begins a group; every node is in one."""
    graph = read_graph(rich_graph(), 2)
    groups = canonical_groups(graph)
    assert sorted(name for group in groups for name in group) == sorted(graph.names)
    kinds = {node.name: node.operator for node in graph.nodes}
    assert [[kinds[name] for name in group] for group in groups] == [
        ["Conv", "Relu"],
        ["Conv", "Clip", "Add", "Relu"],
        ["Conv", "LeakyRelu"],
        ["Concat", "MaxPool"],
        ["Conv", "Sigmoid", "AveragePool"],
        ["Conv", "Tanh", "ReduceMean", "Reshape"],
        ["Gemm"],
        ["Softmax"],
    ]
    residual = group_work(graph, groups[1])
    plane = 8 * 16 * 16
    # Its own input is the residual as well: read once. Two operations of Clip and Relu and one of Add an element.
    assert residual == Work(2 * (2 * plane * 72 + 3 * plane), 4 * (8 * 72 + 8), 2 * 4 * 2 * plane)
    assert group_work(graph, groups[3]) == Work(2 * 3 * 16 * 8 * 8, 0, 2 * 4 * (2 * plane + 16 * 8 * 8))
    depthwise = group_work(graph, groups[2])
    assert depthwise.flops == 2 * (2 * plane * 9 + plane)


def test_batch_normalization_counts_two_and_its_statistics():
    graph = read_graph(written_by_hand(), 3)
    nodes = {node.name: node for node in graph.nodes}
    assert flops_of(graph, nodes["n1"]) == 3 * 2 * 8 * 14 * 14 + 3 * 2 * 8 * (16 * 16 - 14 * 14)  # padded: 16 x 16
    assert group_work(graph, ["n2"]) == Work(3 * 2 * 8 * 64, 4 * 4 * 8, 2 * 3 * 4 * 8 * 64)


@pytest.mark.parametrize(
    ("operator", "attributes", "flops"),
    [
        ("Relu", {}, 64),
        ("Sigmoid", {}, 4 * 64),
        ("Tanh", {}, 5 * 64),
        ("Softmax", {}, 5 * 64),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, 3 * 16),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, 4 * 16),
        ("GlobalAveragePool", {}, 64),
        ("LRN", {"size": 5}, 13 * 64),
        ("Identity", {}, 0),
        ("Hardmax", {}, 0),  # in no table: no operations, and its bytes
    ],
)
def test_the_convention_for_light_operators(operator, attributes, flops):
    node = helper.make_node(operator, ["x"], ["y"], operator, **attributes)
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 4, 4]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]  # fmt: skip
    body = helper.make_graph([node], "g", ends[:1], ends[1:])
    graph = read_graph(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), 1)
    work = group_work(graph, [operator])
    size = math.prod(graph.tensor("y").shape)
    assert work == Work(flops, 0, 0 if operator == "Identity" else 4 * (64 + size))


def test_a_fixed_batch_takes_no_other():
    model = onnx.ModelProto()
    model.CopyFrom(quantised_pair())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert read_graph(model, 4).batch == 4
    with pytest.raises(InputError, match="takes batches of 4 only, not 8"):
        read_graph(model, 8)


def test_a_shape_that_is_not_known_is_an_error_by_name():
    nodes = [
        helper.make_node("Strange", ["x"], ["s"], "strange", domain="elsewhere"),
        helper.make_node("Relu", ["s"], ["y"], "relu"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("elsewhere", 1)]
    body = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    graph = read_graph(helper.make_model(body, opset_imports=opsets, ir_version=10), 1)
    with pytest.raises(InputError, match="the shape of tensor 's' cannot be inferred"):
        group_work(graph, ["strange"])
