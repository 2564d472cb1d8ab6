"""Small Q/DQ graphs by hand, and ONNX Runtime's answer in quanta."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeline_export.graph import clean_graph

RANDOM = np.random.default_rng(20)
DTYPES = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "float32": TensorProto.FLOAT}


class Qdq:
    """A graph with one input, `x`, of float32 [n, ...] or of a fixed batch; nodes are added in order."""

    def __init__(self, shape, batch="n"):
        self.nodes, self.constants, self.batch, self.shape = [], [], batch, shape

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], f"node_{output}", **attributes))
        return output

    def quantised(self, name, scale, zero, dtype=np.uint8):
        """Q and DQ of a tensor; the name of what comes out."""
        self.constant(f"{name}_s", np.float32(scale)), self.constant(f"{name}_z", dtype(zero))
        self.node("QuantizeLinear", [name, f"{name}_s", f"{name}_z"], f"{name}_q")
        return self.node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], f"{name}_dq")

    def integers(self, name, values, scale, axis=0, zero=None):
        """DQ of a constant; the name of what comes out."""
        self.constant(name, values), self.constant(f"{name}_s", np.asarray(scale, np.float32))
        zero = np.zeros(np.shape(scale), values.dtype) if zero is None else zero
        self.constant(f"{name}_z", zero)
        return self.node("DequantizeLinear", [name, f"{name}_s", f"{name}_z"], f"{name}_dq", axis=axis)

    def conv(self, name, x, x_scale, out, per_group, kernel, bias=True, **attributes):
        """A Conv with random int8 weights [out, per_group, *kernel]; its name. The scales fit x in -1 to 1 or so."""
        weight = RANDOM.integers(-127, 128, (out, per_group, *kernel)).astype(np.int8)
        scale = RANDOM.uniform(0.5, 1.5, out).astype(np.float32) / 127 / np.sqrt(weight[0].size)
        inputs = [x, self.integers(f"{name}_w", weight, scale)]
        if bias:
            levels = RANDOM.integers(-5000, 5000, out).astype(np.int32)
            inputs.append(self.integers(f"{name}_b", levels, scale * np.float32(x_scale)))
        return self.node("Conv", inputs, name, kernel_shape=kernel, **attributes)

    def gemm(self, name, x, x_scale, k, n, bias=True):
        """A Gemm with random int8 weights [n, k], transposed; its name."""
        weight = RANDOM.integers(-127, 128, (n, k)).astype(np.int8)
        scale = RANDOM.uniform(0.5, 1.5, n).astype(np.float32) / 127 / np.sqrt(k)
        inputs = [x, self.integers(f"{name}_w", weight, scale)]
        if bias:
            levels = RANDOM.integers(-5000, 5000, n).astype(np.int32)
            inputs.append(self.integers(f"{name}_b", levels, scale * np.float32(x_scale)))
        return self.node("Gemm", inputs, name, transB=1)

    def model(self, output, dtype="float32", given="float32"):
        """The graph that ends with a tensor, which is renamed to y."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = "y" if name == output else name
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", DTYPES[given], [self.batch, *self.shape])],
            [helper.make_tensor_value_info("y", DTYPES[dtype], None)], self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        return clean_graph(inferred)

    def batch_of(self, count=3):
        """Random input, rounded to 1/64, so that no number lies on the edge between two quanta by chance alone."""
        count = count if self.batch == "n" else self.batch
        return (np.rint(RANDOM.standard_normal((count, *self.shape)) * 64) / 64).astype(np.float32)


def outputs_of(model, batch, optimised):
    """What ONNX Runtime computes; optimised, it runs Q/DQ patterns as integers."""
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def quanta(found, expected, scale):
    """How many steps of `scale` each number is off by, as whole numbers."""
    steps = (found.astype(np.float64) - expected.astype(np.float64)) / scale
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    return np.rint(steps).astype(int)
