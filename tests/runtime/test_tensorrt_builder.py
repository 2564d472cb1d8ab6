"""The builder, on the TensorRT-RTX that is installed, which builds without a GPU; other products are simulated."""

import importlib.util
import json
import os
import signal
import types

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeline.errors import ArtefactError, InputError, MissingCapabilityError, ResourceError, UnknownNameError
from edgeline.manifest import BatchRange
from edgeline.tensorrt import builder, products
from edgeline.tensorrt.builder import BuildSettings, build_engine
from edgeline.tensorrt.inspector import node_precisions
from edgeline.tensorrt.plan_header import HEADER_BYTES, read_plan_header
from edgeline.tensorrt.products import PRODUCTS, load_product, product_state

BATCH = BatchRange(1, 4, 16)

needs_rtx = pytest.mark.skipif(
    product_state("trt-rtx").module is None, reason=f"TensorRT-RTX: {product_state('trt-rtx').why}"
)


def graph(*nodes, output_shape=("n", 2), weights=()):
    made = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(output_shape))],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def small():
    """A convolution, a ReLU and a mean over the picture."""
    weight = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    return graph(
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("ReduceMean", ["r", "axes"], ["y"], "mean", keepdims=0),
        weights=[("w", weight), ("axes", np.array([2, 3]))],
    )


@pytest.fixture(scope="module")
def rtx():
    return load_product("trt-rtx")


@needs_rtx
def test_a_plan_and_its_header(rtx):
    built = build_engine(rtx, small(), BuildSettings("fp32", BATCH))
    header = read_plan_header(built.plan[:HEADER_BYTES], "plan")
    assert (header.product, header.version) == ("TensorRT-RTX", rtx.version)
    assert header.total_bytes == len(built.plan)
    assert header.targets == ("8.0", "8.6", "8.9", "12.0", "12.1")  # its default: Ampere and later
    assert built.strongly_typed


@needs_rtx
def test_the_same_graph_gives_the_same_plan(rtx):
    first, second = (build_engine(rtx, small(), BuildSettings("fp32", BATCH)).plan for _ in range(2))
    assert first == second


@needs_rtx
@pytest.mark.parametrize("targets", [("8.9",), ("8.6", "12.0"), ("12.1",)])
def test_targets_reach_the_plan(rtx, targets):
    built = build_engine(rtx, small(), BuildSettings("fp32", BATCH, targets))
    assert read_plan_header(built.plan[:HEADER_BYTES], "plan").targets == targets


@needs_rtx
def test_a_target_that_the_product_lacks(rtx):
    with pytest.raises(InputError, match=r"has no compute capability 9\.0; it has 7\.5, 8\.0, .*12\.1"):
        build_engine(rtx, small(), BuildSettings("fp32", BATCH, ("8.9", "9.0")))


@needs_rtx
def test_an_operator_that_the_parser_lacks_is_named_with_its_node(rtx):
    refused = graph(helper.make_node("Det", ["x"], ["y"], "the_determinant"), output_shape=("n", 3))
    with pytest.raises(InputError, match=r"refuses the graph: .*\(node 'the_determinant', Det\)"):
        build_engine(rtx, refused, BuildSettings("fp32", BATCH))


@needs_rtx
def test_int32_biases_are_refused_in_the_parsers_words(rtx):
    """Why the graphs for TensorRT keep their biases in float."""
    model = graph(
        helper.make_node("DequantizeLinear", ["b", "s"], ["d"], "bias"),
        helper.make_node("Conv", ["x", "w", "d"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("ReduceMean", ["c", "axes"], ["y"], keepdims=0),
        weights=[("w", np.ones((2, 3, 3, 3), np.float32)), ("b", np.ones(2, np.int32)), ("s", np.float32(1)),
                 ("axes", np.array([2, 3]))],
    )  # fmt: skip
    with pytest.raises(InputError, match="Int32"):
        build_engine(rtx, model, BuildSettings("int8", BATCH))


@needs_rtx
@pytest.mark.parametrize("damaged", [b"", b"not a graph", small()[:100]])
def test_what_is_no_graph(rtx, damaged):
    with pytest.raises(InputError, match="TensorRT-RTX"):
        build_engine(rtx, damaged, BuildSettings("fp32", BATCH))


@needs_rtx
def test_a_fixed_batch_needs_no_profile(rtx):
    made = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 3])],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert build_engine(rtx, model.SerializeToString(), BuildSettings("fp32", BatchRange(4, 4, 4))).plan


