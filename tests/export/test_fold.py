import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import InputError
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.runner import GraphRunner
from tests.export.networks import rich_graph


@pytest.fixture(scope="module")
def rich():
    return rich_graph()


def test_folding_changes_rounding_alone(rich):
    plain = clean_graph(folded(rich))
    batch = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
    assert np.allclose(GraphRunner(plain).run(batch), GraphRunner(rich).run(batch), atol=1e-6)
    assert not {node.op_type for node in plain.graph.node} & {"BatchNormalization", "Identity", "Dropout", "Constant"}


OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]


def model_of(nodes, weights, input_shape, output_shape, functions=()):
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *input_shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *output_shape])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    opsets = OPSETS if functions else OPSETS[:1]
    return clean_graph(helper.make_model(graph, functions=functions, opset_imports=opsets))


def norm(source, target):
    return helper.make_node("BatchNormalization", [source, "scale", "shift", "mean", "var"], [target], epsilon=1e-3)


NORM = {"scale": [2.0, -1.0], "shift": [0.5, 3.0], "mean": [1.0, -2.0], "var": [4.0, 0.25]}
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_normalisation_after_a_gemm_with_factors(transposed, bias):
    weight = RANDOM.standard_normal((2, 3) if transposed else (3, 2))
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    gemm = helper.make_node("Gemm", inputs, ["g"], transB=transposed, alpha=0.5, beta=3.0)
    model = model_of([gemm, norm("g", "y")], {"w": weight, "b": [1.0, 2.0], **NORM}, [3], [2])
    plain = clean_graph(folded(model))
    assert [node.op_type for node in plain.graph.node] == ["Gemm"]
    batch = RANDOM.standard_normal((5, 3)).astype(np.float32)
    assert np.allclose(GraphRunner(plain).run(batch), GraphRunner(model).run(batch), atol=1e-5)


def test_a_shared_convolution_is_not_folded():
    """Its output is read twice: folding one reader's normalisation would change what the other reads."""
    conv = helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1])
    add = helper.make_node("Add", ["c", "d"], ["y"])
    model = model_of(
        [conv, norm("c", "d"), add], {"w": RANDOM.standard_normal((2, 3, 1, 1)), **NORM}, [3, 4, 4], [2, 4, 4]
    )
    plain = clean_graph(folded(model))
    assert "BatchNormalization" in {node.op_type for node in plain.graph.node}
    batch = RANDOM.standard_normal((2, 3, 4, 4)).astype(np.float32)
    assert np.allclose(GraphRunner(plain).run(batch), GraphRunner(model).run(batch), atol=1e-6)


def test_weights_shared_by_two_nodes_are_folded_apart():
    """Both convolutions hold the same weights; only the second is normalised."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["a", "w"], ["b"], kernel_shape=[1, 1]),
        norm("b", "y"),
    ]
    model = model_of(nodes, {"w": RANDOM.standard_normal((2, 2, 1, 1)), **NORM}, [2, 4, 4], [2, 4, 4])
    batch = RANDOM.standard_normal((2, 2, 4, 4)).astype(np.float32)
    plain = clean_graph(folded(model))
    assert [node.op_type for node in plain.graph.node] == ["Conv", "Conv"]
    assert np.allclose(GraphRunner(plain).run(batch), GraphRunner(model).run(batch), atol=1e-5)


def test_what_does_nothing_goes():
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Dropout", ["a"], ["b"]),
        helper.make_node("Mul", ["b", "two"], ["y"]),
    ]
    model = model_of(nodes, {}, [3], [3])
    plain = clean_graph(folded(model))
    assert [node.op_type for node in plain.graph.node] == ["Mul"]
    batch = RANDOM.standard_normal((5, 3)).astype(np.float32)
    assert np.array_equal(GraphRunner(plain).run(batch), batch * 2)


def test_an_identity_that_makes_the_output_stays():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Identity", ["a"], ["y"])]
    assert [node.op_type for node in folded(model_of(nodes, {}, [3], [3])).graph.node] == ["Relu", "Identity"]


@pytest.mark.parametrize("bias_first", [True, False])
def test_a_matmul_and_its_bias_become_a_gemm(bias_first):
    sums = ["b", "m"] if bias_first else ["m", "b"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", sums, ["y"])]
    model = model_of(nodes, {"w": RANDOM.standard_normal((3, 2)), "b": [1.0, -2.0]}, [3], [2])
    plain = clean_graph(folded(model))
    assert [node.op_type for node in plain.graph.node] == ["Gemm"]
    batch = RANDOM.standard_normal((5, 3)).astype(np.float32)
    assert np.allclose(GraphRunner(plain).run(batch), GraphRunner(model).run(batch), atol=1e-6)


def test_a_matmul_over_more_dimensions_stays():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    model = model_of(nodes, {"w": RANDOM.standard_normal((3, 2)), "b": [1.0, -2.0]}, [4, 3], [4, 2])
    assert [node.op_type for node in folded(model).graph.node] == ["MatMul", "Add"]


def test_weights_behind_a_transpose_are_seen_as_weights():
    nodes = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    model = model_of(nodes, {"w": RANDOM.standard_normal((2, 3))}, [3], [2])
    plain = clean_graph(folded(model))
    assert [node.op_type for node in plain.graph.node] == ["MatMul"]
    batch = RANDOM.standard_normal((5, 3)).astype(np.float32)
    assert np.allclose(GraphRunner(plain).run(batch), GraphRunner(model).run(batch), atol=1e-6)


def test_what_the_graph_gives_out_is_not_folded_away():
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1]), norm("y", "unused")]
    model = model_of(nodes, {"w": RANDOM.standard_normal((2, 3, 1, 1)), **NORM}, [3, 4, 4], [2, 4, 4])
    batch = RANDOM.standard_normal((2, 3, 4, 4)).astype(np.float32)
    assert np.allclose(GraphRunner(clean_graph(folded(model))).run(batch), GraphRunner(model).run(batch), atol=1e-6)


def test_dropout_that_trains_stays():
    nodes = [helper.make_node("Dropout", ["x", "ratio", "training"], ["d"]), helper.make_node("Relu", ["d"], ["y"])]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.float32(0.5), "ratio"), numpy_helper.from_array(np.array(True), "training")],
    )  # fmt: skip
    model = clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert [node.op_type for node in folded(model).graph.node] == ["Dropout", "Relu"]


def test_a_matmul_that_is_given_out_stays():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "b"], ["unused"])]
    model = model_of(nodes, {"w": RANDOM.standard_normal((3, 2)), "b": [1.0, -2.0]}, [3], [2])
    assert [node.op_type for node in folded(model).graph.node] == ["MatMul", "Add"]


def test_the_default_epsilon_of_a_normalisation_is_onnxs():
    """1e-5: over a variance of 0 a weight of 1 becomes 1 / sqrt(1e-5)."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["g"]),
        helper.make_node("BatchNormalization", ["g", "one", "zero", "zero", "zero"], ["y"]),
    ]
    plain = folded(model_of(nodes, {"w": [[1.0]], "one": [1.0], "zero": [0.0]}, [1], [1]))
    assert [node.op_type for node in plain.graph.node] == ["Gemm"]
    assert GraphRunner(clean_graph(plain)).run(np.ones((1, 1), np.float32)) == pytest.approx(316.22777)


