"""Q/DQ patterns as integer C, against ONNX Runtime with and without its graph optimisations, in quanta."""

import numpy as np
import pytest

from edgeline_export.c.operators import OPERATORS
from edgeline_export.c.passes import prepared
from edgeline_export.c.read import network_from_onnx
from tests.export.c.harness import build
from tests.export.c.qdq import RANDOM, Qdq, outputs_of, quanta
from tests.export.c.test_float_networks import runs_here

S, T = 1 / 32, 1 / 50  # scales of the input and of what is made of it


def conv(shape=(5, 9, 11), out=7, kernel=(3, 3), zeros=(128, 128), group=1, bias=True, then=(), **attributes):
    g = Qdq(shape)
    y = g.conv("c", g.quantised("x", S, zeros[0]), S, out, shape[0] // group, kernel, bias, group=group, **attributes)
    for i, operator in enumerate(then):
        y = g.node(operator, [y], f"a{i}")
    return g, g.quantised(y, T, zeros[1])


def conv_int8():
    g = Qdq((5, 9, 11))
    y = g.conv("c", g.quantised("x", S, -3, np.int8), S, 7, 5, (3, 3), pads=[1, 1, 1, 1])
    return g, g.quantised(y, T, 5, np.int8)


def conv_float_bias():
    g = Qdq((4, 6, 6))
    weight = RANDOM.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8)
    w = g.integers("w", weight, np.float32(1 / 700))  # one scale for all channels
    b = g.constant("b", RANDOM.standard_normal(6).astype(np.float32))
    return g, g.quantised(g.node("Conv", [g.quantised("x", S, 128), w, b], "c", kernel_shape=[3, 3]), T, 128)


def conv_uint8_weights():
    g = Qdq((4, 6, 6))
    weight = RANDOM.integers(1, 256, (6, 4, 3, 3)).astype(np.uint8)
    w = g.integers("w", weight, np.full(6, 1 / 700), zero=np.full(6, 128, np.uint8))
    return g, g.quantised(g.node("Conv", [g.quantised("x", S, 128), w], "c", kernel_shape=[3, 3]), T, 128)


def conv_then(operator, inner=None, alike=True, out=7, shape=(5, 12, 13), **attributes):
    """Conv -> table -> pooling, as quantise.py writes it; the pooling goes into the Conv."""
    g = Qdq(shape)
    y = g.quantised(g.conv("c", g.quantised("x", S, 128), S, out, shape[0], (3, 3), pads=[1, 1, 1, 1]), T, 128)
    scale, zero = T, 128
    if inner:
        scale, zero = 1 / 255, 0
        y = g.quantised(g.node(inner, [y], "t"), scale, zero)
    if operator:
        y = g.node(operator, [y], "p", **attributes)
        scale = scale if alike else scale * 0.83  # not 0.8: sums of four numbers would meet ties
        y = g.quantised(y, scale, zero)
    return g, y


def gemm(k=37, n=21, bias=True, zeros=(128, 128), then=None):
    g = Qdq((k,))
    y = g.gemm("c", g.quantised("x", S, zeros[0]), S, k, n, bias)
    if then:
        y = g.node(then, [y], "a")
    return g, g.quantised(y, T, zeros[1])


def matmul():
    g = Qdq((7, 13))
    weight = RANDOM.integers(-127, 128, (13, 18)).astype(np.int8)
    w = g.integers("w", weight, RANDOM.uniform(1, 3, 18) / 1000, axis=1)
    return g, g.quantised(g.node("MatMul", [g.quantised("x", S, 128), w], "c"), T, 128)


def flattened():
    """The rows of a Gemm's weights follow the layout of what is flattened."""
    g, y = conv_then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    y = g.quantised(g.node("Flatten", [y], "f"), T, 128)
    return g, g.quantised(g.gemm("d", y, T, 7 * 6 * 6, 10), 1 / 20, 128)


def unary(operator, zeros=(128, 0), scales=(S, 1 / 255), constants=(), **attributes):
    g = Qdq((3, 5, 23))
    names = [g.constant(f"k{i}", np.float32(value)) for i, value in enumerate(constants)]
    y = g.node(operator, [g.quantised("x", scales[0], zeros[0]), *names], "t", **attributes)
    return g, g.quantised(y, scales[1], zeros[1])


def pool(operator, shape=(5, 9, 11), scales=(S, S), **attributes):
    g = Qdq(shape)
    return g, g.quantised(g.node(operator, [g.quantised("x", scales[0], 128)], "p", **attributes), scales[1], 128)


