"""Random graphs of what CNNs are made of, as a hypothesis strategy: float32 [N, C, (H,) W] -> one output."""

from __future__ import annotations

import math

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeline_export.graph import IR_VERSION, OPSET

ACTIVATIONS = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.1}, "Sigmoid": {}, "Tanh": {}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "HardSwish": {}, "Elu": {"alpha": 0.7}, "Abs": {}, "Neg": {},
}  # fmt: skip
LARGEST = 40_000  # numbers of a tensor: the graphs stay quick


class Builder:
    """Nodes, initializers, and the shapes of the tensors made so far, with a batch of 1."""

    def __init__(self, draw, shape):
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes, self.weights = [], []
        self.shapes = {"x": shape}

    def choice(self, *values):
        return self.draw(st.sampled_from(values))

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def constant(self, shape, low=None, high=None):
        """Numbers between two bounds, or normal ones; returns the name."""
        values = self.random.standard_normal(shape) if low is None else self.random.uniform(low, high, shape)
        return self.initializer(values.astype(np.float32))

    def initializer(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, operator, inputs, shape, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.shapes[name] = tuple(shape)
        return name

    def model(self, output, batch):
        inferred = onnx.shape_inference.infer_shapes
        ends = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *self.shapes["x"][1:]]),
            helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, *self.shapes[output][1:]]),
        ]
        graph = helper.make_graph(self.nodes, "random", ends[:1], ends[1:], self.weights)
        return inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION))


@st.composite
def graphs(draw):
    """A model with a free batch, or with one of 2 in the graph."""
    dimensions = draw(st.sampled_from([2, 2, 2, 1]))
    sizes = [draw(st.integers(4, 11)) for _ in range(dimensions)]
    builder = Builder(draw, (1, draw(st.integers(1, 5)), *sizes))
    x = "x"
    for _ in range(draw(st.integers(1, 7))):
        x = draw(st.sampled_from(STEPS))(builder, x)
    x = draw(st.sampled_from(HEADS))(builder, x)
    if not builder.nodes:
        x = activation(builder, x)
    return builder.model(x, draw(st.sampled_from(["N", "N", "N", 2])))


