import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeline.errors import InputError
from edgeline_export.graph import (
    clean_graph,
    inputs_of,
    outputs_of,
    with_free_batch,
)
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS


def graph_of(name):
    torch.manual_seed(0)
    return graph_from_module(MODELS[name].build(), MODELS[name].input_shape)


@pytest.fixture(scope="module")
def lenet():
    return graph_of("lenet")


def test_version_and_ends(lenet):
    assert [(entry.domain, entry.version) for entry in lenet.opset_import] == [("", 20)]
    assert lenet.ir_version <= 10
    assert [(t.name, t.shape, t.dtype, t.layout) for t in inputs_of(lenet)] == [
        ("input", (-1, 1, 28, 28), "float32", "NCHW")
    ]
    assert [(t.name, t.shape, t.dtype) for t in outputs_of(lenet)] == [("logits", (-1, 10), "float32")]
    onnx.checker.check_model(lenet, full_check=True)


def test_no_trace_of_this_machine(lenet):
    content = lenet.SerializeToString()
    for word in (b"stack_trace", b"/site-packages", b".py", b"pkg.torch", torch.__version__.encode()):
        assert word not in content
    assert {node.op_type for node in lenet.graph.node} == {"Conv", "Sigmoid", "AveragePool", "Reshape", "Gemm"}


def test_the_same_weights_give_the_same_bytes(lenet):
    assert graph_of("lenet").SerializeToString(deterministic=True) == lenet.SerializeToString(deterministic=True)


def test_a_graph_that_the_checker_refuses(lenet):
    broken = onnx.ModelProto()
    broken.CopyFrom(lenet)
    broken.graph.node[0].input[0] = "nowhere"
    with pytest.raises(InputError, match="does not pass onnx.checker"):
        clean_graph(broken)


def test_only_the_batch_may_be_free():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, "h", 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, "h", 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    with pytest.raises(InputError, match="only the first dimension, the batch, may be free"):
        inputs_of(helper.make_model(graph))


@pytest.mark.parametrize("kind", ["initializer", "Constant"])
def test_a_fixed_batch_is_freed_in_reshapes_too(kind):
    target = numpy_helper.from_array(np.array([2, 4]), "target")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", [2, 1, 2, 2]), ("y", [2, 4]))]  # fmt: skip
    nodes = [helper.make_node("Reshape", ["x", "target"], ["y"])]
    if kind == "Constant":
        nodes.insert(0, helper.make_node("Constant", [], ["target"], value=target))
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], [target] if kind == "initializer" else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    free = clean_graph(with_free_batch(model))
    assert inputs_of(free)[0].shape == (-1, 1, 2, 2)
    assert outputs_of(free)[0].shape == (-1, 4)
    assert inputs_of(model)[0].shape == (2, 1, 2, 2)  # the original is untouched


def test_a_module_that_torch_cannot_export():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="torch cannot export this network to ONNX: "):
        graph_from_module(Branching(), (1, 4, 4))


def test_weights_that_are_listed_as_inputs_are_none():
    """As IR 3 has them."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    listed = helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [ends[0], listed], ends[1:], [weight]
    )
    clean = clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert [value.name for value in clean.graph.input] == ["x"]