def pair(operator, then=None, zeros=(128, 130, 120)):
    g = Qdq((5, 9, 11))
    a = g.quantised(g.conv("c", g.quantised("x", S, 128), S, 7, 5, (3, 3), pads=[1, 1, 1, 1]), T, zeros[0])
    b = g.quantised(g.conv("d", "x_dq", S, 7, 5, (1, 1)), T * 1.3, zeros[1])
    y = g.node(operator, [a, b], "s")
    if then:
        y = g.node(then, [y], "a")
    y = g.quantised(y, T * 1.7, zeros[2])
    return g, g.quantised(g.conv("e", y, T * 1.7, 6, 7, (3, 3), pads=[1, 1, 1, 1]), T, 128)


def concat(scales=(T, T * 1.3)):
    g = Qdq((5, 9, 11))
    a = g.quantised(g.conv("c", g.quantised("x", S, 128), S, 7, 5, (3, 3), pads=[1, 1, 1, 1]), scales[0], 128)
    b = g.quantised(g.conv("d", "x_dq", S, 6, 5, (1, 1)), scales[1], 128)
    y = g.quantised(g.node("Concat", [a, b], "j", axis=1), T, 128)
    return g, g.quantised(g.conv("e", y, T, 6, 13, (3, 3), pads=[1, 1, 1, 1]), T, 128)


def moved(operator, **attributes):
    g = Qdq((5, 9, 11))
    y = g.quantised(g.node(operator, [g.quantised("x", S, 128)], "m", **attributes), S, 128)
    return g, y


def regridded():
    g = Qdq((3, 5, 7))
    return g, g.quantised(g.quantised("x", S, 128), T, 100)