def test_a_normalisation_after_a_transposed_gemm():
    """transA is the data's: the weight's output channels stay where they were."""
    gemm = helper.make_node("Gemm", ["t", "w", "b"], ["g"], transA=1)
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), gemm, norm("g", "y")]
    model = model_of(nodes, {"w": RANDOM.standard_normal((3, 2)), "b": [1.0, 2.0], **NORM}, [3], [2])
    plain = clean_graph(folded(model))
    assert [node.op_type for node in plain.graph.node] == ["Transpose", "Gemm"]
    batch = RANDOM.standard_normal((5, 3)).astype(np.float32)
    assert np.allclose(GraphRunner(plain).run(batch), GraphRunner(model).run(batch), atol=1e-5)


def test_local_functions_are_inlined_and_folded():
    body = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    linear = helper.make_function("own", "Linear", ["x", "w", "b"], ["y"], body, OPSETS[:1])
    call = helper.make_node("Linear", ["x", "w", "b"], ["y"], domain="own")
    weight = RANDOM.standard_normal((3, 2)).astype(np.float32)
    plain = clean_graph(folded(model_of([call], {"w": weight, "b": [1.0, -2.0]}, [3], [2], [linear])))
    assert [node.op_type for node in plain.graph.node] == ["Gemm"]
    assert not plain.functions
    batch = RANDOM.standard_normal((5, 3)).astype(np.float32)
    assert np.allclose(GraphRunner(plain).run(batch), batch @ weight + [1.0, -2.0], atol=1e-6)


@pytest.mark.parametrize(
    ("attribute", "value", "kind"),
    [
        ("value", numpy_helper.from_array(np.array([1, 3], np.int32)), np.int32),
        ("value_float", 1.5, np.float32),
        ("value_floats", [1.5, 2.5], np.float32),
        ("value_int", 3, np.int64),
        ("value_ints", [1, 3], np.int64),
    ],
)
def test_constants_of_numbers_become_initializers(attribute, value, kind):
    node = helper.make_node("Constant", [], ["y"], **{attribute: value})
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)])
    (tensor,) = folded(helper.make_model(graph)).graph.initializer
    found = numpy_helper.to_array(tensor)
    assert found.dtype == kind
    assert found.tolist() == ([1, 3] if attribute == "value" else value)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("value_string", "text"),
        ("value_strings", ["text", "more"]),
        (
            "sparse_value",
            helper.make_sparse_tensor(
                helper.make_tensor("v", TensorProto.FLOAT, [1], [2.0]),
                helper.make_tensor("i", TensorProto.INT64, [1], [1]),
                [3],
            ),
        ),
    ],
)
def test_a_constant_of_no_plain_numbers_is_refused_by_name(attribute, value):
    node = helper.make_node("Constant", [], ["c"], "odd", **{attribute: value})
    graph = helper.make_graph([node], "g", [], [])
    with pytest.raises(InputError, match=f"the Constant 'odd' holds {attribute}, "):
        folded(helper.make_model(graph))
