import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import InputError
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.half import _check_takes_half, half, rounded
from edgeline_export.runner import GraphRunner
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from tests.export.networks import rich_graph


def network(name):
    torch.manual_seed(0)
    return MODELS[name].build().eval()


def kinds_of(model):
    return {
        v.name: v.type.tensor_type.elem_type for v in [*model.graph.value_info, *model.graph.input, *model.graph.output]
    }


@pytest.mark.parametrize("make", [lambda: graph_from_module(network("lenet"), (1, 28, 28)), rich_graph])
def test_half_inside_and_float32_at_the_ends(make):
    model = make()
    shipped = half(model)
    assert [(v.name, v.type.tensor_type.elem_type) for v in [*shipped.graph.input, *shipped.graph.output]] == [
        ("input", TensorProto.FLOAT), ("logits", TensorProto.FLOAT),
    ]  # fmt: skip
    kinds = kinds_of(shipped)
    ends = {"input", "logits"}
    assert {kind for name, kind in kinds.items() if name not in ends} <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert not [t.name for t in shipped.graph.initializer if t.data_type == TensorProto.FLOAT]
    onnx.checker.check_model(shipped, full_check=True)


@pytest.mark.parametrize("name", ["lenet", pytest.param("alexnet", marks=pytest.mark.slow)])
def test_the_twin_rounds_as_torchs_half_module_does(name):
    """PyTorch's own float16 arithmetic on the CPU, against our float32 arithmetic with rounding after every node."""
    module = network(name)
    shape = MODELS[name].input_shape
    batch = np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)
    twin = GraphRunner(rounded(graph_from_module(module, shape))).run(batch)
    with torch.inference_mode():
        exact = module(torch.from_numpy(batch)).numpy()
        eager = module.half()(torch.from_numpy(batch).half()).float().numpy()
    # Both round at the same places; they sum in another order. For LeNet the rounding itself is several times larger;
    # AlexNet's sums are so long that its small untrained logits may fall to the neighbouring float16.
    neighbour = float(np.spacing(np.abs(exact).max().astype(np.float16)))
    assert np.abs(twin - eager).max() <= (np.abs(exact - eager).max() if name == "lenet" else neighbour)
    assert np.abs(twin - eager).max() <= 2e-3 * np.abs(exact).max()
    assert not np.array_equal(twin, exact)


def chain(*nodes, weights=(), opset=20):
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )  # fmt: skip
    return clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def test_the_twin_shows_what_the_cpu_provider_hides():
    """300 * 300 is beyond float16, and so is every sum after it; ONNX Runtime's CPU provider computes in float32."""
    square = helper.make_node("Mul", ["x", "x"], ["s"])
    root = helper.make_node("Sqrt", ["s"], ["y"])
    model = chain(square, root)
    big = np.array([[300.0, 1.0]], np.float32)
    assert np.isinf(GraphRunner(rounded(model)).run(big)).any()
    assert np.isfinite(GraphRunner(model).run(big)).all()


def test_every_activation_is_rounded_at_every_level_of_optimisation():
    """ONNX Runtime must not take the pair of Casts away: 1 + 2**-12 is no float16."""
    model = rounded(chain(helper.make_node("Identity", ["x"], ["y"])))
    assert GraphRunner(model).run(np.full((1, 2), 1 + 2.0**-12, np.float32)).tolist() == [[1.0, 1.0]]


def test_a_weight_beyond_float16_is_named():
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    model = chain(node, weights=[("w", np.array([70_000.0, 1.0], np.float32))])
    with pytest.raises(InputError, match="the weight 'w' holds 7e\\+04, float16 ends at 65,504"):
        half(model)


def test_float32_only_inputs_stay_float32():
    """Resize takes its scales as float32, whatever its data are."""
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
    )  # fmt: skip
    model = clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    batch = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    for form in (half(model), rounded(model)):
        assert np.array_equal(GraphRunner(form).run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))


def test_subgraphs_are_refused_by_name():
    branch = [helper.make_graph([helper.make_node(op, ["x"], ["b"])], "b", [],
              [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 2])]) for op in ("Relu", "Neg")]  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch[0], else_branch=branch[1])
    model = chain(node, weights=[("c", np.array(True))])
    with pytest.raises(InputError, match="sub-graphs of If \\(node 'choice'\\)"):
        half(model)


def test_an_operator_without_float16_is_named():
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["kept"], "suppress")
    with pytest.raises(InputError, match="NonMaxSuppression \\(node 'suppress'\\) takes no float16"):
        _check_takes_half(node)


def test_a_cast_to_float_inside_becomes_one_to_float16():
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "x"], ["y"]),
    ]
    shipped = half(chain(*nodes))
    assert kinds_of(shipped)["f"] == TensorProto.FLOAT16
    assert GraphRunner(shipped).run(np.array([[2.5, -1.25]], np.float32)).tolist() == [[4.5, -2.25]]


def test_an_operator_of_another_domain_is_named():
    node = helper.make_node("FusedConv", ["x", "w"], ["y"], "fused", domain="com.microsoft")
    with pytest.raises(InputError, match="FusedConv of com.microsoft \\(node 'fused'\\) is no operator of ONNX"):
        _check_takes_half(node)


@pytest.mark.parametrize("operator", ["Constant", "ConstantOfShape"])
def test_numbers_in_attributes_become_float16(operator):
    """0.1 has no float16: what comes out is the nearest one."""
    value = numpy_helper.from_array(np.array([0.1], np.float32), "value")
    nodes = [helper.make_node("Shape", ["x"], ["shape"])] if operator == "ConstantOfShape" else []
    nodes += [
        helper.make_node(operator, [node.output[0] for node in nodes], ["c"], value=value),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    shipped = half(chain(*nodes))
    (made,) = [node for node in shipped.graph.node if node.op_type == operator]
    assert made.attribute[0].t.data_type == TensorProto.FLOAT16
    assert kinds_of(shipped)["c"] == TensorProto.FLOAT16
    assert GraphRunner(shipped).run(np.zeros((1, 2), np.float32)).tolist() == [[float(np.float16(0.1))] * 2]


@pytest.mark.parametrize(("attribute", "value"), [("value_float", 0.5), ("value_floats", [0.5, 1.5])])
def test_a_constant_of_numbers_without_a_type_is_refused_by_name(attribute, value):
    """Such a Constant is float32 by definition; folding makes it an initializer, which has a type."""
    model = chain(
        helper.make_node("Constant", [], ["c"], "untyped", **{attribute: value}),
        helper.make_node("Add", ["x", "c"], ["y"]),
    )
    with pytest.raises(InputError, match="the Constant 'untyped' holds its numbers in an attribute without a type"):
        half(model)
    shipped = half(clean_graph(folded(model)))
    expected = (np.zeros((1, 2)) + value).tolist()
    assert GraphRunner(shipped).run(np.zeros((1, 2), np.float32)).tolist() == expected
