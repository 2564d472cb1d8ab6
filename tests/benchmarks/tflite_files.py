"""LiteRT models written by hand, for the tests: the converter needs an environment of its own."""

import flatbuffers
import numpy as np


def write_linear(path, weights, bias, input_shape):
    """Write logits = weights @ x + bias as one FULLY_CONNECTED; float32 [classes, inputs], [classes]."""
    from ai_edge_litert import schema_py_generated as schema

    batch, classes = input_shape[0], len(bias)

    def tensor(name, shape, buffer):
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, list(shape), buffer, schema.TensorType.FLOAT32
        return made

    def buffer(array):
        made = schema.BufferT()
        made.data = None if array is None else np.frombuffer(array.astype(np.float32).tobytes(), np.uint8)
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("input", input_shape, 0), tensor("weights", weights.shape, 1), tensor("bias", bias.shape, 2),
        tensor("logits", (batch, classes), 0),
    ]  # fmt: skip
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(None), buffer(weights), buffer(bias)]
    model.signatureDefs = [_signature(schema)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def _signature(schema):
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serving_default", 0
    made.inputs, made.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    made.inputs[0].name, made.inputs[0].tensorIndex = "input", 0
    made.outputs[0].name, made.outputs[0].tensorIndex = "logits", 3
    return made