def conv(b, x):
    n, c, *sizes = b.shapes[x]
    group = b.choice(1, 1, c, *(g for g in (2, 3) if c % g == 0))
    out = group * b.number(1, 3) if b.choice(True, False) else math.lcm(group, b.choice(8, 17, 20))
    out = c if group == c and b.choice(True, False) else out
    kernel, strides, dilations, pads, results = _window(b, sizes, 5)
    weight = b.initializer((b.random.standard_normal((out, c // group, *kernel)) /
                            np.sqrt(c / group * math.prod(kernel))).astype(np.float32))  # fmt: skip
    inputs = [x, weight, *([b.constant((out,))] if b.choice(True, False) else [])]
    if math.prod(results) * out > LARGEST:
        return x
    auto = b.choice("NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if auto.startswith("SAME") and dilations == [1] * len(sizes):
        results = [-(-size // stride) for size, stride in zip(sizes, strides, strict=False)]
        return b.node("Conv", inputs, (n, out, *results), auto_pad=auto, strides=strides, group=group)
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    return b.node("Conv", inputs, (n, out, *results), **attributes)


def pool(b, x):
    n, c, *sizes = b.shapes[x]
    operator = b.choice("MaxPool", "AveragePool")
    kernel, strides, dilations, pads, results = _window(b, sizes, 3)
    if b.choice(True, False):  # windows beside each other
        kernel = [min(2, size) for size in sizes]
        strides, dilations, pads = kernel, [1] * len(sizes), [0] * (2 * len(sizes))
        results = [size // k for size, k in zip(sizes, kernel, strict=False)]
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    if b.choice(True, False):
        with_rest = [
            -(-(size + before + behind - (k - 1) * dilation - 1) // stride) + 1
            for size, before, behind, k, dilation, stride in zip(
                sizes, pads, pads[len(sizes) :], kernel, dilations, strides, strict=False
            )
        ]
        # Where the last window would begin behind the input, engines do not agree.
        if all((count - 1) * s < size + p for count, s, size, p in zip(with_rest, strides, sizes, pads, strict=False)):
            attributes["ceil_mode"], results = 1, with_rest
    windows = zip(sizes, results, kernel, strides, dilations, pads, strict=False)
    if any(_outside(*window) for window in windows):
        return x
    if operator == "AveragePool":
        attributes["count_include_pad"] = b.number(0, 1)
    return b.node(operator, [x], (n, c, *results), **attributes)


def _outside(size, count, kernel, stride, dilation, pad):
    """Whether one of the windows has nothing of the input."""
    return any(all(not 0 <= i * stride - pad + k * dilation < size for k in range(kernel)) for i in range(count))


def _window(b, sizes, largest):
    """kernel, strides, dilations, pads, and the sizes of what comes out."""
    kernel, strides, dilations, begins, ends, results = [], [], [], [], [], []
    for size in sizes:
        k, stride, dilation = b.number(1, min(largest, size)), b.number(1, 2), b.choice(1, 1, 2)
        dilation = dilation if (k - 1) * dilation < size else 1
        begin, end = (b.choice(0, b.number(0, k - 1)) for _ in range(2))
        for values, value in zip(
            (kernel, strides, dilations, begins, ends), (k, stride, dilation, begin, end), strict=False
        ):
            values.append(value)
        results.append((size + begin + end - (k - 1) * dilation - 1) // stride + 1)
    return kernel, strides, dilations, [*begins, *ends], results


def activation(b, x):
    operator = b.choice(*ACTIVATIONS, "Clip")
    if operator == "Clip":
        low, high = (b.initializer(np.float32(v)) for v in (-0.4, 1.2))
        inputs = b.choice([x, low, high], [x, low], [x, "", high])
        return b.node("Clip", inputs, b.shapes[x])
    return b.node(operator, [x], b.shapes[x], **ACTIVATIONS[operator])


def with_constant(b, x):
    """Add, Sub, Mul, Div and others with a constant that may vary along any of the dimensions, on either side."""
    shape = b.shapes[x]
    given = [size if b.choice(True, False) else 1 for size in shape[1:]]
    given = b.choice([], [shape[1], *[1] * (len(shape) - 2)], given, given[-1:])
    operator = b.choice("Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu")
    constant = b.constant(given, 0.5, 2.0)
    inputs = [x, constant] if operator in ("PRelu", "Div") or b.choice(True, False) else [constant, x]
    return b.node(operator, inputs, shape)


def normalised(b, x):
    c = b.shapes[x][1]
    inputs = [b.constant((c,), 0.5, 1.5), b.constant((c,)), b.constant((c,)), b.constant((c,), 0.5, 2)]
    return b.node("BatchNormalization", [x, *inputs], b.shapes[x], epsilon=1e-3)


def residual(b, x):
    """Arithmetic with a tensor from before, of the same shape or broadcast."""
    shape = b.shapes[x]
    fits = [name for name, other in b.shapes.items()
            if len(other) == len(shape) and all(o in (1, s) for o, s in zip(other, shape, strict=False))]  # fmt: skip
    return b.node(b.choice("Add", "Add", "Mul", "Sub"), [x, b.choice(*fits)], shape)


def gated(b, x):
    """x times what a Conv of its means says of each channel."""
    n, c, *sizes = b.shapes[x]
    ones = [1] * len(sizes)
    mean = b.node("GlobalAveragePool", [x], (n, c, *ones))
    weight = b.constant((c, c, *ones), -0.5, 0.5)
    gate = b.node("Sigmoid", [b.node("Conv", [mean, weight], (n, c, *ones))], (n, c, *ones))
    return b.node("Mul", [x, gate], b.shapes[x])


def concat(b, x):
    shape = b.shapes[x]
    axis = b.number(1, len(shape) - 1)
    fits = [name for name, other in b.shapes.items() if len(other) == len(shape) and
            all(o == s for i, (o, s) in enumerate(zip(other, shape, strict=False)) if i != axis)]  # fmt: skip
    names = [x, *(b.choice(*fits) for _ in range(b.number(1, 2)))]
    result = [*shape[:axis], sum(b.shapes[name][axis] for name in names), *shape[axis + 1 :]]
    return x if math.prod(result) > LARGEST else b.node("Concat", names, result, axis=axis)


def padded(b, x):
    shape = b.shapes[x]
    mode = b.choice("constant", "constant", "edge", "reflect", "wrap")
    most = 2 if mode == "constant" else min(2, min(shape[2:]) - 1)
    pads = [(0, 0), (0, 0), *((b.number(0, most), b.number(0, most)) for _ in shape[2:])]
    if mode == "constant" and b.choice(True, False):
        pads[-1] = (-1 if shape[-1] > 2 else 0, pads[-1][1])
    inputs = [x, b.initializer(np.array([p[0] for p in pads] + [p[1] for p in pads]))]
    inputs += [b.initializer(np.float32(b.choice(0, 0.5)))] if mode == "constant" else []
    return b.node("Pad", inputs, [size + sum(pad) for size, pad in zip(shape, pads, strict=False)], mode=mode)


def transposed(b, x):
    perm = [0, *b.draw(st.permutations(range(1, len(b.shapes[x]))))]
    return b.node("Transpose", [x], [b.shapes[x][i] for i in perm], perm=perm)


def sliced(b, x):
    axis = b.number(1, len(b.shapes[x]) - 1)
    size = b.shapes[x][axis]
    start, step = b.number(0, (size - 1) // 2), b.choice(1, 2, -1)
    places = range(size)[start::step]
    end = 2**31 if step > 0 else -(2**31)
    inputs = [b.initializer(np.array([value])) for value in (start, end, axis, step)]
    return b.node("Slice", [x, *inputs], [len(places) if i == axis else s for i, s in enumerate(b.shapes[x])])


def softmax(b, x):
    return b.node("Softmax", [x], b.shapes[x], axis=b.choice(-1, *range(1, len(b.shapes[x]))))


def flat(b, x):
    shape = b.shapes[x]
    size = math.prod(shape[1:])
    if b.choice(True, False):
        return b.node("Flatten", [x], (shape[0], size), axis=1)
    return b.node("Reshape", [x, b.initializer(np.array([0, -1]))], (shape[0], size))


def layers(b, x):
    """Flatten and one or two layers, as Gemm or as MatMul and Add."""
    if len(b.shapes[x]) > 2:
        x = flat(b, x)
    for _ in range(b.number(1, 2)):
        n, k = b.shapes[x]
        out = b.choice(3, 10, 33)
        weight = (b.random.standard_normal((k, out)) / np.sqrt(k)).astype(np.float32)
        if b.choice(True, False):
            x = b.node("Gemm", [x, b.initializer(weight.T.copy()), b.constant((out,))], (n, out), transB=1,
                       alpha=b.choice(1.0, 0.5), beta=b.choice(1.0, 2.0))  # fmt: skip
        else:
            x = b.node("MatMul", [x, b.initializer(weight)], (n, out))
            x = b.node("Add", [x, b.constant((out,))], (n, out))
        x = activation(b, x) if b.choice(True, False) else x
    return softmax(b, x) if b.choice(True, False) else x


def averaged(b, x):
    """One number a channel, pooled or reduced, then layers."""
    n, c, *sizes = b.shapes[x]
    operator = b.choice("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum")
    if operator.startswith("Global"):
        return layers(b, b.node(operator, [x], (n, c, *[1] * len(sizes))))
    axes = b.initializer(np.arange(2, 2 + len(sizes)))
    return layers(b, b.node(operator, [x, axes], (n, c), keepdims=0))


def linear(b, x):
    """MatMul along the last dimension, which other dimensions are rows of."""
    *rows, k = b.shapes[x]
    out = b.number(1, 20)
    weight = (b.random.standard_normal((k, out)) / np.sqrt(k)).astype(np.float32)
    return b.node("MatMul", [x, b.initializer(weight)], (*rows, out))


def attention(b, x):
    """MatMul of a tensor with itself, transposed."""
    shape = b.shapes[x]
    perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    other = b.node("Transpose", [x], [shape[i] for i in perm], perm=perm)
    return b.node(
        "Softmax", [b.node("MatMul", [x, other], (*shape[:-1], shape[-2]))], (*shape[:-1], shape[-2]), axis=-1
    )


def unchanged(_, x):
    return x


STEPS = [
    conv, conv, conv, pool, pool, activation, activation, with_constant, with_constant, normalised, residual, gated,
    concat, padded, transposed, sliced, softmax, linear, attention,
]  # fmt: skip
HEADS = [unchanged, flat, layers, layers, averaged]
