import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import GateError
from edgeline_export.coverage import check_precision, coverage_of
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.half import half
from edgeline_export.quantise import LAYOUTS, ActivationRange, quantised, quantised_tensors, scale_for
from edgeline_export.ranges import RangeCollector
from edgeline_export.runner import GraphRunner
from tests.export.networks import rich_graph

RANDOM = np.random.default_rng(0)


def initializer(model, name):
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def one_gemm(weight, bias):
    """y = x W + b"""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    return clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def ranges_of(model, batch):
    """Min-max ranges of every float tensor, from one batch."""
    names = [v.name for v in [*model.graph.input, *model.graph.value_info, *model.graph.output]
             if v.type.tensor_type.elem_type == TensorProto.FLOAT]  # fmt: skip
    names = tuple(dict.fromkeys(names))
    found = {}
    for name, values in zip(names, GraphRunner(model, names).tensors(names, batch), strict=True):
        collector = RangeCollector(name)
        collector.add(values)
        seen = collector.result()
        found[name] = ActivationRange(seen.magnitude, seen.smallest >= 0)
    return found


@pytest.fixture(scope="module")
def rich():
    plain = clean_graph(folded(rich_graph()))
    batch = RANDOM.standard_normal((64, 3, 16, 16)).astype(np.float32) * 2 + 1
    return plain, batch, ranges_of(plain, batch)


# --- scales -----------------------------------------------------------------------------------------------------------


def test_scales_are_float16_numbers_that_cut_nothing():
    magnitudes = 10.0 ** RANDOM.uniform(-4, 4, 10_000)
    scales = scale_for(magnitudes, 127).astype(np.float64)
    assert np.array_equal(scales.astype(np.float16).astype(np.float64), scales)
    assert (scales * 127 >= magnitudes).all()
    assert (scales[magnitudes > 0.01] * 127 <= magnitudes[magnitudes > 0.01] * 1.001).all()


def test_a_channel_of_zeros_has_a_scale():
    assert scale_for(np.zeros(3), 127).min() > 0


# --- one Gemm, by hand ------------------------------------------------------------------------------------------------

