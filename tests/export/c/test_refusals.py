"""What the C format does not take: refused before anything is generated, with the operator, the node and the reason."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import InputError
from edgeline_export.c.operators import ATTRIBUTES, OPERATORS
from edgeline_export.graph import IR_VERSION, OPSET
from tests.export.c.harness import program_of

IMAGE = ("N", 3, 8, 8)
WEIGHT = np.ones((4, 3, 3, 3), np.float32)
BAD = {"nan": np.nan, "inf": -np.inf}


def model(node, shape=IMAGE, opset=OPSET, dtype=TensorProto.FLOAT, **constants):
    """One node, or several; the last one's first output is the network's. Constants are initializers by name."""
    nodes = node if isinstance(node, list) else [node]
    ends = [
        helper.make_tensor_value_info("x", dtype, shape),
        helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.UNDEFINED, None),
    ]
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "refused", ends[:1], ends[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    made.graph.output[0].CopyFrom(onnx.shape_inference.infer_shapes(without_output_type(made)).graph.output[0])
    return made


def without_output_type(made):
    made.graph.output[0].ClearField("type")
    return made


def node(operator, inputs="x", outputs="y", **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), "the_node", **attributes)


def lstm():
    weights = {"w": np.ones((1, 8, 8), np.float32), "r": np.ones((1, 8, 2), np.float32)}
    return model(node("LSTM", "x w r", "y h", hidden_size=2), ("N", 4, 8), **weights)


REFUSED = {
    "an operator that is not in the table": (
        lambda: model(node("DepthToSpace", blocksize=1)),
        "no operator DepthToSpace .node 'the_node'.; it has Abs, Add"),
    "a recurrent one": (lstm, "no operator LSTM .node 'the_node'."),
    "an opset of another time": (
        lambda: model(node("Relu"), opset=13), "opset 13, where 20 is expected"),
    "a size that is not known": (
        lambda: model(node("Relu"), ("N", 3, "h", 8)), "only the first dimension, the batch, may be free"),
    "float16": (
        lambda: model(node("Relu"), dtype=TensorProto.FLOAT16), "'x' is float16; the C format takes float32"),
    "whole numbers where it computes": (
        lambda: model(node("Relu"), dtype=TensorProto.INT32), "Relu 'the_node': its input 'x' is int32"),
    "an empty tensor": (lambda: model(node("Relu"), ("N", 0)), "'x' has the shape .1, 0.: there is nothing"),
    "an output without an input": (
        lambda: model([node("Relu", outputs="y"), node("Neg", "w", "z")], (1, 2), w=np.ones((1, 2), np.float32)),
        "Neg 'the_node': it reads constants alone"),
    # Each attribute and mode.
    "three dimensions": (
        lambda: model(node("Conv", "x w"), ("N", 3, 8, 8, 8), w=np.ones((4, 3, 3, 3, 3), np.float32)),
        "Conv 'the_node': 3 spatial dimensions, where 1 or 2 are taken"),
    "an auto_pad that there is not": (
        lambda: model(node("MaxPool", kernel_shape=[2, 2], auto_pad="SAME")), "auto_pad"),
    "a window of padding": (
        lambda: model(node("MaxPool", kernel_shape=[2, 2], pads=[2, 0, 0, 0])),
        "MaxPool 'the_node': its window 0 of dimension 0 lies in the padding alone"),
    "weights that are computed": (
        lambda: model([node("Relu"), node("Reshape", "y s", "w"), node("Conv", "x w", "z")], (1, 3, 8, 8),
                      s=np.array([1, 3, 8, 8])),
        "Conv 'the_node': its input 'w' is computed, where a constant is taken"),
    "the places of the largest": (
        lambda: model([node("MaxPool", outputs="y i", kernel_shape=[2, 2]), node("Identity", "i", "z")]),
        "MaxPool 'the_node': its further output 'i' is used"),
    "statistics of a batch": (
        lambda: model(node("BatchNormalization", "x a b c d", "y e f", training_mode=1),
                      **{name: np.ones(3, np.float32) for name in "abcd"}),
        "BatchNormalization 'the_node': training_mode is 1"),
    "a Dropout that drops": (
        lambda: model(node("Dropout", "x r t"), r=np.float32(0.5), t=np.array(True)),
        "Dropout 'the_node': training_mode is 1"),
    "bounds that are computed": (
        lambda: model([node("ReduceMin", outputs="low", keepdims=0), node("Clip", "x low", "y")], (1, 3)),
        "Clip 'the_node': its input 'low' is computed"),
    "padding with infinity": (
        lambda: model(node("Pad", "x p v"), p=np.zeros(8, np.int64), v=np.float32(np.inf)),
        "Pad 'the_node': 1 of its weights 'v' are NaN or infinite"),
    "a slope that is no number": (
        lambda: model(node("LeakyRelu", alpha=float("nan"))), "LeakyRelu 'the_node': its alpha is nan"),
    "more operands": (lambda: model(node("Max", "x x x")), "Max 'the_node': 3 operands, where 2 are taken"),
    # What mixes the samples of a batch.
    "Softmax over the batch": (lambda: model(node("Softmax", axis=0)), "Softmax 'the_node': its axis is the batch"),
    "Softmax over the batch from behind": (
        lambda: model(node("Softmax", axis=-4)), "Softmax 'the_node': its axis is the batch"),
    "Concat over the batch": (
        lambda: model(node("Concat", "x x", axis=0)),
        "Concat 'the_node': 'y' has the shape .4, 3, 8, 8. for a batch of 2"),
    "ArgMax over the batch": (lambda: model(node("ArgMax", axis=0)), "ArgMax 'the_node': 'y' has the shape"),
    "a sum over the batch": (
        lambda: model(node("ReduceSum", "x a"), a=np.array([0])), "ReduceSum 'the_node': 'y' has the shape"),
    "a mean of all": (lambda: model(node("ReduceMean", keepdims=1)), "ReduceMean 'the_node': 'y' has the shape"),
    "a batch that moves": (
        lambda: model(node("Transpose", perm=[1, 0, 2, 3])), "Transpose 'the_node': 'y' has the shape"),
    "more samples": (
        lambda: model(node("Pad", "x p"), p=np.array([1, 0, 0, 0, 0, 0, 0, 0])), "Pad 'the_node': 'y' has the shape"),
    "samples moved by one": (
        lambda: model(node("Pad", "x p"), p=np.array([1, 0, 0, 0, -1, 0, 0, 0])),
        "Pad 'the_node': its axis is the batch: it mixes the samples"),
    "samples in another order": (
        lambda: model(node("Slice", "x s e a t"), s=np.array([-1]), e=np.array([-(2**40)]), a=np.array([0]),
                      t=np.array([-1])),
        "Slice 'the_node': its axis is the batch: it mixes the samples"),
    "a batch in another dimension": (
        lambda: model(node("Reshape", "x s"), s=np.array([-1, 8])), "Reshape 'the_node': 'y' has the shape"),
    "a product of samples": (
        lambda: model([node("Transpose", outputs="t", perm=[1, 0]), node("MatMul", "x t")], ("N", 5)),
        "Transpose 'the_node': 't' has the shape"),
    # Numbers that are none.
    **{f"{name} among weights": (
        lambda bad=bad: model(node("Conv", "x w"), w=np.where(np.arange(108).reshape(WEIGHT.shape) == 7, bad, WEIGHT)
                              .astype(np.float32)),
        "Conv 'the_node': 1 of its weights 'w' are NaN or infinite") for name, bad in BAD.items()},
    "NaN as a bound": (
        lambda: model(node("Clip", "x low"), low=np.float32(np.nan)),
        "Clip 'the_node': 1 of its weights 'low' are NaN"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    build, message = REFUSED[what]
    with pytest.raises(InputError, match=message) as caught:
        program_of(build())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_attribute_is_known(operator):
    """The table names each attribute that opset 20 gives the operator: none is passed over by oversight."""
    assert ATTRIBUTES.get(operator, frozenset()) == set(onnx.defs.get_schema(operator, OPSET).attributes)


def test_an_attribute_of_another_opset_is_refused(monkeypatch):
    monkeypatch.setitem(ATTRIBUTES, "Softmax", frozenset())
    with pytest.raises(InputError, match="Softmax 'the_node': its attribute axis is not known"):
        program_of(model(node("Softmax", axis=1)))


def test_infinite_bounds_are_no_bounds():
    built = program_of(model(node("Clip", "x low high"), low=np.float32(-np.inf), high=np.float32(np.inf)))
    (activation,) = built.steps[0].layer.members["activations"]
    assert activation["b"] == -activation["a"] == np.finfo(np.float32).max
