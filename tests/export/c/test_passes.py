"""What the passes make of small graphs, worked out by hand. That it computes the same, the random graphs show."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeline_export.c.passes import prepared
from edgeline_export.c.read import network_from_onnx
from edgeline_export.graph import IR_VERSION, OPSET, clean_graph


def operators(nodes, shape, output, **constants):
    """Nodes as (operator, inputs, output, attributes) -> what each operation is, with what is merged into it."""
    made = [helper.make_node(operator, inputs.split(), [to], to, **attributes)
            for operator, inputs, to, attributes in nodes]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *size])
            for name, size in (("x", shape), (nodes[-1][2], output))]  # fmt: skip
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    graph = helper.make_graph(made, "by_hand", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    network = prepared(network_from_onnx(clean_graph(model), "net"))
    return [" ".join(o.operator for o in (operation, *operation.fused)) for operation in network.operations]


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


STATISTICS = {name: normal(3) ** 2 + 0.5 for name in ("scale", "shift", "mean", "var")}
NORM = "scale shift mean var"


def test_one_dimension_becomes_two_and_stays_so_between_layers():
    nodes = [
        ("Conv", "x w1", "c1", {}), ("Relu", "c1", "r", {}),
        ("MaxPool", "r", "p", {"kernel_shape": [2], "strides": [2]}),
        ("Conv", "p w2", "c2", {}), ("Tanh", "c2", "t", {}), ("Flatten", "t", "f", {}), ("Gemm", "f w3", "y", {}),
    ]  # fmt: skip
    found = operators(nodes, (2, 16), (5,), w1=normal(4, 2, 3), w2=normal(3, 4, 3), w3=normal(15, 5))
    assert found == ["Reshape", "Conv MaxPool Relu", "Conv Tanh", "Reshape", "Gemm"]


@pytest.mark.parametrize(
    ("pads", "expected"), [([0, 0, 0, 0], ["MaxPool", "Conv"]), ([1, 1, 1, 1], ["MaxPool", "Affine", "Conv"])]
)
def test_normalisation_goes_into_the_weights_behind_unless_they_see_padding(pads, expected):
    nodes = [
        ("MaxPool", "x", "p", {"kernel_shape": [2, 2]}), ("BatchNormalization", f"p {NORM}", "n", {}),
        ("Conv", "n w", "y", {"pads": pads}),
    ]  # fmt: skip
    size = 5 - 2 + sum(pads) // 2
    assert operators(nodes, (3, 6, 6), (4, size, size), w=normal(4, 3, 3, 3), **STATISTICS) == expected


def test_a_factor_and_a_shift_behind_an_average_are_one_operation():
    nodes = [
        ("Conv", "x w", "c", {}), ("AveragePool", "c", "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Mul", "p a", "m", {}), ("Add", "b m", "y", {}),
    ]  # fmt: skip
    found = operators(nodes, (3, 6, 6), (4, 2, 2), w=normal(4, 3, 3, 3), a=normal(4, 1, 1), b=np.float32(2))
    assert found == ["Conv AveragePool", "Affine"]


@pytest.mark.parametrize(
    ("operator", "attributes", "expected"),
    [
        ("Sigmoid", {}, ["Conv MaxPool Sigmoid"]),
        ("LeakyRelu", {"alpha": 0.1}, ["Conv MaxPool LeakyRelu"]),
        ("LeakyRelu", {"alpha": -0.1}, ["Conv LeakyRelu MaxPool"]),
        ("HardSwish", {}, ["Conv HardSwish MaxPool"]),
        ("Abs", {}, ["Conv Abs MaxPool"]),
    ],
)
def test_the_maximum_comes_first_where_the_activation_never_falls(operator, attributes, expected):
    nodes = [
        ("Conv", "x w", "c", {}), (operator, "c", "a", attributes),
        ("MaxPool", "a", "y", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ]  # fmt: skip
    assert operators(nodes, (3, 6, 6), (4, 2, 2), w=normal(4, 3, 3, 3)) == expected


@pytest.mark.parametrize(("factor", "expected"), [(2, ["MaxPool", "Conv"]), (-2, ["Scale", "MaxPool", "Conv"])])
def test_a_factor_passes_a_maximum_only_if_it_is_positive(factor, expected):
    nodes = [
        ("Mul", "x a", "m", {}), ("MaxPool", "m", "p", {"kernel_shape": [2, 2]}), ("Conv", "p w", "y", {}),
    ]  # fmt: skip
    assert operators(nodes, (3, 6, 6), (4, 3, 3), w=normal(4, 3, 3, 3), a=np.float32(factor)) == expected


def test_zeros_around_an_image_become_the_padding_of_the_layer_behind():
    nodes = [("Pad", "x p", "z", {}), ("Conv", "z w", "y", {"pads": [0, 1, 0, 0]})]
    found = operators(nodes, (3, 6, 6), (4, 7, 6), w=normal(4, 3, 3, 3), p=np.array([0, 0, 1, 0, 0, 0, 2, 1]))
    assert found == ["Conv"]


def test_what_others_read_is_not_merged():
    nodes = [("Conv", "x w", "c", {}), ("Relu", "c", "r", {}), ("Add", "c r", "y", {})]
    assert operators(nodes, (3, 6, 6), (4, 4, 4), w=normal(4, 3, 3, 3)) == ["Conv", "Relu", "Add"]


def test_a_layer_with_computed_operands_is_taken_apart():
    nodes = [
        ("Relu", "x", "r", {}), ("Gemm", "x r b", "y", {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ]  # fmt: skip
    made = [helper.make_node(operator, inputs.split(), [to], to, **attributes)
            for operator, inputs, to, attributes in nodes]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", (4, 3)), ("y", (3, 3)))
    ]
    graph = helper.make_graph(made, "by_hand", ends[:1], ends[1:], [numpy_helper.from_array(normal(3, 3), "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    network = prepared(network_from_onnx(clean_graph(model), "net"))
    assert [o.operator for o in network.operations] == ["Relu", "Transpose", "MatMul", "Affine"]