WEIGHT = np.array([[1.0, -0.5], [0.25, 0.125]], np.float32)
BIAS = np.array([0.5, -3.0], np.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_per_output_channel(layout):
    model = quantised(one_gemm(WEIGHT, BIAS), {"x": ActivationRange(2.0, False)}, layout)
    levels, scale = initializer(model, "w_int8"), initializer(model, "w_int8_scale")
    assert levels.dtype == np.int8
    assert scale.shape == (2,)  # columns are outputs: transB is 0
    assert np.abs(levels).max(axis=0).tolist() == [127, 127]
    assert np.abs(levels * scale - WEIGHT).max() <= scale.max() / 2
    assert initializer(model, "w_int8_zero_point").tolist() == [0, 0]


def test_fused_leaves_the_bias_in_float_and_the_output_alone():
    model = quantised(one_gemm(WEIGHT, BIAS), {"x": ActivationRange(2.0, True)}, "fused")
    assert [n.op_type for n in model.graph.node] == ["DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "Gemm"]
    assert initializer(model, "b").tolist() == BIAS.tolist()
    assert initializer(model, "x_zero_point") == 0  # symmetric even though x is never negative


def test_integer_has_biases_in_steps_of_both_scales():
    model = quantised(one_gemm(WEIGHT, BIAS), {"x": ActivationRange(2.0, False)}, "integer")
    bias, scale = initializer(model, "b_int32"), initializer(model, "b_int32_scale")
    assert bias.dtype == np.int32
    assert np.allclose(scale, initializer(model, "x_scale") * initializer(model, "w_int8_scale"))
    assert np.abs(bias * scale - BIAS).max() <= scale.max() / 2


def test_integer_gives_what_is_never_negative_all_256_levels():
    model = quantised(one_gemm(WEIGHT, BIAS), {"x": ActivationRange(2.0, True)}, "integer")
    assert initializer(model, "x_zero_point").dtype == np.uint8
    assert initializer(model, "x_zero_point") == 0
    assert initializer(model, "x_scale") == pytest.approx(2.0 / 255, rel=1e-3)


@pytest.mark.parametrize("large", [100.0, -100.0])
def test_a_large_bias_over_tiny_weights_still_fits_int32(large):
    """Steps of 6e-8 (the smallest float16) * 2 / 127: a bias of 100 needs 37 bits, and is given 30."""
    weight = np.array([[1e-9, -5e-4], [1e-9, 1.25e-4]], np.float32)
    bias = np.array([large, -3e-3], np.float32)
    model = quantised(one_gemm(weight, bias), {"x": ActivationRange(2.0, False)}, "integer")
    levels = initializer(model, "b_int32").astype(np.int64)
    assert 2**30 * 0.99 < abs(levels[0]) <= 2**30
    assert levels[0] * large > 0
    assert initializer(model, "w_int8_scale")[1] == scale_for(5e-4, 127)  # this channel has room
    found = GraphRunner(model).run(np.array([[1.0, 1.0]], np.float32))
    assert np.allclose(found, [[large, -3.375e-3]], rtol=1e-6, atol=2e-5)


def test_a_bias_for_each_row_of_a_fixed_batch_is_none_for_each_column():
    """Two rows, two columns: [2, 1] has as many numbers as there are channels."""
    model = one_gemm(WEIGHT, BIAS.reshape(2, 1))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    made = quantised(clean_graph(model), {"x": ActivationRange(2.0, False)}, "integer")
    found = GraphRunner(made).run(np.eye(2, dtype=np.float32))
    assert np.allclose(found, WEIGHT + BIAS.reshape(2, 1), atol=0.02)


# --- a whole network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_with_many_operators_stays_near_its_source(rich, layout):
    plain, batch, ranges = rich
    model = quantised(plain, ranges, layout)
    check_precision(coverage_of(model), "int8")
    assert coverage_of(model).macs == {"int8": 1.0}
    expected, found = GraphRunner(plain).run(batch), GraphRunner(model).run(batch)
    assert np.abs(found - expected).max() < 0.05
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_fused_has_pairs_before_matrix_operators_only(rich):
    plain, _, ranges = rich
    model = quantised(plain, ranges, "fused")
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            assert [producers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert len(node.input) == 2 or node.input[2] not in producers
        elif node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert not [
                name for name in node.input if name in producers and producers[name].op_type == "DequantizeLinear"
            ]
    zero_points = [t for t in model.graph.initializer if t.name.endswith("zero_point")]
    assert zero_points
    assert not any(numpy_helper.to_array(tensor).any() for tensor in zero_points)


def test_onnx_runtime_runs_integers_from_end_to_end(exported, tmp_path):
    """After ONNX Runtime's own fusions no float operator is left in LeNet but what makes the logits."""
    plain = clean_graph(folded(onnx.load(exported / "model.onnx")))
    batch = np.load(exported / "selftest.npz")["inputs"]
    onnx.save(quantised(plain, ranges_of(plain, batch), "integer"), tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert set(kinds) - {"Transpose", "Reshape"} == {
        "QuantizeLinear", "QLinearConv", "QLinearSigmoid", "QLinearAveragePool", "QGemm",
    }  # fmt: skip
    assert kinds.count("QuantizeLinear") == 1


def test_a_relu_after_a_convolution_needs_no_operator_of_its_own(rich, tmp_path):
    plain, _, ranges = rich
    onnx.save(quantised(plain, ranges, "integer"), tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert not kinds & {"Relu", "Clip", "Conv", "FusedConv"}
    assert {"QLinearConv", "QLinearAdd", "QLinearConcat"} <= kinds


def test_the_same_scales_serve_float16(rich):
    plain, batch, ranges = rich
    float_graph = quantised(plain, ranges, "fused")
    shipped = half(float_graph)
    scales = {t.name: numpy_helper.to_array(t) for t in float_graph.graph.initializer if t.name.endswith("_scale")}
    for tensor in shipped.graph.initializer:
        if tensor.name in scales:
            assert tensor.data_type == TensorProto.FLOAT16
            assert np.array_equal(numpy_helper.to_array(tensor).astype(np.float32), scales[tensor.name])
    assert np.abs(GraphRunner(shipped).run(batch) - GraphRunner(float_graph).run(batch)).max() < 0.02


def test_the_same_network_gives_the_same_bytes(rich):
    plain, _, ranges = rich
    for layout in LAYOUTS:
        first, second = (quantised(plain, ranges, layout).SerializeToString(deterministic=True) for _ in range(2))
        assert first == second


def test_weights_are_those_of_onnx_runtimes_own_quantiser(exported, tmp_path):
    """Its scales are exact where ours are rounded up to float16, by 0.05 % at most."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    source = exported / "model.onnx"

    class OneBatch(quantization.CalibrationDataReader):
        def __init__(self):
            self._left = [{"input": np.load(exported / "selftest.npz")["inputs"]}]

        def get_next(self):
            return self._left.pop() if self._left else None

    quantization.quantize_static(
        source, tmp_path / "theirs.onnx", OneBatch(), quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )  # fmt: skip
    theirs = onnx.load(tmp_path / "theirs.onnx")
    plain = clean_graph(folded(onnx.load(source)))
    ours = quantised(plain, ranges_of(plain, np.load(exported / "selftest.npz")["inputs"]), "fused")
    for name in ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "fc3.weight"):
        scale, their_scale = initializer(ours, f"{name}_int8_scale"), initializer(theirs, f"{name}_scale")
        assert (scale >= their_scale * (1 - 1e-6)).all()
        assert (scale <= their_scale * 1.001).all()
        levels, their_levels = initializer(ours, f"{name}_int8"), initializer(theirs, f"{name}_quantized")
        assert np.abs(levels.astype(int) - their_levels.astype(int)).max() <= 1
    assert initializer(ours, "input_scale") == pytest.approx(initializer(theirs, "input_scale"), rel=1e-3)


# --- which tensors integers meet at -----------------------------------------------------------------------------------


def conv_and(operator, *inputs, weights=()):
    """x -> Conv -> operator -> y"""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[1, 1]),
             helper.make_node(operator, ["c", *inputs], ["y0"], "after"),
             helper.make_node("GlobalAveragePool", ["y0"], ["y"], "pool")]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [numpy_helper.from_array(RANDOM.standard_normal((4, 2, 1, 1)).astype(np.float32), "w"),
         *(numpy_helper.from_array(np.float32(value), name) for name, value in weights)],
    )  # fmt: skip
    return clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


@pytest.mark.parametrize(
    ("model", "is_quantised"),
    [
        (conv_and("Relu"), False),  # saturation at 0 is the ReLU
        (conv_and("Clip", "low", "high", weights=[("low", 0.0), ("high", 6.0)]), False),
        (conv_and("Clip", "low", "high", weights=[("low", -0.5), ("high", 0.5)]), True),  # its own numbers matter
        (conv_and("Sigmoid"), True),
        (conv_and("Tanh"), True),  # a float operator: it reads what the integer convolution gives
    ],
)
def test_what_a_convolution_gives_is_quantised_unless_its_activation_saturates(model, is_quantised):
    batch = RANDOM.standard_normal((8, 2, 3, 3)).astype(np.float32)
    made = quantised(model, ranges_of(model, batch), "integer")
    assert ("c" in quantised_tensors(made)) is is_quantised
    assert np.abs(GraphRunner(made).run(batch) - GraphRunner(model).run(batch)).max() < 0.03


def test_the_sums_of_a_last_gemm_leave_as_floats():
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["g"]), helper.make_node("Softmax", ["g"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])], [numpy_helper.from_array(WEIGHT, "w")],
    )  # fmt: skip
    model = clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    made = quantised(model, ranges_of(model, RANDOM.standard_normal((8, 2)).astype(np.float32)), "integer")
    assert quantised_tensors(made) == {"x"}


def between_relus(operator, constant=None, twice=False, **attributes):
    """x [n, 1, 4, 4] -> Conv -> Relu -> operator -> Relu"""
    constants = [] if constant is None else [numpy_helper.from_array(np.array(constant), "constant")]
    read = ["before"] * (2 if twice else 1) + [tensor.name for tensor in constants]
    constants.append(numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w"))
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
             helper.make_node("Relu", ["c"], ["before"]),
             helper.make_node(operator, read, ["after"], **attributes),
             helper.make_node("Relu", ["after"], ["y"])]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("model", "keeps"),
    [
        (between_relus("MaxPool", kernel_shape=[2, 2]), True),
        (between_relus("Reshape", [0, -1]), True),
        (between_relus("Flatten"), True),
        (between_relus("Transpose", perm=[0, 1, 3, 2]), True),
        (between_relus("Squeeze", [1]), True),
        (between_relus("Unsqueeze", [1]), True),
        (between_relus("AveragePool", kernel_shape=[2, 2]), False),
        (between_relus("GlobalAveragePool"), False),
        (between_relus("LeakyRelu"), False),
        (between_relus("Sigmoid"), False),
        (between_relus("Mul", twice=True), False),
    ],
    ids=lambda value: value.graph.node[2].op_type if isinstance(value, onnx.ModelProto) else str(value),
)
def test_operators_that_move_numbers_alone_keep_their_inputs_scale(model, keeps):
    """What calibration saw of the output, 1.0, is another range: only what computes is given it."""
    ranges = {"before": ActivationRange(4.0, False), "after": ActivationRange(1.0, True)}
    made = quantised(clean_graph(model), ranges, "integer")
    assert initializer(made, "before_scale") == scale_for(4.0, 127)
    assert initializer(made, "after_scale") == (scale_for(4.0, 127) if keeps else scale_for(1.0, 255))
    assert initializer(made, "after_zero_point") == (128 if keeps else 0)


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_a_coefficient_or_a_bias_of_each_map_stays_float(operator):
    """ONNX Runtime adds and multiplies integers of two activations: a constant would have to be rounded for it."""
    ranges = {"before": ActivationRange(4.0, False), "after": ActivationRange(4.0, False)}
    made = quantised(clean_graph(between_relus(operator, np.float32(0.3))), ranges, "integer")
    assert quantised_tensors(made) == {"before"}  # what the ReLU on integers gives


def test_what_lies_between_float_operators_alone_stays_float():
    """x -> Conv -> Tanh -> AveragePool -> Tanh -> Flatten -> Gemm: the pool has no integers beside it."""
    random = np.random.default_rng(8)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]), helper.make_node("Tanh", ["c"], ["t"]),
             helper.make_node("AveragePool", ["t"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
             helper.make_node("Tanh", ["p"], ["u"]), helper.make_node("Flatten", ["u"], ["f"]),
             helper.make_node("Gemm", ["f", "v"], ["y"])]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(random.standard_normal((3, 2, 1, 1)).astype(np.float32), "w"),
         numpy_helper.from_array(random.standard_normal((12, 5)).astype(np.float32), "v")],
    )  # fmt: skip
    model = clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    batch = random.standard_normal((8, 2, 4, 4)).astype(np.float32)
    made = quantised(model, ranges_of(model, batch), "integer")
    assert quantised_tensors(made) == {"x", "c", "u", "f"}
    assert coverage_of(made).macs == {"int8": 1.0}
    assert np.abs(GraphRunner(made).run(batch) - GraphRunner(model).run(batch)).max() < 0.15


# --- what a newcomer's networks had -----------------------------------------------------------------------------------


def test_what_nobody_reads_is_left_alone():
    """A dead branch, as some exporters leave it, and a network whose last operator is an integer one."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[1, 1]),
             helper.make_node("MaxPool", ["c"], ["dead"], "dead", kernel_shape=[2, 2]),
             helper.make_node("GlobalAveragePool", ["c"], ["y"], "pool")]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [numpy_helper.from_array(RANDOM.standard_normal((4, 2, 1, 1)).astype(np.float32), "w")],
    )  # fmt: skip
    model = clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    batch = RANDOM.standard_normal((8, 2, 3, 3)).astype(np.float32)
    made = quantised(model, ranges_of(model, batch), "integer")
    assert quantised_tensors(made) == {"x", "c"}
    assert np.abs(GraphRunner(made).run(batch) - GraphRunner(model).run(batch)).max() < 0.05


def test_scales_beyond_float16_stay_float32():
    assert scale_for(1e9, 127) == pytest.approx(1e9 / 127, rel=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gemm_that_transposes_its_data_stays_in_float_and_is_named(layout):
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
             helper.make_node("Gemm", ["t", "w", "b"], ["y"], "turned", transA=1)]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")],
    )  # fmt: skip
    model = clean_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    batch = RANDOM.standard_normal((5, 2)).astype(np.float32)
    made = quantised(model, ranges_of(model, batch), layout)
    assert np.array_equal(initializer(made, "w"), WEIGHT)
    assert np.array_equal(initializer(made, "b"), BIAS)
    assert np.abs(GraphRunner(made).run(batch) - (batch @ WEIGHT + BIAS)).max() < 0.03
    with pytest.raises(GateError, match=r"int8 was asked for, but 0\.0% .*; not: turned \(Gemm, fp32, 100\.0%\)"):
        check_precision(coverage_of(made), "int8")