# --- the products -----------------------------------------------------------------------------------------------------


def test_type_stubs_alone_are_no_installation(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    if importlib.util.find_spec("tensorrt").origin is not None:
        pytest.skip("TensorRT itself is installed here")
    assert product_state("trt").module is None
    with pytest.raises(MissingCapabilityError, match=r"TensorRT is not installed: pip install 'edgeline\[trt\]'"):
        load_product("trt")


@needs_rtx
@pytest.mark.parametrize("version", ["1.6.0.33", "1.8.1.116", None])
def test_two_halves_that_do_not_fit(monkeypatch, version):
    monkeypatch.setattr(products, "_version", lambda module: version)
    with pytest.raises(MissingCapabilityError, match="the two halves of TensorRT-RTX do not fit: bindings .*library 1"):
        load_product("trt-rtx")


@needs_rtx
def test_bindings_without_their_library(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        products.importlib.util, "find_spec", lambda name: None if name == products._RTX_LIBRARY else real(name)
    )
    with pytest.raises(MissingCapabilityError, match="bindings are installed, its library .* is not: pip install"):
        load_product("trt-rtx")


def test_an_unknown_product():
    with pytest.raises(UnknownNameError, match="unknown TensorRT format 'tflite'"):
        load_product("tflite")


@needs_rtx
def test_there_is_one_log_for_a_module(rtx):
    assert load_product("trt-rtx").log is rtx.log
    mark = rtx.log.mark()
    with pytest.raises(InputError):
        build_engine(rtx, b"not a graph", BuildSettings("fp32", BATCH))
    assert rtx.log.errors_since(rtx.log.mark()) == []
    assert isinstance(rtx.log.errors_since(mark), list)


# --- headers ----------------------------------------------------------------------------------------------------------


def header_bytes(tag=0x74727466, version=(10, 3, 0, 30), layout=0, total=1000, mask=0):
    return (
        tag.to_bytes(4, "little") + layout.to_bytes(4, "little") + bytes(8) + total.to_bytes(8, "little")
        + bytes(version) + bytes(4) + mask.to_bytes(4, "little") + bytes(28)
    )  # fmt: skip


def test_a_tensorrt_header():
    header = read_plan_header(header_bytes(), "model.plan")
    assert (header.product, header.version, header.total_bytes, header.targets) == ("TensorRT", "10.3.0.30", 1000, ())


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"short", "model.plan is no engine: 5 bytes"),
        (header_bytes(tag=0x12345678), "is no TensorRT engine: it begins with"),
        (header_bytes(layout=7), "has the plan layout 7"),
    ],
)
def test_what_is_no_plan(head, words):
    with pytest.raises(ArtefactError, match=words):
        read_plan_header(head, "model.plan")


# --- the inspector ----------------------------------------------------------------------------------------------------


def layer(nodes, kind):
    metadata = "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes)
    return {"Name": "+".join(nodes), "Metadata": metadata, "Inputs": [{"Name": "i", "Format/Datatype": kind}]}