AROUND = {"pads": [1, 1, 1, 1]}
HALVES = {"kernel_shape": [2, 2], "strides": [2, 2]}
# By name: the graph, and how far a number may be off in quanta with ONNX Runtime's optimisations.
CASES = {
    "conv": (conv, 0),
    "conv, padding unlike on each side": (lambda: conv(pads=[2, 0, 1, 3]), 0),
    "conv, strides": (lambda: conv(strides=[2, 3], **AROUND), 0),
    "conv, dilations": (lambda: conv(dilations=[2, 3], pads=[2, 3, 2, 3]), 0),
    "conv, many channels": (lambda: conv(shape=(20, 8, 8), out=70, **AROUND), 0),
    "conv, groups": (lambda: conv(shape=(6, 8, 8), out=9, group=3, **AROUND), 0),
    "conv, large groups": (lambda: conv(shape=(8, 8, 8), out=40, group=2, **AROUND), 0),
    "conv, depthwise": (lambda: conv(shape=(35, 8, 8), out=35, group=35, **AROUND), 0),
    "conv, no bias": (lambda: conv(bias=False), 0),
    "conv, 1 x 1": (lambda: conv(kernel=(1, 1)), 0),
    "conv, one channel": (lambda: conv(shape=(1, 28, 28), out=6, kernel=(5, 5), pads=[2, 2, 2, 2]), 0),
    "conv, one channel, strides": (lambda: conv(shape=(1, 30, 41), out=9, kernel=(7, 6), strides=[2, 3], **AROUND), 0),
    "conv, one channel, long strides": (lambda: conv(shape=(1, 30, 90), out=3, kernel=(3, 3), strides=[1, 5]), 0),
    "conv, relu": (lambda: conv(zeros=(0, 0), then=["Relu"], **AROUND), 0),
    "conv, relu that clamps": (lambda: conv(then=["Relu"], **AROUND), 1),
    "conv, int8 activations": (conv_int8, 0),
    "conv, float bias": (conv_float_bias, 1),
    "conv, uint8 weights": (conv_uint8_weights, 0),
    "conv, max pool": (lambda: conv_then("MaxPool", **HALVES), 0),
    "conv, sigmoid": (lambda: conv_then(None, "Sigmoid"), 1),
    "conv, sigmoid, average pool": (lambda: conv_then("AveragePool", "Sigmoid", alike=False, **HALVES), 1),
    "conv, sigmoid, max pool": (lambda: conv_then("MaxPool", "Sigmoid", **HALVES), 1),
    "conv, average pool": (lambda: conv_then("AveragePool", alike=False, **HALVES), 1),
    "conv, 3 x 3 average pool": (
        lambda: conv_then("AveragePool", "Sigmoid", alike=False, kernel_shape=[3, 3], strides=[3, 3]), 1,
    ),
    "conv of one channel, sigmoid, average pool": (
        lambda: conv_then("AveragePool", "Sigmoid", alike=False, out=6, shape=(1, 28, 28), **HALVES), 1,
    ),
    "conv of one channel, max pool": (lambda: conv_then("MaxPool", out=12, shape=(1, 40, 40), **HALVES), 0),
    "gemm": (gemm, 0),
    "gemm, no bias, 130 columns": (lambda: gemm(k=64, n=130, bias=False, zeros=(0, 7)), 0),
    "gemm, relu": (lambda: gemm(zeros=(3, 0), then="Relu"), 0),
    "matmul of rows": (matmul, 0),
    "flatten, gemm": (flattened, 0),
    "sigmoid": (lambda: unary("Sigmoid"), 1),
    "tanh": (lambda: unary("Tanh", zeros=(128, 128), scales=(S, 1 / 127)), 1),
    "leaky relu": (lambda: unary("LeakyRelu", zeros=(128, 100), scales=(S, S), alpha=0.1), 1),
    "relu, another grid": (lambda: unary("Relu", scales=(S, S / 2)), 1),
    "clip": (lambda: unary("Clip", zeros=(128, 128), scales=(S, S), constants=(-0.7, 1.2)), 1),
    "max pool": (lambda: pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 0),
    "max pool, dilations, 70 channels": (
        lambda: pool("MaxPool", shape=(70, 9, 9), kernel_shape=[2, 3], dilations=[3, 2]), 0,
    ),
    "average pool": (
        lambda: pool("AveragePool", scales=(S, T), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 1,
    ),
    "average pool, padding counts": (
        lambda: pool("AveragePool", kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1), 1,
    ),
    "global average pool": (lambda: pool("GlobalAveragePool", scales=(S, S / 3)), 1),
    "add": (lambda: pair("Add"), 1),
    "add, relu": (lambda: pair("Add", "Relu", zeros=(128, 130, 0)), 1),
    "mul": (lambda: pair("Mul"), 1),
    "concat": (concat, 1),
    "concat, one grid": (lambda: concat(scales=(T, T)), 0),
    "transpose": (lambda: moved("Transpose", perm=[0, 2, 3, 1]), 0),
    "another grid": (regridded, 255),  # ONNX Runtime drops the first one
}  # fmt: skip


def made(name):
    """The graph of a case, its batch and the scale of its output; skips what the reader does not take."""
    g, y = CASES[name][0]()
    model = g.model(y)
    for node in model.graph.node:
        if node.op_type not in OPERATORS:
            pytest.skip(f"the C format has no {node.op_type}")
    scale = next(t for t in g.constants if t.name == y.removesuffix("_dq") + "_s")
    return model, g.batch_of(), np.frombuffer(scale.raw_data, np.float32)[0]


@pytest.mark.parametrize("target", ["generic", pytest.param("x86-64-v3", marks=pytest.mark.slow), "x86-64-v4"])
@pytest.mark.parametrize("name", CASES)
def test_pattern_equals_onnxruntime(tmp_path, name, target):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    model, batch, scale = made(name)
    found = build(tmp_path, model, target).run(batch)
    allowed = CASES[name][1]
    optimised = quanta(found, outputs_of(model, batch, optimised=True), scale)
    assert np.abs(optimised).max() <= allowed
    assert allowed > 1 or np.count_nonzero(optimised) <= optimised.size * 0.02
    plain = quanta(found, outputs_of(model, batch, optimised=False), scale)
    assert np.abs(plain).max() <= 1
    assert np.count_nonzero(plain) <= plain.size * 0.02


@pytest.mark.parametrize("name", CASES)
def test_every_operator_of_a_pattern_is_one_of_integers(name):
    network = prepared(network_from_onnx(made(name)[0], "net"))
    floats = [o for o in network.operations if network.tensors[o.output].dtype == "float32"]
    assert [o.operator for o in floats] == ["DequantizeLinear"]  # the last one
    assert network.notes == ()


@pytest.mark.parametrize("target", ["generic", "x86-64-v4"])
@pytest.mark.parametrize("channels", [1, 5])
def test_a_fixed_batch_is_computed_whole(tmp_path, channels, target):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    g = Qdq((channels, 28, 28), batch=3)
    y = g.quantised(g.conv("c", g.quantised("x", S, 128), S, 6, channels, (3, 3), pads=[1, 1, 1, 1]), T, 128)
    y = g.quantised(g.node("MaxPool", [y], "p", kernel_shape=[3, 3], strides=[5, 5]), T, 128)
    y = g.quantised(g.node("AveragePool", [y], "q", kernel_shape=[2, 2]), T, 128)
    y = g.quantised(g.node("Flatten", [y], "f"), T, 128)
    model = g.model(g.quantised(g.gemm("d", y, T, 6 * 5 * 5, 10), 1 / 20, 128))
    batch = g.batch_of()
    steps = quanta(build(tmp_path, model, target).run(batch), outputs_of(model, batch, optimised=False), 1 / 20)
    assert np.abs(steps).max() <= 1
    assert np.count_nonzero(steps) <= 3  # averages of four on their own grid meet ties