def test_an_engine_tells_the_precision_of_its_nodes():
    description = json.dumps({"Layers": [
        layer(["conv", "relu"], "Int8 NCHW row major"), layer(["gemm"], "Half"),
        layer(["last"], "Row major linear FP32"), layer(["a", "b"], "Int8"), "a layer by name alone",
    ]})  # fmt: skip
    found = node_precisions(description, frozenset({"conv", "gemm", "last", "a", "b", "lost"}))
    assert found == {
        "conv": "int8", "gemm": "fp16", "last": "fp32", "a": "unknown", "b": "unknown", "lost": "unknown",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "precision"),
    [
        ({"Inputs": [{"DataType": "INT8", "Format": "kLINEAR"}]}, "int8"),
        ({"Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}],
          "TacticName": "sm80_xmma_fprop_i8i8_i8i32_f32_n"},
         "int8"),
        ({"Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}], "Weights": {"Type": "Half", "Count": 9}},
         "fp16"),
        ({"Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}], "Weights": {"Type": "Int8", "Count": 9}},
         "unknown"),
        ({"TacticName": "sm86_xmma_gemm_f16f16_f16f16_f16_tn"}, "fp16"),
        ({}, "unknown"),
    ],
)  # fmt: skip
def test_where_a_layers_type_is_read_from(told, precision):
    """Weights in int8 alone are no int8 arithmetic."""
    description = json.dumps({"Layers": [{"Name": "l", "Metadata": "[ONNX Layer: conv]", **told}]})
    assert node_precisions(description, frozenset({"conv"})) == {"conv": precision}


# --- other products, simulated ----------------------------------------------------------------------------------------


def test_without_strong_typing_the_flags_carry_the_precision(monkeypatch):
    """TensorRT 10.3 fails on some strongly typed networks; then INT8 and FP16 are allowed by flags instead."""
    seen = []

    def build(product, model, settings, *, strongly_typed):
        seen.append(strongly_typed)
        if strongly_typed:
            raise builder._RefusedBuildError("no strong typing here")
        return b"plan"

    monkeypatch.setattr("edgeline.tensorrt.builder._build", build)
    log = types.SimpleNamespace(mark=lambda: 0, warnings_since=lambda mark: [])
    old = products.Product(
        PRODUCTS["trt"], types.SimpleNamespace(BuilderFlag=types.SimpleNamespace(FP16=0)), "10.3.0", log
    )
    built = build_engine(old, b"graph", BuildSettings("int8+fp16", BATCH))
    assert (built.plan, built.strongly_typed, seen) == (b"plan", False, [True, False])
    new = products.Product(PRODUCTS["trt"], types.SimpleNamespace(BuilderFlag=types.SimpleNamespace()), "11.4", log)
    with pytest.raises(InputError, match="no strong typing here"):
        build_engine(new, b"graph", BuildSettings("int8+fp16", BATCH))


def test_what_the_parser_refuses_is_not_tried_again(monkeypatch):
    def build(product, model, settings, *, strongly_typed):
        assert strongly_typed
        raise InputError("refuses the graph")

    monkeypatch.setattr("edgeline.tensorrt.builder._build", build)
    log = types.SimpleNamespace(mark=lambda: 0, warnings_since=lambda mark: [])
    old = products.Product(
        PRODUCTS["trt"], types.SimpleNamespace(BuilderFlag=types.SimpleNamespace(FP16=0)), "10.3.0", log
    )
    with pytest.raises(InputError, match="refuses the graph"):
        build_engine(old, b"graph", BuildSettings("int8", BATCH))


# --- interrupts -------------------------------------------------------------------------------------------------------


@needs_rtx
def test_an_interrupt_during_a_build_ends_it(rtx, monkeypatch):
    """It comes while TensorRT-RTX works. What is raised in a callback is swallowed, so it must come out afterwards."""
    real, steps = builder._stopper, []

    def stopper(module, came):
        os.kill(os.getpid(), signal.SIGINT)
        made = real(module, came)
        step = type(made).step_complete
        monkeypatch.setattr(type(made), "step_complete", lambda self, *a: steps.append(step(self, *a)) or steps[-1])
        return made

    monkeypatch.setattr(builder, "_stopper", stopper)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(rtx, small(), BuildSettings("fp32", BATCH))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps
    assert not any(steps)  # each told TensorRT-RTX to stop


@needs_rtx
def test_memory_that_is_short_is_a_resource_error(rtx, monkeypatch):
    words = ["IBuilder::buildSerializedNetwork: Error Code 2: OutOfMemory (Requested size was 1 bytes.)"]
    monkeypatch.setattr(rtx.log, "errors_since", lambda mark: words)
    monkeypatch.setattr(rtx.module.Builder, "build_serialized_network", lambda self, *a: None)
    with pytest.raises(ResourceError, match="runs out of memory while it builds"):
        build_engine(rtx, small(), BuildSettings("fp32", BATCH))


@needs_rtx
def test_a_batch_range_that_it_does_not_take(rtx):
    """The bindings raise RuntimeError where TensorRT returns false."""
    with pytest.raises(InputError, match="does not take the batch range 8:1:64"):
        build_engine(rtx, small(), BuildSettings("fp32", BatchRange(8, 1, 64)))
